import type { Refusal } from '../refusals.ts'
import { type Rejection, reject } from '../verdict.ts'
import { type Certificate, extension, isCa, usage, usageIn, valueIn } from './certificate.ts'
import { violation } from './name_constraints.ts'
import type { Path } from './path_search.ts'
import { isWeak, signatureHashOf } from './signature_hash.ts'

export type PathRules = {
  readonly at: Date
  /** accepts SHA-1 signatures below the anchor, for makers that never did better */
  readonly allowSha1?: boolean
  /** accepts a first certificate whose time is over: a TPM outlives it */
  readonly allowExpiredLeaf?: boolean
}

/** The first rule that a path breaks. That its names and signatures are right was seen when it was found. */
export function judge(path: Path, rules: PathRules): Rejection | undefined {
  for (const [code, fault] of checks) {
    for (const [place, certificate] of path.entries()) {
      const detail = fault({ certificate, place, path, rules })
      if (detail !== undefined) return reject(code, `certificate ${place} of the path ${detail}`)
    }
  }
  return undefined
}

/** A certificate in its path: place 0 is the one in question, the last one is the anchor. */
type Step = { readonly certificate: Certificate; readonly place: number; readonly path: Path; readonly rules: PathRules }
type Fault = string | undefined

/** RFC 5280 6.1 with a floor for algorithms. */
const checks: readonly (readonly [Refusal, (step: Step) => Fault])[] = [
  ['UNSUPPORTED_ALG', unknownSignature],
  ['WEAK_HASH', weakSignature],
  ['WEAK_KEY', weakIssuer],
  ['CERT_EXPIRED', outOfTime],
  ['UNKNOWN_CRITICAL_EXT', unknownCritical],
  ['NOT_A_CA', noCa],
  ['PATH_LEN', tooLong],
  ['NAME_CONSTRAINTS', ({ place, path }) => violation(path, place)],
]

/** The anchor is trusted without its signature. */
function unknownSignature({ certificate: { asn1 }, place, path }: Step): Fault {
  if (place === path.length - 1) return undefined
  return signatureHashOf(asn1.signatureAlgorithm) === undefined
    ? `is signed with ${asn1.signatureAlgorithm.algorithmId}`
    : undefined
}

function weakSignature({ certificate: { asn1 }, place, path, rules }: Step): Fault {
  if (place === path.length - 1) return undefined
  const hash = signatureHashOf(asn1.signatureAlgorithm)
  return isWeak(hash, rules.allowSha1) ? `is signed over a digest of ${hash}` : undefined
}

const strongCurves: readonly (string | undefined)[] = ['prime256v1', 'secp384r1', 'secp521r1']

function weakIssuer({ certificate: { x509 }, place }: Step): Fault {
  if (place === 0) return undefined
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = x509.publicKey
  const strong = type === 'ec' ? strongCurves.includes(details.namedCurve) : (details.modulusLength ?? 0) >= 2048
  return strong ? undefined : `has a key of kind ${type} with ${details.namedCurve ?? details.modulusLength} that is too weak`
}

/** The last instant counts as over, as with OpenSSL; RFC 5280 (4.1.2.5) would let it in. */
function outOfTime({ certificate: { asn1 }, place, rules: { at, allowExpiredLeaf } }: Step): Fault {
  if (asn1.notBefore.value > at) return `is not valid before ${asn1.notBefore.value.toISOString()}`
  if (asn1.notAfter.value > at || (place === 0 && allowExpiredLeaf)) return undefined
  return `was valid until ${asn1.notAfter.value.toISOString()}`
}

const { keyUsage, subjectAltName, basicConstraints, nameConstraints, certificatePolicies, extKeyUsage } = extension
const known = [keyUsage, subjectAltName, basicConstraints, nameConstraints, certificatePolicies, extKeyUsage].map(
  ({ oid }) => oid,
)

function unknownCritical({ certificate: { extensions } }: Step): Fault {
  const unknown = [...extensions.values()].find(({ critical, extnID }) => critical && !(known as string[]).includes(extnID))
  return unknown && `has the critical extension ${unknown.extnID}`
}

function noCa({ certificate, place }: Step): Fault {
  if (place === 0) return undefined
  if (!isCa(certificate)) return 'issued a certificate without being a CA'
  const bits = usageIn(certificate)
  return bits === undefined || (bits & usage.keyCertSign) !== 0 ? undefined : 'issued a certificate with a key that is not for it'
}

/** Self-issued certificates do not count, nor does the one in question (RFC 5280 4.2.1.9). */
function tooLong({ certificate, place, path }: Step): Fault {
  const most = valueIn(certificate, basicConstraints)?.pathLenConstraint
  if (place === 0 || most === undefined) return undefined
  const between = path.slice(1, place).filter(one => !one.subject.equals(one.issuer)).length
  return between > Number(typeof most === 'number' ? most : most.toBigInt())
    ? `allows ${Number(most)} CAs below it, there are ${between}`
    : undefined
}
