import { createHash, createHmac } from 'node:crypto'
import { type Hash, hashes, Writer } from '#attestation'

/** KDFa (TPM 2.0 Library Part 1, "KDFa"): SP 800-108 in counter mode with HMAC. @param bits a multiple of 8 */
export function kdfa(
  hash: Hash,
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Buffer {
  const rest = Buffer.concat([terminated(label), contextU, contextV, u32(bits)])
  return blocks(hash, bits, counter => createHmac(hash, key).update(counter).update(rest).digest())
}

/** KDFe (Part 1, "KDFe for ECDH"): SP 800-56A. @param z the x-coordinate of the shared point @param partyU x of the ephemeral key @param partyV x of the TPM's key */
export function kdfe(hash: Hash, z: Uint8Array, label: string, partyU: Uint8Array, partyV: Uint8Array, bits: number): Buffer {
  const rest = Buffer.concat([z, terminated(label), partyU, partyV])
  return blocks(hash, bits, counter => createHash(hash).update(counter).update(rest).digest())
}

/** A label and the zero that ends it, which is hashed as well. */
export function terminated(label: string): Buffer {
  return Buffer.from(`${label}\0`, 'ascii')
}

function blocks(hash: Hash, bits: number, block: (counter: Buffer) => Buffer): Buffer {
  const count = Math.ceil(bits / 8 / hashes[hash].size)
  const all = Array.from({ length: count }, (_, index) => block(u32(index + 1)))
  return Buffer.concat(all).subarray(0, bits / 8)
}

const u32 = (value: number): Buffer => new Writer().u32(value).done()
