import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import {
  type AttestationKey,
  admitAk,
  alg,
  attestType,
  type Curve,
  curves,
  type Expected,
  GENERATED,
  type Hash,
  hashes,
  type QuoteEvidence,
  qualifiedNameOf,
  type SignatureScheme,
  type Verdict,
  Writer,
} from '#attestation'

// Makes what a TPM would, byte for byte, with keys of node:crypto: so every field can be wrong in a test.

export type FakeKey = {
  readonly private: KeyObject
  readonly scheme: SignatureScheme
  readonly hash: Hash
  /** TPMT_PUBLIC */
  readonly area: Buffer
}

/** The fields of TPMT_PUBLIC as they are written: TPM_ALG_IDs, sizes in bits, and TPM2Bs without their sizes. */
export type Area = {
  readonly type: number
  readonly nameAlg: number
  readonly attributes: number
  readonly authPolicy: Uint8Array
  readonly symmetric: readonly number[]
  readonly scheme: readonly number[]
  /** keyBits of RSA, curve and kdf of ECC */
  readonly details: readonly number[]
  /** of RSA alone */
  readonly exponent: number
  readonly unique: readonly Uint8Array[]
}

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign */
export const AK_ATTRIBUTES = 0x00050472

export type Kind = Curve | `rsa-${number}`
const pairs = new Map<string, ReturnType<typeof generate>>()

/** A key pair, made once for each kind and label. */
export function pairOf(kind: Kind, label = ''): { publicKey: KeyObject; privateKey: KeyObject } {
  const pair = pairs.get(kind + label) ?? generate(kind)
  pairs.set(kind + label, pair)
  return pair
}

function generate(kind: Kind): { publicKey: KeyObject; privateKey: KeyObject } {
  if (kind in curves) return generateKeyPairSync('ec', { namedCurve: kind })
  return generateKeyPairSync('rsa', { modulusLength: Number(kind.slice(4)) })
}

/** An attestation key as admitAk wants it, but for the `changes`. */
export function makeAk(
  kind: Kind,
  scheme: SignatureScheme,
  hash: Hash = 'sha256',
  changes: Partial<Area> = {},
  label = '',
): FakeKey {
  const pair = pairOf(kind, label)
  const signing = { attributes: AK_ATTRIBUTES, scheme: [alg[scheme], hashes[hash].id] }
  return { private: pair.privateKey, scheme, hash, area: encodeArea({ ...areaOf(pair.publicKey), ...signing, ...changes }) }
}

/** A public area of that key with no scheme, policy or attribute. */
export function areaOf(key: KeyObject): Area {
  const jwk = key.export({ format: 'jwk' })
  const bytes = (text: string | undefined) => Buffer.from(text ?? '', 'base64url')
  const plain = {
    nameAlg: alg.SHA256,
    attributes: 0,
    authPolicy: Buffer.alloc(0),
    symmetric: [alg.NULL],
    scheme: [alg.NULL],
    exponent: 0,
  }
  if (jwk.kty === 'RSA') return { ...plain, type: alg.RSA, details: [bytes(jwk.n).length * 8], unique: [bytes(jwk.n)] }
  return { ...plain, type: alg.ECC, details: [curves[jwk.crv as Curve].id, alg.NULL], unique: [bytes(jwk.x), bytes(jwk.y)] }
}

/** TPMT_PUBLIC */
export function encodeArea(area: Area): Buffer {
  const writer = new Writer().u16(area.type).u16(area.nameAlg).u32(area.attributes).sized(area.authPolicy)
  for (const value of [...area.symmetric, ...area.scheme, ...area.details]) writer.u16(value)
  if (area.type === alg.RSA) writer.u32(area.exponent)
  for (const value of area.unique) writer.sized(value)
  return writer.done()
}

/** The fields of TPMS_ATTEST with TPMS_QUOTE_INFO as they are written. */
export type Attest = {
  readonly magic: number
  readonly type: number
  readonly qualifiedSigner: Uint8Array
  readonly extraData: Uint8Array
  readonly clock: bigint
  readonly resetCount: number
  readonly restartCount: number
  readonly safe: number
  readonly firmwareVersion: string
  readonly selection: readonly Selected[]
  /** in place of the length of `selection` */
  readonly count?: number
  readonly pcrDigest: Uint8Array
  readonly tail: Uint8Array
}
export type Selected = { readonly bank: number; readonly pcrs: readonly number[]; readonly octets?: number }

/** TPMS_ATTEST */
function encodeAttest(attest: Attest): Buffer {
  const { magic, type, qualifiedSigner, extraData, clock, resetCount, restartCount, safe, firmwareVersion, selection } = attest
  const writer = new Writer().u32(magic).u16(type).sized(qualifiedSigner).sized(extraData)
  writer.u32(Number(clock >> 32n)).u32(Number(clock & 0xffffffffn))
  writer.u32(resetCount).u32(restartCount).u8(safe).bytes(Buffer.from(firmwareVersion, 'hex'))
  writer.u32(attest.count ?? selection.length)
  for (const selected of selection) writer.bytes(encodeSelected(selected))
  return writer.sized(attest.pcrDigest).bytes(attest.tail).done()
}

function encodeSelected({ bank, pcrs, octets = 3 }: Selected): Buffer {
  const mask = Buffer.alloc(octets)
  for (const pcr of pcrs) mask[pcr >> 3] = (mask[pcr >> 3] ?? 0) | (1 << (pcr & 7))
  return new Writer().u16(bank).u8(octets).bytes(mask).done()
}

/** TPMT_SIGNATURE of this key, whose fields can be other ones than it used. */
export function signAs(key: FakeKey, message: Uint8Array, fields: { tag?: number; hash?: number } = {}): Buffer {
  const { tag = alg[key.scheme], hash = hashes[key.hash].id } = fields
  const head = new Writer().u16(tag).u16(hash)
  if (key.scheme !== 'ECDSA') return head.sized(sign(key.hash, message, signer(key))).done()
  const value = sign(key.hash, message, { key: key.private, dsaEncoding: 'ieee-p1363' })
  return head
    .sized(value.subarray(0, value.length / 2))
    .sized(value.subarray(value.length / 2))
    .done()
}

function signer({ private: key, scheme }: FakeKey) {
  if (scheme === 'RSASSA') return { key, padding: constants.RSA_PKCS1_PADDING }
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
}

/** The value of a PCR that something was measured into. */
export function pcrValue(index: number, hash: Hash = 'sha256'): Buffer {
  return createHash(hash).update(`PCR ${index}`).digest()
}

export const PCRS = [0, 2, 4, 7, 11] as const
export const NONCE = createHash('sha256').update('qualifying data').digest()

export type Asked = { readonly evidence: QuoteEvidence; readonly expected: Expected }

/** A good answer to a challenge over PCRs 0, 2, 4, 7 and 11 of SHA-256, and what was expected: `changes` are signed. */
export function answer(key: FakeKey = makeAk('P-256', 'ECDSA'), changes: Partial<Attest> = {}): Asked {
  const ak = unwrap(admitAk(key.area))
  const attest = encodeAttest({ ...attestOf(key, ak), ...changes })
  const pcrs = JSON.stringify({ sha256: Object.fromEntries(PCRS.map(pcr => [pcr, pcrValue(pcr).toString('hex')])) })
  return {
    evidence: { attest, signature: signAs(key, attest), pcrs },
    expected: {
      ak,
      qualifyingData: NONCE,
      qualifiedSigner: qualifiedNameOf('endorsement', ak.name),
      selection: { sha256: PCRS },
      references: [{ name: 'released', pcrs: new Map([['sha256', new Map(PCRS.map(pcr => [pcr, [pcrValue(pcr)]]))]]) }],
      allowReset: false,
      obfuscated: false,
    },
  }
}

function attestOf({ hash }: FakeKey, { name }: AttestationKey): Attest {
  return {
    magic: GENERATED,
    type: attestType.QUOTE,
    qualifiedSigner: qualifiedNameOf('endorsement', name),
    extraData: NONCE,
    clock: 5_000_000n,
    resetCount: 7,
    restartCount: 2,
    safe: 1,
    firmwareVersion: '2024012500120000',
    selection: [{ bank: alg.SHA256, pcrs: PCRS }],
    pcrDigest: createHash(hash)
      .update(Buffer.concat(PCRS.map(pcr => pcrValue(pcr))))
      .digest(),
    tail: Buffer.alloc(0),
  }
}

/** The value of a verdict that has to be one. */
export function unwrap<T>(verdict: Verdict<T>): T {
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.detail}`)
  return verdict.value
}

/** `OK`, or the code of the refusal, which has to say why. */
export function outcome(verdict: Verdict<unknown>): string {
  if (verdict.ok) return 'OK'
  if (!/\S \S/.test(verdict.detail)) throw new Error(`${verdict.code} without words: ${verdict.detail}`)
  return verdict.code
}
