import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type PcrTable, parsePcrTable } from '#attestation'
import { outcome, pcrValue, unwrap } from './attester.ts'

const hex = pcrValue(0).toString('hex')
const bank = (members: string) => `{"sha256":{${members}}}`

describe('the table of PCR values', () => {
  test('is read with banks and PCRs in any order, spaces between, digits in any case', () => {
    const text = ` {\n"sha384" : { }, "sha256":{\t"23" : "${hex.toUpperCase()}" ,"0":"${hex}"\r\n} } `
    const table = unwrap(parsePcrTable(text))
    expect([...table.keys()]).toEqual(['sha384', 'sha256'])
    expect(table.get('sha256')).toEqual(
      new Map([
        [23, pcrValue(0)],
        [0, pcrValue(0)],
      ]),
    )
  })

  test('may be empty', () => expect(unwrap(parsePcrTable('{}')).size).toBe(0))

  const all = (size: number) => Object.fromEntries(Array.from({ length: 24 }, (_, index) => [index, 'ab'.repeat(size)]))
  test('has room for every PCR of every bank, and no more', () => {
    const whole = JSON.stringify({ sha1: all(20), sha256: all(32), sha384: all(48), sha512: all(64) }, null, 2)
    expect(outcome(parsePcrTable(whole))).toBe('OK')
    expect(outcome(parsePcrTable(whole.padEnd(16384)))).toBe('OK')
    expect(outcome(parsePcrTable(whole.padEnd(16385)))).toBe('LIMIT')
  })

  const bad: readonly (readonly [string, string])[] = [
    ['nothing', ''],
    ['no object', '[]'],
    ['null', 'null'],
    ['text after it', `${bank('')} {}`],
    ['no end', '{"sha256":{'],
    ['a bank that is no object', '{"sha256":[]}'],
    ['an unknown bank', '{"sha3-256":{}}'],
    ['a bank in capitals', '{"SHA256":{}}'],
    ['a bank twice', `{"sha256":{},"sha256":{}}`],
    ['a comma too many', bank(`"0":"${hex}",`)],
    ['a comma too few', bank(`"0":"${hex}" "1":"${hex}"`)],
    ['a PCR twice', bank(`"0":"${hex}","0":"${hex}"`)],
    ...['07', '7e0', ' 7', '+7', '-0', '24', '99', '1.0', '', '__proto__', 'constructor', '\\u0037', '７'].map(
      index => [`PCR "${index}"`, bank(`"${index}":"${hex}"`)] as const,
    ),
    ['a PCR without quotes', bank(`7:"${hex}"`)],
    ['a value that is a number', bank('"7":0')],
    ['31 bytes', bank(`"7":"${hex.slice(2)}"`)],
    ['33 bytes', bank(`"7":"${hex}00"`)],
    ['half a byte less', bank(`"7":"${hex.slice(1)}"`)],
    ['no hex', bank(`"7":"${hex.slice(1)}g"`)],
    ['an escape', bank(`"7":"${hex.slice(1)}\\u0030"`)],
    ['an empty value', bank('"7":""')],
    ['a byte order mark', `\ufeff${bank('')}`],
    ['a space that JSON does not know', bank(`\u00a0"7":"${hex}"`)],
    ['a comment', bank(`/**/"7":"${hex}"`)],
  ]
  test.each(bad)('is refused with %s', (_, text) => expect(outcome(parsePcrTable(text))).toBe('BAD_PCR_TABLE'))

  test('is what JSON says, where it is read at all', () => {
    const text = bank(`"0":"${hex}","17":"${hex}"`)
    const change = fc.record({
      at: fc.nat(text.length),
      put: fc.string({ maxLength: 2, unit: fc.constantFrom(...Array.from(' 0123456789abcdefABCDEF",:{}\\\n_')) }),
    })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 3 }), changes => {
        const mutated = changes.reduce((whole, { at, put }) => whole.slice(0, at) + put + whole.slice(at + put.length), text)
        const verdict = parsePcrTable(mutated)
        if (verdict.ok) expect(plain(verdict.value)).toEqual(JSON.parse(mutated.toLowerCase()))
        else expect(verdict.code).toBe('BAD_PCR_TABLE')
      }),
    )
  })
})

function plain(table: PcrTable): unknown {
  const banks = [...table].map(([name, values]) => [
    name,
    Object.fromEntries([...values].map(([pcr, value]) => [pcr, value.toString('hex')])),
  ])
  return Object.fromEntries(banks)
}
