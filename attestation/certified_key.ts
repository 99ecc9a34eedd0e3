import { type AttestRules, attested, type SignedAttest } from './attested.ts'
import { weakName, weakRsa, wrongAttributes } from './key_faults.ts'
import { type Hierarchy, qualifiedNameOf, qualifiedUnder } from './qualified_name.ts'
import { sameBytes } from './same_bytes.ts'
import { thumbprintOf } from './thumbprint.ts'
import { parseCertification } from './tpm2/attest.ts'
import { attribute } from './tpm2/constants.ts'
import { jwkOf, nameOf, type Public, parsePublic } from './tpm2/public.ts'
import { accept, reject, type Verdict } from './verdict.ts'

/** A key that the attester wants bound to what it is given, and the TPM's word on it by TPM2_Certify. */
export type KeyEvidence = SignedAttest & {
  /** TPMT_PUBLIC of the key */
  readonly public: Uint8Array
  /** TPMT_PUBLIC of the storage key that it was made under; left out for a primary key, and for a child of the EK */
  readonly parent?: Uint8Array
}

/** The key answers the same challenge as the quote beside it. */
export type KeyRules = Required<AttestRules> & {
  /** TPMT_PUBLIC of the endorsement key */
  readonly ekPublic: Uint8Array
}

/** A key that is in the TPM and never was anywhere else. */
export type CertifiedKey = {
  readonly public: Public
  readonly name: Buffer
  /** RFC 7638 SHA-256 thumbprint, base64url */
  readonly thumbprint: string
}

/**
 * Judges a key to bind: made in the TPM of the attestation key, fixed there, and for signing what it is given (TPM 2.0 Library
 * Part 3, TPM2_Certify; Part 2, TPMS_CERTIFY_INFO). The checks, in order: the structure; the signature; whether it answers this
 * challenge; where the attestation key lives; the public area and its attributes; its Name; its strength; its parents.
 * @returns what `parseCertification`, `verifySignature` and `parsePublic` return when refused, NONCE_MISMATCH,
 *   QUALIFIED_SIGNER, KEY_ATTRIBUTES, WEAK_KEY, KEY_NAME or KEY_PARENT
 */
export function verifyCertifiedKey(evidence: KeyEvidence, rules: KeyRules): Verdict<CertifiedKey> {
  const said = attested(parseCertification, evidence, rules)
  if (!said.ok) return said
  const area = parsePublic(evidence.public)
  if (!area.ok) return area
  const name = nameOf(area.value.bytes, area.value.nameAlg)
  const attributes = wrongAttributes(area.value, wanted, free)
  if (attributes !== undefined) return reject('KEY_ATTRIBUTES', attributes)
  if (!sameBytes(said.value.name, name))
    return reject('KEY_NAME', `the Name of the certified key is ${said.value.name.toString('hex')}`)
  // after the Name: what no TPM has made may take its time to judge
  const weakness = weakName(area.value) ?? weakRsa(area.value)
  if (weakness !== undefined) return reject('WEAK_KEY', weakness)
  const places = placesOf(name, rules.ekPublic, evidence.parent)
  if (!places.some(place => sameBytes(said.value.qualifiedName, place)))
    return reject('KEY_PARENT', `the qualified name of the key is ${said.value.qualifiedName.toString('hex')}`)
  return accept({ public: area.value, name, thumbprint: thumbprintOf(jwkOf(area.value)) })
}

const { fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, decrypt } = attribute
const { userWithAuth, adminWithPolicy, noDA } = attribute
/** So restricted, stClear, encryptedDuplication and reserved bits are clear: a restricted key would sign what attests. */
const wanted = fixedTPM | fixedParent | sensitiveDataOrigin | sign
const free = userWithAuth | adminWithPolicy | noDA | decrypt

const primaries: readonly Hierarchy[] = ['endorsement', 'owner']
const storage = fixedTPM | fixedParent | sensitiveDataOrigin | restricted | decrypt

/** The qualified names that the key may have: as a primary key, or under the parent that was sent, or under the EK. */
function placesOf(name: Buffer, ekPublic: Uint8Array, parent: Uint8Array | undefined): Buffer[] {
  if (parent === undefined)
    return [...primaries.map(hierarchy => qualifiedNameOf(hierarchy, name)), qualifiedNameOf('ek', name, ekPublic)]
  const area = parsePublic(parent)
  if (!area.ok || (area.value.attributes & ~(userWithAuth | adminWithPolicy | noDA)) !== storage) return []
  return primaries.map(hierarchy => qualifiedUnder(qualifiedNameOf(hierarchy, nameOf(parent)), name))
}
