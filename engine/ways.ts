import type { LookupFunction } from 'node:net'
import type { Dispatcher } from 'undici'
import { startingAt } from './resolve.ts'

/** The connections to one server. Behind its address may stand several, and what is kept stays with one of them, whatever a balancer or the name says by now:
 *  a server that is sealed keeps its connections, and one that is cut off says nothing. */
export type Ways<D extends Dispatcher> = {
  /** what the next request goes out on */
  readonly current: () => D
  /** It gave no answer, or none of use: what comes next makes connections of its own. What is under way on this one comes to its end. */
  readonly doubt: (way?: D) => void
  /** Ends when nothing is under way. */
  readonly close: () => Promise<void>
  /** Ends everything now. */
  readonly destroy: () => void
}

/** Not oftener than this: a server that says with each answer that it cannot serve is not asked over a new connection each time. */
const RENEW_MS = 1_000

/** @param make its connections begin with another address of the server's name each time, as the first may be that of one that is out of service */
export function openWays<D extends Dispatcher>(make: (lookup: LookupFunction) => D): Ways<D> {
  let made = 0
  const next = () => make(startingAt(made++))
  let way = next()
  // the first one is left at once: a start is not put off
  let since = Number.NEGATIVE_INFINITY
  let doubted = false
  const left = new Map<D, Promise<unknown>>()
  const leave = (one: D) =>
    left.set(
      one,
      one
        .close()
        .catch(() => undefined)
        .finally(() => left.delete(one)),
    )
  const renew = () => {
    leave(way)
    way = next()
    since = performance.now()
    doubted = false
  }
  return {
    current: () => {
      if (doubted && performance.now() - since >= RENEW_MS) renew()
      return way
    },
    doubt: (one = way) => {
      doubted ||= one === way
    },
    close: async () => {
      leave(way)
      await Promise.all(left.values())
    },
    destroy: () => {
      for (const one of [way, ...left.keys()]) void one.destroy()
    },
  }
}

/** Whether a server that answers so may not be the one that can: sealed or without a leader (503), in trouble of its own (500), or a standby that cannot hand
 *  the request to its leader and names it (307). */
export const isOutOfService = (status: number) => OUT_OF_SERVICE.includes(status)
const OUT_OF_SERVICE: readonly number[] = [307, 500, 503]
