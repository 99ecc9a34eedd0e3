import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Credential } from '../issuers/issuer.ts'

/** Credentials that answer the same decision again while they are young, and one flight for all who ask at once. Memory only; a restart forgets them. */
export type Reuse = {
  /** @param decision everything that was decided and everything that it was decided from, but when: two that differ in anything never share
   *  @param ttlSeconds from when it is given: what lives longer is not given for this decision, unless its life is the provider's to decide */
  readonly of: (
    decision: object,
    ttlSeconds: number,
    make: () => Promise<Credential>,
  ) => Promise<{ credential: Credential; reused: boolean }>
}

const KEPT = 10_000
/** No timer of Node's counts further. */
const LONGEST_MS = 2 ** 31 - 2
/** Clocks of others may be ahead of ours by so much. */
const SKEW_SECONDS = 5

/** Whether that is longer than was asked for, counted from `at`, in milliseconds: of a provider that was slow to answer it is not known when it began. */
export function livesLonger({ expiresAt }: Pick<Credential, 'expiresAt'>, ttlSeconds: number, at: number): boolean {
  return expiresAt > at / 1000 + ttlSeconds + SKEW_SECONDS
}

/** What was made for a decision: `ttlSeconds` are those that were asked for, `bornAt` is in milliseconds. */
type Made = { readonly credential: Credential; readonly ttlSeconds: number; readonly bornAt: number }

export function openReuse(now: () => number): Reuse {
  const kept = new LRUCache<string, Made>({ max: KEPT, perf: { now }, ttlResolution: 0, ttlAutopurge: true })
  const flights = new Map<string, Promise<Made>>()
  const fly = async (key: string, ttlSeconds: number, make: () => Promise<Credential>): Promise<Credential> => {
    const flight = make().then(credential => ({ credential, ttlSeconds, bornAt: now() }))
    flights.set(key, flight)
    try {
      const made = await flight
      const ttl = Math.min(Math.ceil(youthMs(made)), LONGEST_MS)
      // of the cache, 0 is for ever
      if (ttl > 0) kept.set(key, made, { ttl })
      return made.credential
    } finally {
      flights.delete(key)
    }
  }
  return {
    of: async (decision, ttlSeconds, make) => {
      const key = keyOf(decision)
      const found = kept.get(key)
      // where the clock went back it is not known how young it is
      if (found && now() >= found.bornAt && fits(found, ttlSeconds, now())) return { credential: found.credential, reused: true }
      // one that ends too late for one asker ends in time for another: they wait for the next one together, too
      for (let flight = flights.get(key); flight; flight = flights.get(key)) {
        const under = await flight
        if (fits(under, ttlSeconds, now())) return { credential: under.credential, reused: true }
      }
      return { credential: await fly(key, ttlSeconds, make), reused: false }
    },
  }
}

/** It ends in time; or it did not end in time for who asked for it either and was taken all the same: then its life is the provider's to decide, and the
 *  next one would live as long. */
function fits({ credential, ttlSeconds: asked, bornAt }: Made, ttlSeconds: number, now: number): boolean {
  return !livesLonger(credential, ttlSeconds, now) || livesLonger(credential, asked, bornAt)
}

/** For how long it is kept, and may be given again: half of its life. */
const youthMs = ({ credential, bornAt }: Made) => (credential.expiresAt * 1000 - bornAt) / 2

/** SHA-256 of the canonical JSON: members in order, so that nothing but the content counts. */
export function keyOf(decision: object): string {
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
