import { LRUCache } from 'lru-cache'
import type { Limiter } from '../rate.ts'

/** Keys that were found enrolled before. All others share one limit: whoever makes up names of keys has no bucket for each of them. */
export type Strangers = {
  /** @throws BrokerError rate_limited when too many ask in names that nobody knows */
  readonly admit: (key: string) => void
  readonly found: (key: string) => void
}

const MAX_KNOWN = 20_000

export function openStrangers(limit: Limiter): Strangers {
  const known = new LRUCache<string, true>({ max: MAX_KNOWN })
  return {
    admit: key => {
      if (!known.get(key)) limit('strangers')
    },
    found: key => void known.set(key, true),
  }
}
