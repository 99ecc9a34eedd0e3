import { describe, expect, test } from 'vitest'
import type { Clock } from '#attestation'
import { appraiseClock } from '../../attestation/clock.ts'

const previous: Clock = { clock: 5_000_000n, resetCount: 7, restartCount: 2, firmwareVersion: '2024012500120000' }
const later = { clock: 5_000_001n }

type Row = readonly [what: string, expected: string, now: Partial<Clock>, rules: Rules]
type Rules = {
  readonly safe?: boolean
  readonly obfuscated?: boolean
  readonly first?: boolean
  readonly allowUnsafe?: boolean
}

const rows: readonly Row[] = [
  ['the first quote of a key', 'FIRST', {}, { first: true }],
  ['the same boot, later', 'SAME', later, {}],
  ['the same value of the clock', 'CLOCK_REPLAY', {}, {}],
  ['the clock went back', 'CLOCK_REPLAY', { clock: 4_999_999n }, {}],
  ['a reset, after which the clock starts anew', 'REBOOTED', { clock: 1n, resetCount: 8, restartCount: 0 }, {}],
  ['a boot before the last one', 'OLD_BOOT', { ...later, resetCount: 6 }, {}],
  ['a lower count that says nothing', 'REBOOTED', { ...later, resetCount: 6 }, { obfuscated: true }],
  ['a count that wrapped', 'REBOOTED', { ...later, resetCount: 3 }, { obfuscated: true }],
  ['a resume', 'RESUMED', { ...later, restartCount: 3 }, {}],
  ['a resume that went back', 'CLOCK_REPLAY', { ...later, restartCount: 1 }, {}],
  ['a lower count of resumes that says nothing', 'RESUMED', { ...later, restartCount: 1 }, { obfuscated: true }],
  ['a resume with an old clock', 'CLOCK_REPLAY', { restartCount: 3 }, { obfuscated: true }],
  ['other firmware', 'FIRMWARE_CHANGED', { ...later, firmwareVersion: '2024012500120001' }, {}],
  ['other firmware, before all else', 'FIRMWARE_CHANGED', { clock: 0n, resetCount: 0, firmwareVersion: '0' }, { safe: false }],
  ['not safe', 'CLOCK_NOT_SAFE', later, { safe: false }],
  ['not safe, the first time', 'CLOCK_NOT_SAFE', {}, { safe: false, first: true }],
  ['not safe after a reset', 'CLOCK_NOT_SAFE', { resetCount: 8 }, { safe: false }],
  ['not safe, and allowed, after a reset', 'REBOOTED', { resetCount: 8 }, { safe: false, allowUnsafe: true }],
  ['not safe, and allowed, the first time', 'FIRST', {}, { safe: false, first: true, allowUnsafe: true }],
  ['not safe, and allowed, in the same boot', 'SAME', later, { safe: false, allowUnsafe: true }],
  ['not safe, and allowed, while it stands still', 'CLOCK_REPLAY', {}, { safe: false, allowUnsafe: true }],
  ['not safe, and allowed, of an older boot', 'OLD_BOOT', { resetCount: 6 }, { safe: false, allowUnsafe: true }],
]

describe('the clock of a TPM', () => {
  test.each(rows)('%s: %s', (_, expected, now, { safe = true, obfuscated = false, first = false, ...rules }) => {
    const verdict = appraiseClock({ clock: { ...previous, ...now }, safe }, { ...rules, obfuscated, ...(!first && { previous }) })
    expect(verdict.ok ? verdict.value : verdict.code).toBe(expected)
  })
})
