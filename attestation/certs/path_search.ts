import { type Certificate, extension, readCertificate, valueIn } from './certificate.ts'
import { isOfEndorsementKey } from './ek_certificate.ts'
import { namesOf } from './names.ts'

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
  const search: Search = { intermediates, anchors: indexOf(anchors), paths: [], signatures: 0 }
  extend([leaf], search)
  return { paths: search.paths, exhausted: search.signatures >= limit.signatures }
}

type Search = {
  readonly intermediates: readonly Certificate[]
  readonly anchors: Anchors
  readonly paths: Path[]
  signatures: number
}
/** DER by subject, in the form by which names are compared, in hexadecimal. */
type Anchors = ReadonlyMap<string, readonly Uint8Array[]>

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

/** An anchor is read when its name is the one wanted: a mount may have thousands of them. */
function anchorsNamed(name: Buffer, { anchors }: Search): Certificate[] {
  return (anchors.get(name.toString('hex')) ?? []).flatMap(der => certificateOf(der) ?? [])
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

const indices = new WeakMap<readonly Uint8Array[], Anchors>()

function indexOf(anchors: readonly Uint8Array[]): Anchors {
  const known = indices.get(anchors)
  if (known) return known
  const index = new Map<string, Uint8Array[]>()
  for (const der of anchors) {
    const subject = subjectOf(der)
    const alike = index.get(subject)
    if (alike) alike.push(der)
    else index.set(subject, [der])
  }
  indices.set(anchors, index)
  return index
}

const read = new WeakMap<Uint8Array, Certificate>()

/** An anchor with something in it that cannot be read certifies nobody. */
function certificateOf(der: Uint8Array): Certificate | undefined {
  const known = read.get(der)
  if (known) return known
  const certificate = readCertificate(der)
  if (!certificate.ok) return undefined
  read.set(der, certificate.value)
  return certificate.value
}

/** The anchors are ours: that one is none is no verdict on the evidence. */
function subjectOf(der: Uint8Array): string {
  const names = namesOf(der)
  if (names === undefined) throw new TypeError('a trust anchor is not a certificate in DER')
  return names.subject.toString('hex')
}
