import { createHash, createHmac } from 'node:crypto'
import { Writer } from './bytes.ts'
import { type Hash, hashes } from './constants.ts'

/**
 * KDFa: SP 800-108 in counter mode with HMAC (TPM 2.0 Library Part 1, Key Derivation Function).
 * @param label without its terminating zero, which is hashed as well
 * @param context the parties' information, one after the other
 * @param bits a multiple of 8
 */
export function kdfa(hash: Hash, key: Uint8Array, label: string, context: Uint8Array, bits: number): Buffer {
  const fixed = Buffer.concat([Buffer.from(`${label}\0`), context, u32(bits)])
  return blocks(hash, bits, counter => createHmac(hash, key).update(counter).update(fixed).digest())
}

/**
 * KDFe: the concatenation KDF of SP 800-56A (TPM 2.0 Library Part 1, Key Derivation Function for ECDH), as long as the digest.
 * @param shared the x coordinate of the shared point
 * @param partyU the x coordinate of the ephemeral key
 * @param partyV the x coordinate of the static key
 */
export function kdfe(hash: Hash, shared: Uint8Array, label: string, partyU: Uint8Array, partyV: Uint8Array): Buffer {
  const fixed = Buffer.concat([shared, Buffer.from(`${label}\0`), partyU, partyV])
  return blocks(hash, 8 * hashes[hash].size, counter => createHash(hash).update(counter).update(fixed).digest())
}

function blocks(hash: Hash, bits: number, block: (counter: Buffer) => Buffer): Buffer {
  const count = Math.ceil(bits / 8 / hashes[hash].size)
  return Buffer.concat(Array.from({ length: count }, (_, index) => block(u32(index + 1)))).subarray(0, bits / 8)
}

const u32 = (value: number): Buffer => new Writer().u32(value).done()
