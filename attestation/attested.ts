import type { AttestationKey } from './attestation_key.ts'
import { sameBytes } from './same_bytes.ts'
import type { Attested } from './tpm2/attest.ts'
import { verifySignature } from './tpm2/signature.ts'
import { reject, type Verdict } from './verdict.ts'

/** What an attestation key signed, as it came. */
export type SignedAttest = {
  /** TPMS_ATTEST */
  readonly attest: Uint8Array
  /** TPMT_SIGNATURE over it */
  readonly signature: Uint8Array
}

/** Who has to say it, and in answer to what. */
export type AttestRules = {
  /** the enrolled key */
  readonly ak: AttestationKey
  /** `qualifyingData(nonce, request)` of the challenge that is answered */
  readonly qualifyingData: Uint8Array
  /** `qualifiedNameOf` the hierarchy that the key was enrolled for; not compared when left out */
  readonly qualifiedSigner?: Uint8Array
}

/** Reads a TPMS_ATTEST and judges who says it, and to which question, before what is said: structure, signature, challenge, where the key lives. */
export function attested<Said extends Attested>(
  read: (attest: Uint8Array) => Verdict<Said>,
  { attest, signature }: SignedAttest,
  { ak, qualifyingData, qualifiedSigner }: AttestRules,
): Verdict<Said> {
  const said = read(attest)
  if (!said.ok) return said
  const signed = verifySignature(signature, attest, ak)
  if (!signed.ok) return signed
  if (!sameBytes(said.value.extraData, qualifyingData)) return reject('NONCE_MISMATCH', 'extraData is not the expected digest')
  if (qualifiedSigner && !sameBytes(said.value.qualifiedSigner, qualifiedSigner))
    return reject('QUALIFIED_SIGNER', `qualifiedSigner is ${said.value.qualifiedSigner.toString('hex')}`)
  return said
}
