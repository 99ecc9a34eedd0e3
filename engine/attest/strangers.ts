import { BulkheadRejectedError, bulkhead } from 'cockatiel'
import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'

/** Keys that were found enrolled before. What has to be looked up in a name that nobody knows yet shares a few places, so that whoever makes up
 *  names of keys waits behind themselves and neither Vault nor a known machine waits for them. */
export type Strangers = {
  readonly knows: (key: string) => boolean
  /** Looks a key up; one that is known is not held up. @throws BrokerError rate_limited when too many wait already */
  readonly lookUp: <T>(key: string, find: () => Promise<T>) => Promise<T>
  readonly found: (key: string) => void
}

const MAX_KNOWN = 20_000
/** How many are looked up at once, and how many wait for that: as many as may ask at once. */
export const LOOKED_UP = { atOnce: 4, waiting: 1000 } as const

export function openStrangers(): Strangers {
  const known = new LRUCache<string, true>({ max: MAX_KNOWN })
  const places = bulkhead(LOOKED_UP.atOnce, LOOKED_UP.waiting)
  return {
    knows: key => known.get(key) === true,
    lookUp: async (key, find) => {
      if (known.get(key)) return find()
      try {
        return await places.execute(find)
      } catch (error) {
        if (!(error instanceof BulkheadRejectedError)) throw error
        throw new BrokerError('rate_limited', 'too many keys that nobody knows are looked up: try again in a second')
      }
    },
    found: key => void known.set(key, true),
  }
}
