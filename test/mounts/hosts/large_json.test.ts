import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseLargeJson } from '../../../mounts/hosts/large_json.ts'
import { parametersOf } from '../../../mounts/hosts/parameters.ts'

const LONG = 'A'.repeat(70_000)
const parse = (text: string) => parseLargeJson(Buffer.from(text))

/** As `JSON.parse` has it, but for long strings, which are bytes. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, Buffer.isBuffer(one) ? one.toString() : one]))
}

describe('JSON with long strings', () => {
  test('has them as bytes, and everything else as it is', () => {
    const value = { role: 'builder', ima_log: LONG, event_log: `${LONG}==`, scope: ['a', 'b'], 'quote"d': '\\"' }
    const read = parse(JSON.stringify(value)) as Record<string, unknown>
    expect(Buffer.isBuffer(read['ima_log'])).toBe(true)
    expect(Buffer.isBuffer(read['event_log'])).toBe(true)
    expect(plain(read)).toEqual(value)
  })

  test('with an escape in them has them as text', () => {
    expect(parse(`{"a": "${LONG}\\n"}`)).toEqual({ a: `${LONG}\n` })
  })

  test.each([
    ['names', `{${Array.from({ length: 120_000 }, (_, at) => `"name${at}":0`).join(',')}}`],
    ['things in a list', `{"a":[${'{},'.repeat(400_000)}{}],"b":"${LONG}"}`],
    ['short strings', `{"a":["${'A'.repeat(60_000)}"${`,"${'A'.repeat(60_000)}"`.repeat(20)}]}`],
    ['lists in lists', `{"a":${'['.repeat(600_000)}${']'.repeat(600_000)}}`],
  ])('has no more beside them than other bodies may have, so that nobody is kept waiting: %s', (_, text) => {
    expect(() => parse(text)).toThrow('the body is too large: only JSON with long strings in it may be')
    expect(() => parametersOf(undefined, Buffer.from(text))).toThrow(
      'the body is too large: only JSON with long strings in it may be',
    )
  })

  test.each([`{"a":"${'A'.repeat(4_000_000)}"}`, `{"a":"${'A\\n'.repeat(1_000_000)}","b":"${LONG}"}`])(
    'may be as long as its long strings, case %#',
    text => expect(plain(parse(text))).toEqual(JSON.parse(text)),
  )

  test.each([`"${LONG}"`, `[1, 2]`, 'null', '7'])('that is no object is what it is, case %#', text => {
    expect(typeof parse(text)).toBe(typeof JSON.parse(text))
  })

  test.each([`{"a": "${LONG}`, `{"a": "${LONG}" "b"}`, `{"${LONG}"}`, `{"a": ${LONG}}`, `{"a": "${LONG}"}}`, `{"a": "\u0001"}`])(
    'that is none is refused, case %#',
    text => expect(() => parse(text)).toThrow(SyntaxError),
  )

  test('is never another value than JSON.parse makes of it', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom(LONG, `${LONG}\\`, `${LONG}"`, `\\"${LONG}`, '"', '\\', '\\"'),
    )
    const value = fc.dictionary(text, fc.oneof(text, fc.integer(), fc.array(text, { maxLength: 3 })), { maxKeys: 5 })
    fc.assert(
      fc.property(value, fc.boolean(), (given, spaced) => {
        const written = JSON.stringify(given, undefined, spaced ? 2 : 0)
        const longKeyed = Object.keys(given).some(name => name.length > 60_000)
        const nested = Object.values(given).some(one => Array.isArray(one) && one.some(item => item.length > 60_000))
        fc.pre(!longKeyed && !nested)
        expect(plain(parse(written))).toEqual(JSON.parse(written))
      }),
      { numRuns: 300 },
    )
  })
})
