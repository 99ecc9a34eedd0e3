import { type Certificate, type Outline, readCertificate } from './certificate.ts'
import { namesOf } from './names.ts'

type Anchors = readonly Uint8Array[]

/**
 * Of certificates that somebody sent, those that lead to an anchor by Names and signatures. No others are read any further: anybody can make some
 * that take a tenth of a second each, and sign hundreds of paths crosswise with keys of any kind. So nothing is verified but by keys of anchors,
 * and of what these have signed.
 * @param anchors DER
 */
export function anchoredOf<Sent extends Outline>(sent: readonly Sent[], anchors: Anchors): Sent[] {
  const anchored: Sent[] = sent.filter(one => anchorsNamed(one.issuer, anchors).some(anchor => isSignedWith(one, anchor)))
  for (const issuer of anchored) // grows meanwhile
    for (const one of sent)
      if (!anchored.includes(one) && one.issuer.equals(issuer.subject) && isSignedWith(one, issuer)) anchored.push(one)
  return sent.filter(one => anchored.includes(one))
}

/** An anchor is read when its name is the one wanted: a mount may have thousands of them. */
export function anchorsNamed(name: Buffer, anchors: Anchors): Certificate[] {
  return (indexOf(anchors).get(name.toString('hex')) ?? []).flatMap(der => certificateOf(der) ?? [])
}

/** Whether this key signed it, whatever it may be for. What it did sign is not verified again. */
export function isSignedWith(certificate: Outline, issuer: Outline): boolean {
  const known = signers.get(certificate) ?? new WeakSet()
  if (known.has(issuer)) return true
  try {
    if (!certificate.x509.verify(issuer.x509.publicKey)) return false
  } catch {
    return false // a key that cannot verify has signed nothing
  }
  signers.set(certificate, known.add(issuer))
  return true
}

const signers = new WeakMap<Outline, WeakSet<Outline>>()

/** DER by subject, in the form by which names are compared, in hexadecimal. */
type Index = ReadonlyMap<string, readonly Uint8Array[]>
const indices = new WeakMap<Anchors, Index>()

function indexOf(anchors: Anchors): Index {
  const known = indices.get(anchors)
  if (known) return known
  const index = Map.groupBy(anchors, subjectOf)
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
