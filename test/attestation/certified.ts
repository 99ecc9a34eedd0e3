import { alg, attestType, GENERATED, nameOf, qualifiedNameOf, Writer } from '#attestation'
import { type Area, areaOf, encodeArea, type FakeKey, makeAk, NONCE, pairOf, signAs } from './attester.ts'
import { ekAreaOf } from './endorsed.ts'

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign */
export const BOUND_ATTRIBUTES = 0x00040472
export const certifier = makeAk('P-256', 'ECDSA')
export const ekPublic = ekAreaOf(pairOf('rsa-2048', 'ek').publicKey)

/** TPMT_PUBLIC of a key to bind, but for the changes. */
export function keyArea(changes: Partial<Area> = {}, kind: 'P-256' | 'P-384' | 'rsa-2048' = 'P-256'): Buffer {
  return encodeArea({ ...areaOf(pairOf(kind, 'bound').publicKey), attributes: BOUND_ATTRIBUTES, ...changes })
}

/** TPMT_PUBLIC of a storage key (TCG TPM v2.0 Provisioning Guidance, SRK). */
export function storageArea(attributes = 0x00030472): Buffer {
  const symmetric = [alg.AES, 128, alg.CFB]
  return encodeArea({ ...areaOf(pairOf('P-256', 'storage').publicKey), attributes, symmetric })
}

export type Certified = {
  readonly magic: number
  readonly type: number
  readonly qualifiedSigner: Uint8Array
  readonly extraData: Uint8Array
  readonly name: Uint8Array
  readonly qualifiedName: Uint8Array
  readonly safe: number
  readonly tail: Uint8Array
}

/** What TPM2_Certify returns for this key, with the changes signed. */
export function certification(area: Buffer, changes: Partial<Certified> = {}, ak: FakeKey = certifier) {
  const name = nameOf(area)
  const said: Certified = {
    magic: GENERATED,
    type: attestType.CERTIFY,
    qualifiedSigner: qualifiedNameOf('endorsement', nameOf(ak.area)),
    extraData: NONCE,
    name,
    qualifiedName: qualifiedNameOf('endorsement', name),
    safe: 1,
    tail: Buffer.alloc(0),
    ...changes,
  }
  const head = new Writer().u32(said.magic).u16(said.type).sized(said.qualifiedSigner).sized(said.extraData)
  head.u32(0).u32(5_000_000).u32(7).u32(2).u8(said.safe).bytes(Buffer.from('2024012500120000', 'hex'))
  const attest = head.sized(said.name).sized(said.qualifiedName).bytes(said.tail).done()
  return { public: area, attest, signature: signAs(ak, attest) }
}
