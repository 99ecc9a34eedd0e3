import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Credential } from '../issuers/issuer.ts'

/** Credentials that answer the same decision again while they are young, and one flight for all who ask at once. Memory only; a restart forgets them. */
export type Reuse = {
  /** @param decision everything that was decided and everything that it was decided from, but when: two that differ in anything never share
   *  @param end seconds since the epoch: what lives longer is not given for this decision */
  readonly of: (
    decision: object,
    end: number,
    make: () => Promise<Credential>,
  ) => Promise<{ credential: Credential; reused: boolean }>
}

const KEPT = 10_000
/** Ends are counted in whole seconds from different moments. */
const SLACK_SECONDS = 2

export function openReuse(now: () => number): Reuse {
  const kept = new LRUCache<string, { credential: Credential; bornAt: number }>({ max: KEPT })
  const flights = new Map<string, Promise<Credential>>()
  const fly = async (key: string, make: () => Promise<Credential>): Promise<Credential> => {
    const flight = make()
    flights.set(key, flight)
    try {
      const credential = await flight
      kept.set(key, { credential, bornAt: now() })
      return credential
    } finally {
      if (flights.get(key) === flight) flights.delete(key)
    }
  }
  return {
    of: async (decision, end, make) => {
      const fits = ({ expiresAt }: Credential) => expiresAt <= end + SLACK_SECONDS
      const key = keyOf(decision)
      const found = kept.get(key)
      if (found && fits(found.credential) && isYoung(found, now())) return { credential: found.credential, reused: true }
      const flight = flights.get(key)
      const under = flight && (await flight)
      return under && fits(under) ? { credential: under, reused: true } : { credential: await fly(key, make), reused: false }
    },
  }
}

/** Half of its life is left. */
function isYoung({ credential, bornAt }: { credential: Credential; bornAt: number }, now: number): boolean {
  const end = credential.expiresAt * 1000
  return now >= bornAt && end - now >= (end - bornAt) / 2
}

/** SHA-256 of the canonical JSON: members in order, so that nothing but the content counts. */
function keyOf(decision: object): string {
  return createHash('sha256')
    .update(JSON.stringify(canonical(decision)))
    .digest('base64')
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return entries.map(([name, member]) => [name, canonical(member)])
}
