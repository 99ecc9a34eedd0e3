import type { LRUCache } from 'lru-cache'

/** Reads of a store whose answers are kept: one flight for all who ask at once, and nothing stays that may be from before a change. */
export type Reads<T> = {
  /** together with whoever asks the same at this moment */
  readonly shared: (key: string) => Promise<T>
  /** by itself: a flight that is under way may have been asked before what its caller saw */
  readonly fresh: (key: string) => Promise<T>
  readonly change: (key: string, make: () => Promise<unknown>) => Promise<void>
}

export function openReads<T extends object>(cache: LRUCache<string, T>, read: (key: string) => Promise<T>): Reads<T> {
  const flights = new Map<string, Promise<T>>()
  let writes = 0
  const fresh = async (key: string): Promise<T> => {
    const before = writes
    const answer = await read(key)
    // what was read while something was written may be from before the write: good for this reader, not for the next
    if (writes === before) cache.set(key, answer)
    return answer
  }
  return {
    fresh,
    shared: key => {
      const flight = flights.get(key) ?? fresh(key).finally(() => flights.delete(key))
      flights.set(key, flight)
      return flight
    },
    change: async (key, make) => {
      writes += 1
      try {
        await make()
      } finally {
        writes += 1
        flights.delete(key)
        cache.delete(key)
      }
    },
  }
}
