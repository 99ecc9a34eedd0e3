import { createDecipheriv, createHmac, privateDecrypt, randomUUID } from 'node:crypto'
import { admitAk, admitEk, Reader } from '#attestation'
import { kdfa } from '../../attestation/tpm2/kdf.ts'
import { type Attest, answer, type FakeKey, makeAk, PCRS, pairOf, pcrValue, unwrap } from '../attestation/attester.ts'
import { type Ca, certifyEk, makeCa, named } from '../attestation/certificates.ts'
import { ekAreaOf } from '../attestation/endorsed.ts'

/** A machine with a TPM whose keys are of node:crypto: what it sends is byte for byte what a TPM would, and every part of it can be changed. */
export type Machine = {
  readonly ca: Ca
  readonly ak: FakeKey
  readonly akName: Buffer
  readonly tpmId: string
  /** what `enroll` takes */
  readonly offer: { ek_certificate: string; ek_public: string; ak_public: string }
  /** TPM2_ActivateCredential; undefined when the integrity check fails. */
  readonly activate: (credentialBlob: Buffer, encryptedSecret: Buffer) => Buffer | undefined
  /** TPM2_Quote over PCRs 0, 2, 4, 7 and 11, with `changes` signed. */
  readonly quote: (extraData: Uint8Array, changes?: Partial<Attest>) => { attest: string; signature: string; pcrs: string }
}

/** A maker of TPMs under whose root the machines of a test are. */
export const maker = makeCa(named('Infineon OPTIGA(TM) RSA Root CA', 'Infineon Technologies AG'))
export const anchorPem = (ca: Ca = maker) =>
  `-----BEGIN CERTIFICATE-----\n${ca.certificate.toString('base64')}\n-----END CERTIFICATE-----\n`

/** The PCR values that its quotes have, as reference values. */
export const REFERENCE = { sha256: Object.fromEntries(PCRS.map(pcr => [pcr, pcrValue(pcr).toString('hex')])) }

/** Two machines with the same label have the same TPM. */
export function fakeMachine({
  label = String(randomUUID()),
  ca = maker,
  ak = makeAk('P-256', 'ECDSA', 'sha256', {}, label),
} = {}): Machine {
  const pair = pairOf('rsa-2048', `ek ${label}`)
  const ekPublic = ekAreaOf(pair.publicKey)
  const ek = unwrap(admitEk(ekPublic))
  const { name: akName } = unwrap(admitAk(ak.area))
  let clock = 5_000_000n
  return {
    ca,
    ak,
    akName,
    tpmId: ek.id,
    offer: {
      ek_certificate: certifyEk(ca, pair.publicKey).toString('base64'),
      ek_public: ekPublic.toString('base64'),
      ak_public: ak.area.toString('base64'),
    },
    activate: (blob, encrypted) => {
      const oaep = { key: pair.privateKey, oaepHash: 'sha256', oaepLabel: Buffer.from('IDENTITY\0') }
      const seed = privateDecrypt(oaep, new Reader(encrypted).sized())
      const inner = new Reader(new Reader(blob).sized())
      const [tag, identity] = [inner.sized(), inner.take(inner.left)]
      const hmac = kdfa('sha256', seed, 'INTEGRITY', Buffer.alloc(0), 256)
      if (!createHmac('sha256', hmac).update(identity).update(akName).digest().equals(tag)) return undefined
      const key = kdfa('sha256', seed, 'STORAGE', akName, 128)
      return new Reader(createDecipheriv('aes-128-cfb', key, Buffer.alloc(16)).update(identity)).sized()
    },
    quote: (extraData, changes = {}) => {
      clock += 1n
      const { attest, signature, pcrs } = answer(ak, { extraData, clock, ...changes }).evidence
      return {
        attest: Buffer.from(attest).toString('base64'),
        signature: Buffer.from(signature).toString('base64'),
        pcrs,
      }
    },
  }
}
