import { type AlgorithmIdentifier, RSASSAPSSParams } from 'pkijs'
import type { Refusal } from '../refusals.ts'
import { type Rejection, reject } from '../verdict.ts'
import { type Certificate, extension, valueIn } from './certificate.ts'
import { violation } from './name_constraints.ts'
import type { Path } from './path_search.ts'

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
  ['NAME_CONSTRAINTS', ({ place, path }) => (place > 0 ? violation(path, place) : undefined)],
]

/** Signature algorithms by OID: the hash, or that it is in the parameters. */
const signatureHash = new Map<string, string>([
  ['1.2.840.113549.1.1.4', 'md5'],
  ['1.2.840.113549.1.1.5', 'sha1'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.1', 'sha1'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
])
const RSASSA_PSS = '1.2.840.113549.1.1.10'
const pssHash = new Map<string, string>([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
])

function hashOf({ algorithmId, algorithmParams }: AlgorithmIdentifier): string | undefined {
  if (algorithmId !== RSASSA_PSS) return signatureHash.get(algorithmId)
  try {
    return pssHash.get(new RSASSAPSSParams({ schema: algorithmParams }).hashAlgorithm.algorithmId)
  } catch {
    return undefined
  }
}

/** The anchor is trusted without its signature. */
function unknownSignature({ certificate: { asn1 }, place, path }: Step): Fault {
  if (place === path.length - 1) return undefined
  return hashOf(asn1.signatureAlgorithm) === undefined ? `is signed with ${asn1.signatureAlgorithm.algorithmId}` : undefined
}

function weakSignature({ certificate: { asn1 }, place, path, rules }: Step): Fault {
  if (place === path.length - 1) return undefined
  const hash = hashOf(asn1.signatureAlgorithm)
  const weak = hash === 'md5' || (hash === 'sha1' && !rules.allowSha1)
  return weak ? `is signed over a digest of ${hash}` : undefined
}

const strongCurves: readonly (string | undefined)[] = ['prime256v1', 'secp384r1', 'secp521r1']

function weakIssuer({ certificate: { x509 }, place }: Step): Fault {
  if (place === 0) return undefined
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = x509.publicKey
  const strong = type === 'ec' ? strongCurves.includes(details.namedCurve) : (details.modulusLength ?? 0) >= 2048
  return strong ? undefined : `has a key of kind ${type} with ${details.namedCurve ?? details.modulusLength} that is too weak`
}

function outOfTime({ certificate: { asn1 }, place, rules: { at, allowExpiredLeaf } }: Step): Fault {
  if (asn1.notBefore.value > at) return `is not valid before ${asn1.notBefore.value.toISOString()}`
  if (asn1.notAfter.value >= at || (place === 0 && allowExpiredLeaf)) return undefined
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

const KEY_CERT_SIGN = 0x04

function noCa({ certificate, place }: Step): Fault {
  if (place === 0) return undefined
  if (valueIn(certificate, basicConstraints)?.cA !== true) return 'issued a certificate without being a CA'
  const usage = valueIn(certificate, keyUsage)
  const mayCertify = usage === undefined || ((usage.valueBlock.valueHexView[0] ?? 0) & KEY_CERT_SIGN) !== 0
  return mayCertify ? undefined : 'issued a certificate with a key that is not for it'
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
