import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { accept, reject, type Verdict } from '../verdict.ts'
import { parse, type Reader } from './bytes.ts'
import { alg, type Curve, curves, type Hash, hashOf } from './constants.ts'
import { keyObjectOf, type Public } from './public.ts'

/** TPMT_SIGNATURE is refused above this many bytes; that of RSA-4096 has 518. */
const SIGNATURE_LIMIT = 2048

/** A key with the one scheme and hash that it signs with. */
export type SigningKey = {
  /** of `verifyingKey`, to be kept: making it anew costs as much as a signature */
  readonly key: KeyObject
  readonly scheme: SignatureScheme
  readonly hash: Hash
  readonly public: Public
}
const signatureSchemes = ['RSASSA', 'RSAPSS', 'ECDSA'] as const
export type SignatureScheme = (typeof signatureSchemes)[number]

/**
 * Reads a TPMT_SIGNATURE to its last byte and verifies it over `message`. The kind of key decides, the structure only repeats
 * it. The checks, in order: the scheme is known, the hash is not weak, the scheme is the key's, 0 < r, s < n, the lengths, the
 * signature under the hash it names, and that hash is the key's (TPM 2.0 Library Part 2, TPMT_SIGNATURE).
 * @returns LIMIT, TRUNCATED, TRAILING_DATA, UNSUPPORTED_ALG, WEAK_HASH, SCHEME_MISMATCH, SIGNATURE or BAD_ENCODING when refused
 */
export function verifySignature(signature: Uint8Array, message: Uint8Array, key: SigningKey): Verdict<Hash> {
  const read = parse(signature, SIGNATURE_LIMIT, reader => readSignature(reader, key))
  if (!read.ok) return read
  const { hash, value } = read.value
  if (!verify(hash, message, key.key, value)) return reject('SIGNATURE', 'the signature is not of this key over these bytes')
  if (hash !== key.hash) return reject('SCHEME_MISMATCH', `signed with ${hash}, the key signs with ${key.hash}`)
  return accept(hash)
}

type Signature = { readonly hash: Hash; readonly value: Buffer }

function readSignature(reader: Reader, key: SigningKey): Signature {
  const tag = reader.u16()
  const scheme = schemeOf(tag) ?? reader.fail('UNSUPPORTED_ALG', `signature scheme 0x${tag.toString(16)}`)
  const id = reader.u16()
  const hash = hashOf(id) ?? reader.fail('UNSUPPORTED_ALG', `signature hash 0x${id.toString(16)}`)
  if (hash === 'sha1') reader.fail('WEAK_HASH', 'the signature is over a SHA-1 digest')
  if (scheme !== key.scheme) reader.fail('SCHEME_MISMATCH', `the signature is ${scheme}, the key signs with ${key.scheme}`)
  return { hash, value: key.public.kind === 'ecc' ? ecdsa(reader, key.public.curve) : rsa(reader, key.public.modulus) }
}

/** By TPM_ALG_ID. */
export function schemeOf(tag: number): SignatureScheme | undefined {
  return signatureSchemes.find(scheme => alg[scheme] === tag)
}

/** TPMS_SIGNATURE_RSA.sig: as long as the modulus, and as a number below it (RFC 8017 5.2.2). */
function rsa(reader: Reader, modulus: Buffer): Buffer {
  const value = reader.sized()
  if (value.length !== modulus.length)
    reader.fail('BAD_ENCODING', `a signature of ${value.length} bytes, the modulus has ${modulus.length}`)
  if (value.compare(modulus) >= 0) reader.fail('BAD_ENCODING', 'the signature is not below the modulus')
  return value
}

/** TPMS_SIGNATURE_ECC as the DER of Ecdsa-Sig-Value (RFC 3279 2.2.3). A TPM may leave out leading zeros, but not write too many. */
function ecdsa(reader: Reader, curve: Curve): Buffer {
  const [r, s] = [reader.sized(), reader.sized()]
  if (!inRange(r, curve) || !inRange(s, curve)) reader.fail('SIGNATURE', 'r or s is not between 0 and the order of the curve')
  const { size } = curves[curve]
  if (r.length > size || s.length > size)
    reader.fail('BAD_ENCODING', `r has ${r.length} bytes, s has ${s.length}, the field ${size}`)
  const integers = Buffer.concat([derInteger(r), derInteger(s)])
  return Buffer.concat([Buffer.of(0x30, integers.length), integers]) // at most 102 bytes, so the length takes one
}

function derInteger(value: Buffer): Buffer {
  const digits = value.subarray(firstDigit(value))
  const sign = (digits[0] ?? 0) >= 0x80 ? [0] : []
  return Buffer.concat([Buffer.of(0x02, sign.length + digits.length, ...sign), digits])
}

/** 0 < value < n as an integer, whatever zeros stand before it. */
function inRange(value: Buffer, curve: Curve): boolean {
  const first = firstDigit(value)
  const { size, order } = curves[curve]
  const significant = value.length - first
  if (significant === 0 || significant > size) return false
  return significant < size || order.compare(value, first) > 0
}

function firstDigit(value: Buffer): number {
  let first = 0
  while (value[first] === 0) first += 1
  return first
}

/** AlgorithmIdentifier of id-RSASSA-PSS without parameters (RFC 4055 3.1). */
const PSS = Buffer.from('300b06092a864886f70d01010a', 'hex')

/**
 * The key in the form that node:crypto verifies with fastest: bare, as every option beside a key costs it two exceptions. So what
 * the scheme says is in the key: one for PSS alone, whose salt is then read off the signature (TPMs differ in its length).
 */
export function verifyingKey(area: Public, scheme: SignatureScheme): KeyObject {
  const key = keyObjectOf(area)
  if (scheme !== 'RSAPSS') return key
  const bits = Buffer.concat([Buffer.of(0), key.export({ type: 'pkcs1', format: 'der' })])
  return createPublicKey({ key: sequence(0x30, Buffer.concat([PSS, sequence(0x03, bits)])), format: 'der', type: 'spki' })
}

/** DER of 256 to 65535 bytes. */
function sequence(tag: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.of(tag, 0x82, content.length >> 8, content.length & 0xff), content])
}
