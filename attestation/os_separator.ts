import { hash } from 'node:crypto'
import { extend } from './pcr_values.ts'
import type { Hash } from './tpm2/constants.ts'

/**
 * Where a measured boot ends and userspace begins, systemd measures a word of its own (systemd-pcrosseparator.service, from version 261 on): no log of the
 * firmware has it. Whoever runs the operating system can measure it, so it says nothing but that nothing was taken away.
 */
const WORD = 'os-separator'
const PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]

/** What that makes of a value; undefined for a PCR that the word does not go into. */
export function withOsSeparator(bank: Hash, pcr: number, value: Uint8Array): Buffer | undefined {
  return PCRS.includes(pcr) ? extend(bank, value, hash(bank, WORD, 'buffer')) : undefined
}
