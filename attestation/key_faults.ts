import { weaknessOf } from './certs/weak_keys.ts'
import type { Public } from './tpm2/public.ts'

/** All bits of TPMA_OBJECT but the free ones are as wanted: what is in neither is clear, reserved bits too. */
export function wrongAttributes({ attributes }: Public, wanted: number, free: number): string | undefined {
  if ((attributes & ~free) === wanted) return undefined
  return `TPMA_OBJECT is 0x${attributes.toString(16).padStart(8, '0')}, wanted 0x${wanted.toString(16)}`
}

export function weakName({ nameAlg }: Public): string | undefined {
  return nameAlg === 'sha1' ? 'the Name of the key is a SHA-1 digest' : undefined
}

export function weakRsa(area: Public): string | undefined {
  return area.kind === 'rsa' ? weaknessOf(area) : undefined
}
