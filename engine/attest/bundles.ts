import { X509Certificate } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { isCertificate, readRevocationList } from '#attestation'
import { BrokerError } from '../errors.ts'

// Certificates and revocation lists as operators give them: many in one text.

/** A bundle as text: all makers together have some thousand certificates. */
export const BUNDLE_LIMIT = 12 * 1024 * 1024
const MOST = 5000
const MOST_LISTED = 20

type Kind = {
  readonly field: string
  readonly noun: string
  readonly label: string
  readonly is: (der: Uint8Array) => boolean
  /** by their text, which may hold both kinds */
  readonly known: LRUCache<string, readonly Buffer[]>
}
const openKnown = () => new LRUCache<string, readonly Buffer[]>({ max: 256 })
const certificates: Kind = {
  field: 'certificate',
  noun: 'certificate',
  label: 'CERTIFICATE',
  is: isCertificate,
  known: openKnown(),
}
const lists: Kind = {
  field: 'crl',
  noun: 'revocation list',
  label: 'X509 CRL',
  is: der => readRevocationList(der).ok,
  known: openKnown(),
}

/** @throws BrokerError bad_request that names everything which cannot be read, by its place in the bundle */
export const checkAnchors = (pem: string): Promise<void> => check(pem, certificates)
export const checkLists = (pem: string): Promise<void> => check(pem, lists)

/** DER of every certificate or list of a text that was checked; the same text gives the same arrays. */
export const anchorsOf = (pem: string): readonly Buffer[] => decoded(pem, certificates)
export const listsOf = (pem: string): readonly Buffer[] => decoded(pem, lists)

/** All or nothing: half of a bundle would refuse machines for reasons that nobody sees. */
async function check(pem: string, { field, noun, label, is }: Kind): Promise<void> {
  const ders = split(pem, label)
  if (ders.length === 0) throw new BrokerError('bad_request', `${field}: wanted at least one ${noun} in PEM`)
  if (ders.length > MOST) throw new BrokerError('bad_request', `${field}: wanted at most ${MOST} in one bundle`)
  const faults: string[] = []
  for (const [index, der] of ders.entries()) {
    if (der === undefined || !is(der)) faults.push(`number ${index + 1} of the bundle cannot be read`)
    if (index % 100 === 99) await setImmediate()
  }
  if (faults.length > 0) throw new BrokerError('bad_request', `${field}: ${summary(faults)}; nothing was written`)
}

/** What is there more than once, by place: it counts once, and whoever put the bundle together may want to know. */
export function repeatedIn(pem: string): readonly string[] {
  const places = new Map<string, number>()
  const repeated = split(pem, certificates.label).flatMap((der, index) => {
    const text = der?.toString('base64') ?? ''
    const first = places.get(text)
    if (first === undefined) places.set(text, index + 1)
    return first === undefined ? [] : [`number ${index + 1} of the bundle is the same as number ${first}`]
  })
  return repeated.length > 0 ? [summary(repeated)] : []
}

function summary(faults: readonly string[]): string {
  const more = faults.length - MOST_LISTED
  return [...faults.slice(0, MOST_LISTED), ...(more > 0 ? [`and ${more} more`] : [])].join(', ')
}

/** What stands between the marks, in order; undefined where it is no base64 or has no end. What stands around them is for people. */
function split(pem: string, label: string): (Buffer | undefined)[] {
  const [, ...begun] = pem.split(`-----BEGIN ${label}-----`)
  return begun.map(rest => {
    const end = rest.indexOf(`-----END ${label}-----`)
    const body = rest.slice(0, Math.max(end, 0)).replace(/\s/g, '')
    return /^[A-Za-z0-9+/]+={0,2}$/.test(body) ? Buffer.from(body, 'base64') : undefined
  })
}

function decoded(pem: string, { known, label }: Kind): readonly Buffer[] {
  const kept = known.get(pem)
  if (kept) return kept
  const ders = new Map(split(pem, label).flatMap(der => (der ? [[der.toString('base64'), der] as const] : [])))
  const once = [...ders.values()]
  known.set(pem, once)
  return once
}

export const countAnchors = (pem: string): number => anchorsOf(pem).length

/** One revocation list as it is published, in DER or PEM, as PEM. @throws BrokerError bad_request when it is neither */
export function listAsPem(bytes: Buffer): string {
  const text = bytes.toString('latin1')
  if (text.includes(`-----BEGIN ${lists.label}-----`)) return text
  if (bytes[0] !== 0x30) throw new BrokerError('bad_request', 'crl: wanted revocation lists in PEM, or one in DER')
  const body = bytes.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()
  return `-----BEGIN ${lists.label}-----\n${body}\n-----END ${lists.label}-----\n`
}

/** What an operator sees of trust anchors: the bundle and what is in it. */
export function describeAnchors(pem: string): object {
  const certificates = anchorsOf(pem).map(der => new X509Certificate(der))
  return {
    certificate: pem,
    anchors: certificates.map(one => ({
      subject: one.subject.replaceAll('\n', ', '),
      fingerprint_sha256: one.fingerprint256,
      not_after: one.validTo,
    })),
  }
}

export type DescribedList = {
  readonly issuer: string
  readonly this_update: string
  /** empty where the list does not say */
  readonly next_update: string
  /** how many certificates */
  readonly revoked: number
}

const described = new WeakMap<readonly Buffer[], readonly DescribedList[]>()

/** What an operator sees of revocation lists. It is asked at every enrolment when they end, and reading a long one takes a while. */
export function describeLists(pem: string): readonly DescribedList[] {
  const ders = listsOf(pem)
  const known = described.get(ders) ?? described.set(ders, readLists(ders)).get(ders)
  return known ?? []
}

function readLists(ders: readonly Buffer[]): readonly DescribedList[] {
  return ders.flatMap(der => {
    const read = readRevocationList(der)
    if (!read.ok) return []
    const { asn1, thisUpdate, nextUpdate, serials } = read.value
    const issuer = asn1.issuer.typesAndValues.map(({ value }) => String(value.valueBlock.value)).join(', ')
    return [
      { issuer, this_update: thisUpdate.toISOString(), next_update: nextUpdate?.toISOString() ?? '', revoked: serials.size },
    ]
  })
}
