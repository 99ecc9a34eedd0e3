import { CRLDistributionPoints } from 'pkijs'
import { type Rejection, reject } from '../verdict.ts'
import { type Certificate, isCa, usage, usageIn } from './certificate.ts'
import { type RevocationList, readRevocationList, serialOf } from './crl.ts'
import { URI } from './name_forms.ts'
import type { Path } from './path_search.ts'
import { isWeak, signatureHashOf } from './signature_hash.ts'

/** Whether lists are looked at; `soft` goes on without one that is current, `hard` wants one of every CA of a path. */
export const revocationPolicies = ['off', 'soft', 'hard'] as const
export type RevocationPolicy = (typeof revocationPolicies)[number]

export type RevocationRules = {
  readonly at: Date
  /** `off` when left out */
  readonly revocation?: RevocationPolicy
  /** DER of revocation lists, of any issuers; the same array means the same lists, so what is read of them is kept */
  readonly lists?: readonly Uint8Array[]
  readonly allowSha1?: boolean
}

/** What the lists say of a path that none of them speaks against. */
export type Unrevoked = {
  /** whether a current list was at hand for every certificate below the anchor */
  readonly revocation: 'unchecked' | 'checked' | 'unknown'
  /** when the first of those lists ends */
  readonly until?: Date
}

/**
 * Looks every certificate below the anchor up in the lists that its issuer has signed (RFC 5280 6.3, without delta and indirect
 * lists). What an outdated list says of a certificate still counts against it.
 * @returns REVOKED or NO_CRL when refused
 */
export async function lookUp(path: Path, rules: RevocationRules): Promise<Unrevoked | Rejection> {
  const { revocation: policy = 'off' } = rules
  if (policy === 'off') return { revocation: 'unchecked' }
  const ends: (Date | undefined)[] = []
  for (const [place, certificate] of path.slice(0, -1).entries()) {
    const lists = await listsFor(certificate, path[place + 1] ?? certificate, rules)
    if (lists.some(({ serials }) => serials.has(serialOf(certificate.asn1.serialNumber))))
      return reject('REVOKED', `certificate ${place} of the path was revoked by its issuer`)
    const end = endOf(lists, rules.at)
    if (end === undefined && policy === 'hard') return reject('NO_CRL', `certificate ${place} of the path: ${outdated(lists)}`)
    ends.push(end)
  }
  const known = ends.filter(end => end !== undefined).toSorted((one, other) => one.getTime() - other.getTime())
  return { revocation: known.length === ends.length ? 'checked' : 'unknown', ...(known[0] && { until: known[0] }) }
}

function outdated(lists: readonly RevocationList[]): string {
  const last = lists
    .map(({ nextUpdate }) => nextUpdate?.toISOString() ?? 'no date')
    .toSorted()
    .at(-1)
  return last === undefined ? 'there is no revocation list of its issuer' : `the last revocation list ended ${last}`
}

/** Until when the lists are current: undefined when none is. */
function endOf(lists: readonly RevocationList[], at: Date): Date | undefined {
  const current = lists.flatMap(({ thisUpdate, nextUpdate }) =>
    nextUpdate !== undefined && thisUpdate <= at && at < nextUpdate ? [nextUpdate] : [],
  )
  return current.toSorted((one, other) => other.getTime() - one.getTime())[0]
}

async function listsFor(certificate: Certificate, issuer: Certificate, rules: RevocationRules): Promise<RevocationList[]> {
  const named = indexOf(rules.lists ?? []).get(certificate.issuer.toString('hex')) ?? []
  const lists: RevocationList[] = []
  for (const list of named) if (covers(list, certificate) && (await isSignedBy(list, issuer, rules))) lists.push(list)
  return lists
}

const indices = new WeakMap<readonly Uint8Array[], ReadonlyMap<string, readonly RevocationList[]>>()

/** Lists by their issuer, in hexadecimal. */
function indexOf(lists: readonly Uint8Array[]): ReadonlyMap<string, readonly RevocationList[]> {
  const known = indices.get(lists)
  if (known) return known
  const index = Map.groupBy(lists.map(listIn), ({ issuer }) => issuer.toString('hex'))
  indices.set(lists, index)
  return index
}

/** The lists are ours: that one cannot be read is no verdict on the evidence. */
function listIn(der: Uint8Array): RevocationList {
  const read = readRevocationList(der)
  if (!read.ok) throw new TypeError(`a revocation list cannot be used: ${read.detail}`)
  return read.value
}

const DISTRIBUTION_POINTS = '2.5.29.31'

function covers({ scope }: RevocationList, certificate: Certificate): boolean {
  if (isCa(certificate) ? scope.usersOnly : scope.casOnly) return false
  return scope.places === undefined || placesIn(certificate).some(place => scope.places?.includes(place))
}

/** Where a certificate says that it would be listed. */
function placesIn({ extensions }: Certificate): string[] {
  const value = extensions.get(DISTRIBUTION_POINTS)?.parsedValue
  const points = value instanceof CRLDistributionPoints ? value.distributionPoints : []
  const names = points.flatMap(({ distributionPoint }) => (Array.isArray(distributionPoint) ? distributionPoint : []))
  return names.filter(({ type }) => type === URI).map(({ value: place }) => String(place))
}

const verified = new WeakMap<RevocationList, Map<string, Promise<boolean>>>()

/** By a CA that may sign lists, over a digest that is not weak. Each pair is verified once. */
export function isSignedBy(
  list: RevocationList,
  issuer: Certificate,
  { allowSha1 = false }: Pick<RevocationRules, 'allowSha1'>,
): Promise<boolean> {
  const hash = signatureHashOf(list.asn1.signatureAlgorithm)
  if (hash === undefined || isWeak(hash, allowSha1)) return Promise.resolve(false)
  const known = verified.get(list) ?? new Map<string, Promise<boolean>>()
  verified.set(list, known)
  const found = known.get(issuer.sha256) ?? verify(list, issuer)
  known.set(issuer.sha256, found)
  return found
}

async function verify(list: RevocationList, issuer: Certificate): Promise<boolean> {
  const bits = usageIn(issuer)
  if (bits !== undefined && (bits & usage.crlSign) === 0) return false
  try {
    // by its key: that the names are those of one CA was seen before, and pkijs compares them by an order that they do not have
    return await list.asn1.verify({ publicKeyInfo: issuer.asn1.subjectPublicKeyInfo })
  } catch {
    return false // a key that cannot verify has signed nothing
  }
}
