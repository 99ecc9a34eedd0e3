import { type Certificate, extension, readCertificate, valueIn } from './certificate.ts'
import { namesOf } from './der.ts'
import { isOfEndorsementKey } from './ek_certificate.ts'

/** From the certificate in question to a trust anchor. */
export type Path = readonly [Certificate, Certificate, ...Certificate[]]

/** The most certificates in a path, paths that are judged, and signatures that are verified to find them. */
const limit = { path: 6, paths: 8, signatures: 64 }

/**
 * Every chain of names and signatures from a certificate to an anchor, shortest detour first: whether it is a valid path is for
 * others to say. No certificate is in a path twice, so crosswise signed CAs make no loop.
 * @param anchors DER
 * @returns the paths, and whether the search was given up at its limits
 */
export function findPaths(leaf: Certificate, intermediates: readonly Certificate[], anchors: readonly Uint8Array[]) {
  const search: Search = {
    intermediates,
    anchors: anchors.map(der => ({ der, subject: subjectOf(der) })),
    paths: [],
    signatures: 0,
  }
  extend([leaf], search)
  return { paths: search.paths, exhausted: search.signatures >= limit.signatures }
}

type Search = {
  readonly intermediates: readonly Certificate[]
  readonly anchors: readonly Anchor[]
  readonly paths: Path[]
  signatures: number
}
type Anchor = { readonly der: Uint8Array; readonly subject: Buffer }

function extend(chain: readonly [Certificate, ...Certificate[]], search: Search): void {
  const last = chain.at(-1) ?? chain[0]
  for (const issuer of anchorsNamed(last.issuer, search)) {
    if (signed(last, issuer, search)) search.paths.push([chain[0], ...chain.slice(1), issuer] as unknown as Path)
  }
  if (chain.length >= limit.path - 1) return
  for (const issuer of search.intermediates) {
    const linked = issuer.subject.equals(last.issuer) && !chain.some(one => one.sha256 === issuer.sha256)
    // a TPM that certifies another one is no link of a chain, and not merely a CA whose certificate lacks something
    if (linked && !isOfEndorsementKey(issuer) && signed(last, issuer, search)) extend([...chain, issuer], search)
  }
}

/** An anchor is read when its name is the one wanted: a mount may have hundreds of them. */
function anchorsNamed(name: Buffer, { anchors }: Search): Certificate[] {
  return anchors.filter(({ subject }) => subject.equals(name)).map(({ der }) => certificateOf(der))
}

/** Key identifiers, where both have one, then the signature; neither is verified when the search was long enough. */
function signed(certificate: Certificate, issuer: Certificate, search: Search): boolean {
  if (search.signatures >= limit.signatures || search.paths.length >= limit.paths) return false
  if (!identifiersFit(certificate, issuer)) return false
  search.signatures += 1
  try {
    return certificate.x509.verify(issuer.x509.publicKey)
  } catch {
    return false // a key that cannot verify has signed nothing
  }
}

function identifiersFit(certificate: Certificate, issuer: Certificate): boolean {
  const wanted = valueIn(certificate, extension.authorityKeyIdentifier)?.keyIdentifier
  const given = valueIn(issuer, extension.subjectKeyIdentifier)
  if (wanted === undefined || given === undefined) return true
  return Buffer.from(wanted.valueBlock.valueHexView).equals(given.valueBlock.valueHexView)
}

/** The anchors are ours: that one cannot be read is no verdict on the evidence. */
function certificateOf(der: Uint8Array): Certificate {
  const read = readCertificate(der)
  if (!read.ok) throw new TypeError(`a trust anchor is not a certificate: ${read.detail}`)
  return read.value
}

function subjectOf(der: Uint8Array): Buffer {
  const names = namesOf(der)
  if (names === undefined) throw new TypeError('a trust anchor is not a certificate in DER')
  return names.subject
}
