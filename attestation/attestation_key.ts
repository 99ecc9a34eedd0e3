import { weakName, weakRsa, wrongAttributes } from './key_faults.ts'
import type { Refusal } from './refusals.ts'
import { alg, attribute } from './tpm2/constants.ts'
import { isKey, nameOf, type Public, readPublic } from './tpm2/public.ts'
import { type SigningKey, schemeOf, verifyingKey } from './tpm2/signature.ts'
import { accept, reject, type Verdict } from './verdict.ts'

/** A key whose signature means that a TPM made the statement. */
export type AttestationKey = SigningKey & {
  /** TPM2B_NAME.name, computed here */
  readonly name: Buffer
}

/** What else than the defaults an operator allows for attestation keys. */
export type AkRules = {
  /** authPolicy digests that a key may carry; it may always have none */
  readonly authPolicies?: readonly Uint8Array[]
}

/**
 * Admits a TPMT_PUBLIC as an attestation key: one that signs nothing but what its TPM attests, and that cannot leave it. The
 * checks, in order: kind, encoding, attributes and scheme, nameAlg, strength, curve and point (TPM 2.0 Library Part 2,
 * TPMT_PUBLIC and TPMA_OBJECT).
 * @returns LIMIT, BAD_KEY, UNSUPPORTED_ALG, TRUNCATED, TRAILING_DATA, AK_ATTRIBUTES, WEAK_HASH or WEAK_KEY when refused
 */
export function admitAk(publicBytes: Uint8Array, rules: AkRules = {}): Verdict<AttestationKey> {
  const read = readPublic(publicBytes)
  if (!read.ok) return read
  const area = read.value
  for (const [code, fault] of checks) {
    const detail = fault(area, rules)
    if (detail !== undefined) return reject(code, detail)
  }
  const { scheme, hash } = signing(area)
  return accept({ name: nameOf(area.bytes, area.nameAlg), key: verifyingKey(area, scheme), scheme, hash, public: area })
}

type Check = readonly [Refusal, (area: Public, rules: AkRules) => string | undefined]

const checks: readonly Check[] = [
  ['AK_ATTRIBUTES', area => wrongAttributes(area, wanted, free)],
  ['AK_ATTRIBUTES', wrongScheme],
  ['AK_ATTRIBUTES', area => (area.symmetric === null ? undefined : 'a signing key has no symmetric algorithm')],
  ['AK_ATTRIBUTES', unknownPolicy],
  ['WEAK_HASH', area => (area.scheme?.hash === 'sha1' ? 'the scheme of the key signs SHA-1 digests' : undefined)],
  ['WEAK_KEY', weakName],
  ['WEAK_KEY', weakRsa],
  ['BAD_KEY', area => (isKey(area) ? undefined : 'the point is not on its curve')],
]

const { fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, userWithAuth, adminWithPolicy, noDA } = attribute
/** So decrypt, stClear, encryptedDuplication and reserved bits are clear. */
const wanted = fixedTPM | fixedParent | sensitiveDataOrigin | restricted | sign
const free = userWithAuth | adminWithPolicy | noDA

function wrongScheme({ kind, scheme }: Public): string | undefined {
  if (scheme === null) return 'the key has no scheme'
  const fits = kind === 'ecc' ? scheme.alg === alg.ECDSA : scheme.alg === alg.RSASSA || scheme.alg === alg.RSAPSS
  return fits ? undefined : `scheme 0x${scheme.alg.toString(16)} is not one for signing`
}

function unknownPolicy({ authPolicy }: Public, { authPolicies = [] }: AkRules): string | undefined {
  if (authPolicy.length === 0 || authPolicies.some(policy => authPolicy.equals(policy))) return undefined
  return `authPolicy ${authPolicy.toString('hex')} is not among those allowed`
}

function signing({ scheme }: Public): Pick<AttestationKey, 'scheme' | 'hash'> {
  const name = scheme && schemeOf(scheme.alg)
  if (!name || !scheme.hash) throw new TypeError('a key was admitted without a scheme')
  return { scheme: name, hash: scheme.hash }
}
