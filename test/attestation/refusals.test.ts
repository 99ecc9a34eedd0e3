import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Refusal, refusals, refusalsTable } from '#attestation'
import { outcome } from './attester.ts'
import { provocations } from './provocations.ts'

const floor = join(import.meta.dirname, '../../attestation')
const sources = readdirSync(floor, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
const codes = Object.keys(refusals) as Refusal[]

/** What the docstring of a function says that it may be refused with. */
function documented(file: string, verifier: string): Refusal[] {
  const source = readFileSync(join(floor, file), 'utf8')
  const docstring =
    new RegExp(String.raw`/\*\*((?:(?!\*/)[^])*)\*/\nexport (?:async )?function\*? ${verifier}\(`).exec(source)?.[1] ?? ''
  const returns = docstring.slice(docstring.indexOf('@returns'))
  return codes.filter(code => new RegExp(String.raw`\b${code}\b`).test(returns))
}

describe.each(Object.entries(provocations))('%s', (verifier, { file, refusals: ways }) => {
  test('is refused as its docstring says, and in no other way', () => {
    expect(Object.keys(ways).toSorted()).toEqual(documented(file, verifier).toSorted())
  })
  test.each(Object.entries(ways))('%s', async (code, provoke) => expect(outcome(await provoke())).toBe(code))
})

describe('the table of refusals', () => {
  test('is in the README', () => {
    const readme = readFileSync(join(floor, 'README.md'), 'utf8')
    expect(/<!-- refusals:start -->\n([\s\S]*)<!-- refusals:end -->/.exec(readme)?.[1]).toBe(refusalsTable())
  })

  test('has no row that nothing provokes', () => {
    const provoked = new Set(Object.values(provocations).flatMap(({ refusals: ways }) => Object.keys(ways)))
    expect(codes.filter(code => !provoked.has(code))).toEqual([])
  })

  test('has every verifier of the floor that refuses', () => {
    const files = new Set(Object.values(provocations).map(({ file }) => file))
    const refusing = sources.filter(file =>
      /\breject\('|\.fail\('|^ {2}\['[A-Z_]+',/m.test(readFileSync(join(floor, file), 'utf8')),
    )
    // these are refusals of those who call them
    expect(refusing.filter(file => !files.has(file)).toSorted()).toEqual([
      'attested.ts',
      'certs/path_checks.ts',
      'certs/revocation.ts',
      'tpm2/bytes.ts',
    ])
  })

  test('says what was wrong and what to do in sentences', () => {
    for (const { means, next } of Object.values(refusals))
      for (const sentence of [means, next]) expect(sentence).toMatch(/^[a-z].*[^.]$/)
  })
})
