import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { reject, type Verdict } from '../verdict.ts'
import { parse, type Reader } from './bytes.ts'
import { alg, type Curve, curves, type Hash, hashes, hashOf } from './constants.ts'

/** TPMT_PUBLIC is refused above this many bytes; the largest key accepted, RSA-4096, needs about 600. */
const PUBLIC_LIMIT = 2048
const RSA_BITS_LIMIT = 4096
const DEFAULT_EXPONENT = 65537

/** The public area of a key (TPM 2.0 Library Part 2, TPMT_PUBLIC). */
export type Public = RsaPublic | EccPublic
export type RsaPublic = Common & {
  readonly kind: 'rsa'
  readonly bits: number
  /** 65537 where the TPM says 0 */
  readonly exponent: number
  /** exactly `bits / 8` bytes, the highest bit set */
  readonly modulus: Buffer
}
export type EccPublic = Common & {
  readonly kind: 'ecc'
  readonly curve: Curve
  readonly kdf: Scheme | null
  /** coordinates, padded to the size of the curve's field */
  readonly x: Buffer
  readonly y: Buffer
}
type Common = {
  /** the exact bytes that were parsed, which the Name hashes */
  readonly bytes: Buffer
  readonly nameAlg: Hash
  /** TPMA_OBJECT */
  readonly attributes: number
  /** empty when the key has none */
  readonly authPolicy: Buffer
  readonly symmetric: Symmetric | null
  readonly scheme: Scheme | null
}
/** TPMT_SYM_DEF_OBJECT: TPM_ALG_IDs and the size of the key in bits. */
export type Symmetric = { readonly alg: number; readonly bits: number; readonly mode: number }
/** TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KDF_SCHEME: a TPM_ALG_ID and its hash, which RSAES alone lacks. */
export type Scheme = { readonly alg: number; readonly hash: Hash | null }

/**
 * Reads a TPMT_PUBLIC to its last byte and makes sure that it is a key: of a known kind and curve, the modulus as long as
 * declared, the point on its curve. It does not judge what the key may be used for.
 * @returns BAD_KEY, UNSUPPORTED_ALG, TRUNCATED, TRAILING_DATA or LIMIT when refused
 */
export function parsePublic(bytes: Uint8Array): Verdict<Public> {
  const read = readPublic(bytes)
  if (!read.ok || isKey(read.value)) return read
  return reject('BAD_KEY', 'the point is not on its curve')
}

/** As `parsePublic`, but says nothing on whether the point is on its curve, for those who have other checks to make first. */
export function readPublic(bytes: Uint8Array): Verdict<Public> {
  const own = Buffer.from(bytes)
  return parse(own, PUBLIC_LIMIT, reader => publicArea(reader, own))
}

/** Whether node:crypto takes it as a key: OpenSSL checks that coordinates are below p and fulfil the curve's equation. */
export function isKey(area: Public): boolean {
  try {
    keyObjectOf(area)
    return true
  } catch {
    return false
  }
}

/**
 * TPM2B_NAME.name: nameAlg || H(TPMT_PUBLIC), computed here and never taken from the attester (Part 1, Names).
 * @param nameAlg read from the public area when not given
 */
export function nameOf(publicBytes: Uint8Array, nameAlg: Hash = nameAlgOf(publicBytes)): Buffer {
  const id = Buffer.alloc(2)
  id.writeUInt16BE(hashes[nameAlg].id)
  return Buffer.concat([id, createHash(nameAlg).update(publicBytes).digest()])
}

/** A verifying or encrypting key. @throws when the point is not on its curve, which `parsePublic` excludes */
export function keyObjectOf(area: Public): KeyObject {
  return createPublicKey({ key: jwkOf(area), format: 'jwk' })
}

/** RFC 7517 JWK with the members that an RFC 7638 thumbprint needs and none else. */
export function jwkOf(area: Public): JsonWebKey {
  if (area.kind === 'ecc') return { kty: 'EC', crv: area.curve, x: area.x.toString('base64url'), y: area.y.toString('base64url') }
  return { kty: 'RSA', n: area.modulus.toString('base64url'), e: minimal(area.exponent).toString('base64url') }
}

/** SubjectPublicKeyInfo (RFC 5280 4.1) in one form per key: rsaEncryption with NULL, or a named curve with an uncompressed point. */
export function spkiOf(area: Public): Buffer {
  return keyObjectOf(area).export({ type: 'spki', format: 'der' })
}

function publicArea(reader: Reader, bytes: Buffer): Public {
  const type = reader.u16()
  if (type !== alg.RSA && type !== alg.ECC) reader.fail('BAD_KEY', `a key of type ${hex(type)}, neither RSA nor ECC`)
  const common = { bytes, nameAlg: hash(reader, 'nameAlg'), attributes: reader.u32(), authPolicy: reader.sized() }
  return type === alg.RSA ? rsa(reader, common) : ecc(reader, common)
}

type Head = Pick<Common, 'bytes' | 'nameAlg' | 'attributes' | 'authPolicy'>

/** TPMS_RSA_PARMS and TPM2B_PUBLIC_KEY_RSA. */
function rsa(reader: Reader, head: Head): RsaPublic {
  const details = { symmetric: symmetric(reader), scheme: scheme(reader, rsaSchemes) }
  const bits = reader.u16()
  const exponent = reader.u32() || DEFAULT_EXPONENT
  if (bits > RSA_BITS_LIMIT) reader.fail('LIMIT', `RSA-${bits}, at most RSA-${RSA_BITS_LIMIT} is read`)
  const modulus = reader.sized()
  const first = modulus[0] ?? 0
  if (modulus.length * 8 !== bits || first < 0x80) reader.fail('BAD_KEY', `the modulus does not have the declared ${bits} bits`)
  return { kind: 'rsa', ...head, ...details, bits, exponent, modulus }
}

/** TPMS_ECC_PARMS and TPMS_ECC_POINT. */
function ecc(reader: Reader, head: Head): EccPublic {
  const details = { symmetric: symmetric(reader), scheme: scheme(reader, eccSchemes) }
  const id = reader.u16()
  const curve = (Object.keys(curves) as Curve[]).find(name => curves[name].id === id)
  if (curve === undefined) return reader.fail('BAD_KEY', `curve ${hex(id)} is neither P-256 nor P-384`)
  const kdf = scheme(reader, kdfSchemes)
  return { kind: 'ecc', ...head, ...details, curve, kdf, x: coordinate(reader, curve), y: coordinate(reader, curve) }
}

/** Some TPMs drop leading zeros of a coordinate; the Name keeps their bytes, the key gets the padded ones. */
function coordinate(reader: Reader, curve: Curve): Buffer {
  const given = reader.sized()
  const { size } = curves[curve]
  if (given.length === 0 || given.length > size) reader.fail('BAD_KEY', `a coordinate of ${given.length} bytes on ${curve}`)
  return given.length === size ? given : Buffer.concat([Buffer.alloc(size - given.length), given])
}

function symmetric(reader: Reader): Symmetric | null {
  const id = reader.u16()
  if (id === alg.NULL) return null
  if (id !== alg.AES) reader.fail('UNSUPPORTED_ALG', `symmetric algorithm ${hex(id)}`)
  return { alg: id, bits: reader.u16(), mode: reader.u16() }
}

const rsaSchemes: readonly number[] = [alg.RSASSA, alg.RSAPSS, alg.OAEP, alg.RSAES]
const eccSchemes: readonly number[] = [alg.ECDSA, alg.ECDH]
const kdfSchemes: readonly number[] = [alg.KDF1_SP800_56A, alg.KDF1_SP800_108]

function scheme(reader: Reader, known: readonly number[]): Scheme | null {
  const id = reader.u16()
  if (id === alg.NULL) return null
  if (!known.includes(id)) reader.fail('UNSUPPORTED_ALG', `scheme ${hex(id)}`)
  return { alg: id, hash: id === alg.RSAES ? null : hash(reader, 'scheme hash') }
}

function hash(reader: Reader, what: string): Hash {
  const id = reader.u16()
  return hashOf(id) ?? reader.fail('UNSUPPORTED_ALG', `${what} ${hex(id)}`)
}

function nameAlgOf(publicBytes: Uint8Array): Hash {
  const found = publicBytes.length < 4 ? undefined : hashOf(Buffer.from(publicBytes.subarray(2, 4)).readUInt16BE())
  if (found === undefined) throw new TypeError('a Name is computed of a parsed public area alone')
  return found
}

/** Big-endian without leading zeros, as JWK wants it. */
function minimal(value: number): Buffer {
  const wide = Buffer.alloc(4)
  wide.writeUInt32BE(value)
  return wide.subarray(wide.findIndex(byte => byte !== 0))
}

function hex(id: number): string {
  return `0x${id.toString(16).padStart(4, '0')}`
}
