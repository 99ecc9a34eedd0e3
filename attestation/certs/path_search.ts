import { anchorsNamed, isSignedWith } from './anchored.ts'
import { type Certificate, extension, valueIn } from './certificate.ts'
import { isOfEndorsementKey } from './ek_certificate.ts'
import { DIRECTORY_NAME } from './name_forms.ts'
import { comparable } from './names.ts'

/** From the certificate in question to a trust anchor. */
export type Path = readonly [Certificate, Certificate, ...Certificate[]]

/** The most certificates in a path, paths that are judged, and signatures that are verified to find them. */
const limit = { path: 6, paths: 8, signatures: 64 }

/**
 * Every chain of names and signatures from a certificate to an anchor, shortest detour first: whether it is a valid path is for
 * others to say. No certificate is in a path twice, so crosswise signed CAs make no loop.
 * @param intermediates those that lead to an anchor, see `anchoredOf`
 * @param anchors DER
 * @returns the paths, and whether the search was given up at its limits
 */
export function findPaths(leaf: Certificate, intermediates: readonly Certificate[], anchors: readonly Uint8Array[]) {
  const search: Search = { intermediates, anchors, paths: [], signatures: 0 }
  extend([leaf], search)
  return { paths: search.paths, exhausted: search.signatures >= limit.signatures }
}

type Search = {
  readonly intermediates: readonly Certificate[]
  readonly anchors: readonly Uint8Array[]
  readonly paths: Path[]
  signatures: number
}
function extend(chain: readonly [Certificate, ...Certificate[]], search: Search): void {
  const last = chain.at(-1) ?? chain[0]
  for (const issuer of anchorsNamed(last.issuer, search.anchors)) {
    if (signed(last, issuer, search)) search.paths.push([chain[0], ...chain.slice(1), issuer] as unknown as Path)
  }
  if (chain.length >= limit.path - 1) return
  for (const issuer of search.intermediates) {
    const linked = issuer.subject.equals(last.issuer) && !chain.some(one => one.sha256 === issuer.sha256)
    // a TPM that certifies another one is no link of a chain, and not merely a CA whose certificate lacks something
    if (linked && !isOfEndorsementKey(issuer) && signed(last, issuer, search)) extend([...chain, issuer], search)
  }
}

/** Identifiers, then the signature; neither is verified when the search was long enough. */
function signed(certificate: Certificate, issuer: Certificate, search: Search): boolean {
  if (search.signatures >= limit.signatures || search.paths.length >= limit.paths) return false
  if (!identifiersFit(certificate, issuer)) return false
  search.signatures += 1
  return isSignedWith(certificate, issuer)
}

/** What the certificate says of its issuer's key, and of its issuer's certificate (RFC 5280 4.2.1.1), as far as it says so and the issuer has one. */
function identifiersFit(certificate: Certificate, issuer: Certificate): boolean {
  const wanted = valueIn(certificate, extension.authorityKeyIdentifier)
  const given = valueIn(issuer, extension.subjectKeyIdentifier)
  if (wanted?.keyIdentifier && given && !sameOctets(wanted.keyIdentifier, given)) return false
  if (wanted?.authorityCertSerialNumber && !sameOctets(wanted.authorityCertSerialNumber, issuer.asn1.serialNumber)) return false
  const names = (wanted?.authorityCertIssuer ?? []).filter(({ type }) => type === DIRECTORY_NAME)
  return (
    names.length === 0 || names.some(({ value }) => comparable(new Uint8Array(value.toSchema().toBER())).equals(issuer.issuer))
  )
}

type Octets = { readonly valueBlock: { readonly valueHexView: Uint8Array } }

function sameOctets(left: Octets, right: Octets): boolean {
  return Buffer.from(left.valueBlock.valueHexView).equals(right.valueBlock.valueHexView)
}
