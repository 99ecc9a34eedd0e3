import { hash } from 'node:crypto'
import { type Certificate as Asn1Certificate, CertificateChainValidationEngine } from 'pkijs'
import { accept, allOf, type Rejection, reasonOf, reject, type Verdict } from '../verdict.ts'
import { anchoredOf } from './anchored.ts'
import { asn1Of, type Certificate, extension, type Outline, outlineOf, readRest } from './certificate.ts'
import { judge, type PathRules } from './path_checks.ts'
import { findPaths, type Path } from './path_search.ts'
import { lookUp, type RevocationRules, type Unrevoked } from './revocation.ts'

const INTERMEDIATES = 8

export type Trust = PathRules &
  RevocationRules & {
    /** DER of the certificates that are trusted, whoever signed them; the same array means the same anchors, so what is read of them is kept */
    readonly anchors: readonly Uint8Array[]
  }

/** A path that was found to be valid. */
export type ValidPath = Pick<Unrevoked, 'revocation'> & {
  readonly certificates: Path
  /** up to when nothing but the clock could make it invalid: the first end of a certificate or list in it */
  readonly until: Date
}

/**
 * Finds a path of 2 to 6 certificates from one to a trust anchor and validates it (RFC 5280 6). Every issuer with the right name is
 * tried, as makers renew keys under one name; the first valid path counts, else the fault of the first one found. A path has to
 * pass the table in `path_checks.ts`, in its order, then pkijs has to agree, then the revocation lists are looked at.
 * @param intermediates DER as the attester sent it: what lies between, never trusted
 * @returns LIMIT, BAD_ENCODING, TRAILING_DATA, BAD_CHAIN, UNSUPPORTED_ALG, WEAK_HASH, WEAK_KEY, CERT_EXPIRED, UNKNOWN_CRITICAL_EXT,
 *   NOT_A_CA, PATH_LEN, NAME_CONSTRAINTS, REVOKED or NO_CRL when refused
 */
export async function validatePath(
  leaf: Certificate,
  intermediates: readonly Uint8Array[],
  trust: Trust,
): Promise<Verdict<ValidPath>> {
  if (intermediates.length > INTERMEDIATES) return reject('LIMIT', `${intermediates.length} intermediate certificates`)
  const sent = allOf(intermediates.map(outlineOfKnown))
  if (!sent.ok) return sent
  const between = allOf(anchoredOf(sent.value, trust.anchors).map(readKnown))
  if (!between.ok) return between
  const { paths, exhausted } = findPaths(leaf, between.value, trust.anchors)
  let fault: Rejection | undefined
  for (const path of paths) {
    const refusal = judge(path, trust) ?? (await secondOpinion(path, trust))
    const unrevoked = refusal ?? (await lookUp(path, trust))
    if (!('code' in unrevoked)) return accept({ certificates: path, ...unrevoked, until: endOf(path, unrevoked.until) })
    fault ??= unrevoked
  }
  if (exhausted) return fault ?? reject('LIMIT', 'too many certificates have the same name')
  return fault ?? reject('BAD_CHAIN', 'no path leads to a trust anchor')
}

/** What is read of a CA is the same for every machine below it, and reading it takes as long as the rest. */
const known = new Map<string, Certificate>()
const MOST_KNOWN = 256

function outlineOfKnown(der: Uint8Array): Verdict<Outline> {
  const kept = known.get(hash('sha256', der))
  return kept ? accept(kept) : outlineOf(der)
}

function readKnown(outline: Outline): Verdict<Certificate> {
  const kept = known.get(outline.sha256)
  if (kept) return accept(kept)
  const read = readRest(outline)
  if (!read.ok) return read
  const [oldest] = known.keys()
  if (oldest !== undefined && known.size >= MOST_KNOWN) known.delete(oldest)
  known.set(outline.sha256, read.value)
  return read
}

function endOf(path: Path, listsUntil: Date | undefined): Date {
  const ends = path.map(({ asn1 }) => asn1.notAfter.value.getTime())
  return new Date(Math.min(...ends, listsUntil?.getTime() ?? Number.POSITIVE_INFINITY))
}

/** pkijs gets the path that was found and nothing to search in: it would follow crosswise signed CAs without end. */
async function secondOpinion(path: Path, { at, allowExpiredLeaf }: PathRules): Promise<Rejection | undefined> {
  const certificates = path.map(unconstrained)
  if (allowExpiredLeaf) certificates[0] = renewed(path[0], at)
  for (const [place, one] of certificates.entries()) certificates[place] = linked(one, path[place], certificates[place + 1])
  const engine = new CertificateChainValidationEngine({
    trustedCerts: certificates.slice(-1),
    certs: certificates.slice(0, -1).toReversed(), // the last one is judged
    checkDate: at,
    findIssuer: certificate => Promise.resolve(certificates.slice(certificates.indexOf(certificate) + 1).slice(0, 1)),
  })
  try {
    const { result, resultMessage } = await engine.verify()
    return result ? undefined : reject('BAD_CHAIN', `pkijs: ${resultMessage}`)
  } catch (error) {
    return reject('BAD_CHAIN', `pkijs: ${reasonOf(error)}`)
  }
}

/**
 * Constraints on names are judged by us alone: to pkijs an empty subject, as endorsement certificates have it, is in every excluded subtree,
 * a subtree of no host holds none, and mailboxes have no case.
 */
function unconstrained({ der, asn1, extensions }: Certificate): Asn1Certificate {
  if (!extensions.has(extension.nameConstraints.oid)) return asn1
  const copy = asn1Of(der)
  copy.extensions = (copy.extensions ?? []).filter(({ extnID }) => extnID !== extension.nameConstraints.oid)
  return copy
}

/** Names were compared when the path was found: to pkijs, the attributes of an RDN have an order, and white space is not all alike. */
function linked(one: Asn1Certificate, read: Certificate | undefined, issuer: Asn1Certificate | undefined): Asn1Certificate {
  if (read === undefined || issuer === undefined || one.issuer.isEqual(issuer.subject)) return one
  const copy = one === read.asn1 ? asn1Of(read.der) : one
  copy.issuer = issuer.subject
  return copy
}

/** pkijs has no such allowance, so it sees the certificate with a later end. */
function renewed({ der }: Certificate, at: Date): Asn1Certificate {
  const copy = asn1Of(der)
  if (copy.notAfter.value < at) copy.notAfter.value = at
  return copy
}
