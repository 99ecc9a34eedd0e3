import { Certificate as Asn1Certificate, CertificateChainValidationEngine } from 'pkijs'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import { type Certificate, readCertificate } from './certificate.ts'
import { judge, type PathRules } from './path_checks.ts'
import { findPaths, type Path } from './path_search.ts'

const INTERMEDIATES = 8

export type Trust = PathRules & {
  /** DER of the certificates that are trusted, whoever signed them */
  readonly anchors: readonly Uint8Array[]
}

/**
 * Finds a path of 2 to 6 certificates from one to a trust anchor and validates it (RFC 5280 6). Every issuer with the right name is
 * tried, as makers renew keys under one name; the first valid path counts, else the fault of the first one found. A path has to
 * pass the table in `path_checks.ts`, in its order, and then pkijs has to agree. Revocation is not looked at.
 * @param intermediates DER as the attester sent it: what lies between, never trusted
 * @returns LIMIT, BAD_ENCODING, TRAILING_DATA, BAD_CHAIN, UNSUPPORTED_ALG, WEAK_HASH, WEAK_KEY, CERT_EXPIRED, UNKNOWN_CRITICAL_EXT,
 *   NOT_A_CA, PATH_LEN or NAME_CONSTRAINTS when refused
 */
export async function validatePath(
  leaf: Certificate,
  intermediates: readonly Uint8Array[],
  trust: Trust,
): Promise<Verdict<Path>> {
  if (intermediates.length > INTERMEDIATES) return reject('LIMIT', `${intermediates.length} intermediate certificates`)
  const between: Certificate[] = []
  for (const der of intermediates) {
    const certificate = readCertificate(der)
    if (!certificate.ok) return certificate
    between.push(certificate.value)
  }
  const { paths, exhausted } = findPaths(leaf, between, trust.anchors)
  let fault: Rejection | undefined
  for (const path of paths) {
    const refusal = judge(path, trust) ?? (await secondOpinion(path, trust))
    if (refusal === undefined) return accept(path)
    fault ??= refusal
  }
  if (exhausted) return fault ?? reject('LIMIT', 'too many certificates have the same name')
  return fault ?? reject('BAD_CHAIN', 'no path leads to a trust anchor')
}

/** pkijs gets the path that was found and nothing to search in: it would follow crosswise signed CAs without end. */
async function secondOpinion(path: Path, { at, allowExpiredLeaf }: PathRules): Promise<Rejection | undefined> {
  const certificates = path.map(({ asn1 }) => asn1)
  if (allowExpiredLeaf) certificates[0] = renewed(path[0], at)
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
    return reject('BAD_CHAIN', `pkijs: ${error instanceof Error ? error.message : 'no reason given'}`)
  }
}

/** pkijs has no such allowance, so it sees the certificate with a later end. */
function renewed({ der }: Certificate, at: Date): Asn1Certificate {
  const copy = Asn1Certificate.fromBER(der)
  if (copy.notAfter.value < at) copy.notAfter.value = at
  return copy
}
