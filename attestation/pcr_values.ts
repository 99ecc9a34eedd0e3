import { hash } from 'node:crypto'
import { type Hash, hashes } from './tpm2/constants.ts'

/** The value after an extend (TPM 2.0 Library Part 3, TPM2_PCR_Extend). */
export function extend(bank: Hash, value: Uint8Array, digest: Uint8Array): Buffer {
  return hash(bank, Buffer.concat([value, digest]), 'buffer')
}

/** Localities that a TPM is started from (TCG PC Client Platform Firmware Profile, EFI_STARTUP_LOCALITY_EVENT). */
export const localities: readonly number[] = [0, 3, 4]

/** What a PCR begins with: all ones where only a dynamic launch resets it, else zero, but for the locality in the last byte of PCR 0. */
export function initialValue(bank: Hash, pcr: number, locality: number): Buffer {
  const { size } = hashes[bank]
  if (isDynamic(pcr)) return Buffer.alloc(size, 0xff)
  return Buffer.concat([Buffer.alloc(size - 1), Buffer.of(pcr === 0 ? locality : 0)])
}

/** PCR 17 to 22 are those of a dynamic launch. */
export function isDynamic(pcr: number): boolean {
  return pcr >= 17 && pcr <= 22
}
