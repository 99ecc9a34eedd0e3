import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { PcrTable } from '../../attestation/pcr_table.ts'
import { appraisePcrs, type Bank, matchReferences, type ReferenceSet, type Selection } from '../../attestation/pcrs.ts'
import type { Quote } from '../../attestation/tpm2/attest.ts'
import { outcome, unwrap } from './attester.ts'

const zeros = Buffer.alloc(32)
const ones = Buffer.alloc(32, 0xff)
const some = Buffer.alloc(32, 5)
/** Zeros or ones, but for the byte at that place. */
const but = (whole: Buffer, place: number, byte: number) => Buffer.from(whole).fill(byte, place, place + 1)

const tableOf = (pcrs: Readonly<Record<number, Buffer>>, bank: Bank = 'sha256'): PcrTable =>
  new Map([[bank, new Map(Object.entries(pcrs).map(([pcr, value]) => [Number(pcr), value]))]])
type Pinned = Readonly<Record<number, Buffer[]>>
const pinning = (banks: { readonly [bank in Bank]?: Pinned }, explained?: Selection): ReferenceSet => ({
  name: 'set',
  pcrs: new Map(
    Object.entries(banks).map(([bank, pcrs]) => [
      bank as Bank,
      new Map(Object.entries(pcrs).map(([pcr, allowed]) => [Number(pcr), allowed])),
    ]),
  ),
  ...(explained && { explained }),
})
const match = (table: PcrTable, set: ReferenceSet, allowReset = false) =>
  matchReferences(table, { references: [set], allowReset })

/** What systemd-pcrextend makes of a value with `os-separator`. */
const separated = (value: Buffer) =>
  createHash('sha256').update(value).update(createHash('sha256').update('os-separator').digest()).digest()

describe('what a reset leaves', () => {
  test.each<readonly [string, number, Buffer, string]>([
    ['zeros', 0, zeros, 'PCR_POLICY'],
    ['zeros', 7, zeros, 'PCR_POLICY'],
    ['a locality', 0, but(zeros, 31, 3), 'PCR_POLICY'],
    ['zeros', 8, zeros, 'OK'],
    ['zeros at first', 7, but(some, 0, 0), 'OK'],
    ['zeros but at first', 7, but(zeros, 0, 1), 'OK'],
    ['zeros but before the last', 7, but(zeros, 30, 1), 'OK'],
    ['ones', 7, ones, 'OK'],
    ['ones', 16, ones, 'OK'],
    ['ones', 17, ones, 'PCR_POLICY'],
    ['ones', 22, ones, 'PCR_POLICY'],
    ['ones', 23, ones, 'OK'],
    ['ones but at last', 17, but(ones, 31, 0xfe), 'OK'],
    ['zeros', 17, zeros, 'OK'],
    ['a value', 18, some, 'OK'],
    ['nothing but what systemd measures', 0, separated(zeros), 'PCR_POLICY'],
    ['nothing but what systemd measures', 7, separated(zeros), 'PCR_POLICY'],
    ['a locality and what systemd measures', 0, separated(but(zeros, 31, 3)), 'PCR_POLICY'],
    ['a value and what systemd measures', 7, separated(some), 'OK'],
    ['nothing but what systemd measures', 12, separated(zeros), 'OK'],
  ])('%s in PCR %i', (_, pcr, value, expected) => {
    const pinned = pinning({ sha256: { [pcr]: [value] } })
    const explained = pinning({}, { sha256: [pcr] })
    for (const set of [pinned, explained]) {
      expect(outcome(match(tableOf({ [pcr]: value }), set))).toBe(expected)
      expect(outcome(match(tableOf({ [pcr]: value }), set, true))).toBe('OK')
    }
  })
})

describe('a set of reference values', () => {
  const table = tableOf({ 4: some, 7: some })
  test.each<readonly [string, string, ReferenceSet]>([
    ['looks at PCRs of a bank', 'OK', pinning({ sha256: { 4: [some] } })],
    ['and leaves another bank alone', 'OK', pinning({ sha384: {}, sha256: { 4: [some] } })],
    ['looks at no PCR of any bank', 'PCR_POLICY', pinning({ sha384: {}, sha256: {} })],
    ['has PCRs explained', 'OK', pinning({}, { sha256: [4, 7] })],
    ['has none of one bank explained', 'OK', pinning({}, { sha384: [], sha256: [4] })],
    ['has none explained', 'PCR_POLICY', pinning({}, { sha384: [], sha256: [] })],
    ['pins one that is not signed', 'PCR_NOT_QUOTED', pinning({ sha256: { 4: [some], 5: [some] } })],
    ['pins one of a bank that is not signed', 'PCR_NOT_QUOTED', pinning({ sha384: { 4: [some] } })],
    ['has one explained that is not signed', 'PCR_NOT_QUOTED', pinning({}, { sha256: [4, 5] })],
    ['has one explained of a bank that is not signed', 'PCR_NOT_QUOTED', pinning({}, { sha384: [4] })],
    [
      'pins what fits, and has explained what is not signed',
      'PCR_NOT_QUOTED',
      pinning({ sha256: { 4: [some] } }, { sha256: [5] }),
    ],
    ['pins what does not fit, and has another explained', 'PCR_POLICY', pinning({ sha256: { 4: [ones] } }, { sha256: [7] })],
  ])('%s: %s', (_, expected, set) => expect(outcome(match(table, set))).toBe(expected))

  test('of those that fit all are named, in their order; of those that do not the first gives the code', () => {
    const named = (name: string, set: ReferenceSet) => ({ ...set, name })
    const fits = pinning({ sha256: { 4: [some] } })
    const unsigned = pinning({ sha256: { 5: [some] } })
    const other = pinning({ sha256: { 4: [ones] } })
    const judged = (...references: ReferenceSet[]) => matchReferences(table, { references, allowReset: false })
    expect(unwrap(judged(named('b', fits), named('x', other), named('a', fits)))).toEqual(['b', 'a'])
    const refused = judged(named('x', unsigned), named('y', other))
    expect(refused).toMatchObject({ ok: false, code: 'PCR_NOT_QUOTED' })
    expect(refused).toHaveProperty('detail', expect.stringMatching(/^x: .*; y: /))
    expect(outcome(judged(named('y', other), named('x', unsigned)))).toBe('PCR_POLICY')
  })
})

describe('a selection', () => {
  const pcrDigest = (...values: Buffer[]) => createHash('sha256').update(Buffer.concat(values)).digest()
  const judged = (selection: Quote['selection'], asked: Selection, table: PcrTable) =>
    appraisePcrs({ selection, pcrDigest: pcrDigest(some, some) } as Quote, table, {
      ak: { hash: 'sha256' },
      selection: asked,
      references: [pinning({ sha256: { 4: [some] } })],
      allowReset: false,
    })
  const table = tableOf({ 4: some, 7: some })
  const mask = (...pcrs: number[]) => pcrs.reduce((bits, pcr) => bits | (1 << pcr), 0)

  test('is signed and listed as it was asked for', () =>
    expect(outcome(judged([{ bank: 'sha256', mask: mask(4, 7) }], { sha256: [4, 7] }, table))).toBe('OK'))
  test('of a bank that is not listed is refused', () =>
    expect(outcome(judged([{ bank: 'sha384', mask: mask(4) }], { sha384: [4] }, table))).toBe('PCR_SELECTION_MISMATCH'))
  test('that is short is refused by the lowest PCR that is missing', () =>
    expect(judged([{ bank: 'sha256', mask: mask(4, 7) }], { sha256: [4, 7, 12, 14] }, table)).toMatchObject({
      code: 'PCR_NOT_QUOTED',
      detail: 'PCR 12 of sha256 is not signed',
    }))
  test('that is long is refused by the lowest PCR that is too much', () =>
    expect(judged([{ bank: 'sha256', mask: mask(4, 7) }], { sha256: [] }, table)).toMatchObject({
      code: 'PCR_SELECTION_MISMATCH',
      detail: 'PCR 4 of sha256 is signed, but was not asked for',
    }))
})
