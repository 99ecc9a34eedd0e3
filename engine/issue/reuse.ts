import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Credential } from '../issuers/issuer.ts'

/** Credentials that answer the same decision again while they are young, and one flight for all who ask at once. Memory only; a restart forgets them. */
export type Reuse = {
  /** `decision`: everything that was decided and everything that it was decided from. Two that differ in anything never share. */
  readonly of: (decision: object, make: () => Promise<Credential>) => Promise<{ credential: Credential; reused: boolean }>
}

const KEPT = 10_000

export function openReuse(now: () => number): Reuse {
  const kept = new LRUCache<string, { credential: Credential; bornAt: number }>({ max: KEPT })
  const flights = new Map<string, Promise<Credential>>()
  const fly = async (key: string, make: () => Promise<Credential>): Promise<Credential> => {
    const credential = await make()
    kept.set(key, { credential, bornAt: now() })
    return credential
  }
  return {
    of: async (decision, make) => {
      const key = keyOf(decision)
      const found = kept.get(key)
      if (found && isYoung(found, now())) return { credential: found.credential, reused: true }
      kept.delete(key)
      const under = flights.get(key)
      if (under) return { credential: await under, reused: true }
      const flight = fly(key, make).finally(() => flights.delete(key))
      flights.set(key, flight)
      return { credential: await flight, reused: false }
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
