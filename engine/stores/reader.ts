import {
  BrokenCircuitError,
  BulkheadRejectedError,
  bulkhead,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  TaskCancelledError,
  TimeoutStrategy,
  timeout,
  wrap,
} from 'cockatiel'
import { LRUCache } from 'lru-cache'
import { openReads } from '../reads.ts'
import { type FaultKind, type Held, type Next, type OpenStore, StoreFault } from './store.ts'

/** What a store said, and whether that was before it stopped to answer. */
export type Answer = Held & { readonly stale: boolean }

/** A store behind a cache, one flight for each reference, a deadline and a breaker. Every method throws StoreFault. */
export type Reader = {
  /** As old as `FRESH_MS` at most; when the store is down, as old as `maxStaleSeconds`, and then it is marked. */
  readonly read: (ref: string, maxStaleSeconds: number) => Promise<Answer>
  /** past the cache */
  readonly fresh: (ref: string) => Promise<Answer>
  readonly replace: (ref: string, next: Next, version: string) => Promise<void>
  readonly remove: (ref: string) => Promise<void>
  readonly close: () => Promise<void>
}

export type ReaderOptions = {
  /** monotonic, milliseconds */
  readonly monotonic: () => number
  readonly deadlineMs: number
  readonly observe?: (outcome: 'ok' | 'refused' | 'failed' | 'unreachable') => void
  /** milliseconds that an open breaker waits before it lets one call through */
  readonly pauseMs?: number
}

/** A rotation in the store is seen within this time, without restart. */
export const FRESH_MS = 15_000
const KEPT = 1_000
const FAILURES = 5
const PAUSE_MS = 5_000
const PARALLEL = 16
const WAITING = 256

const OUTCOMES = { down: 'unreachable', denied: 'refused', absent: 'refused', conflict: 'refused', malformed: 'failed' } as const
type Kept = { readonly held: Held; readonly at: number }

export function openReader(store: OpenStore, options: ReaderOptions): Reader {
  const { monotonic } = options
  const run = guarded(options)
  const cache = new LRUCache<string, Kept>({ max: KEPT })
  const reads = openReads(cache, async (ref): Promise<Kept> => {
    const at = monotonic()
    try {
      return { held: await run(async signal => bounded(await store.read(ref, signal))), at }
    } catch (error) {
      // a store that says no is obeyed: what it said before does not count any more
      if (kindOf(error) !== 'down') cache.delete(ref)
      throw error
    }
  })
  return {
    read: async (ref, maxStaleSeconds) => {
      const kept = cache.get(ref)
      if (kept && monotonic() - kept.at < FRESH_MS) return { ...kept.held, stale: false }
      try {
        return { ...(await reads.shared(ref)).held, stale: false }
      } catch (error) {
        const last = cache.get(ref)
        if (kindOf(error) === 'down' && last && monotonic() - last.at <= maxStaleSeconds * 1000)
          return { ...last.held, stale: true }
        throw error
      }
    },
    fresh: async ref => ({ ...(await reads.fresh(ref)).held, stale: false }),
    replace: async (ref, next, version) => {
      const { replace } = store
      if (!replace) throw new StoreFault('denied', 'the store is read-only')
      await reads.change(ref, () => run(signal => replace(ref, next, version, signal)))
    },
    remove: ref => reads.change(ref, async () => store.remove?.(ref)),
    close: () => store.close(),
  }
}

/** Characters of a root credential: what AWS Secrets Manager holds. Many are kept in memory, and hidden from the log for longer. */
const LONGEST = 65_536

/** @throws StoreFault malformed */
function bounded(held: Held): Held {
  const characters = Object.values(held.fields).reduce((sum, field) => sum + field.reveal().length, 0)
  if (characters > LONGEST) throw new StoreFault('malformed', `it holds more than ${LONGEST} characters`)
  return held
}

type Run = <T>(work: (signal: AbortSignal) => Promise<T>) => Promise<T>

/** Deadline, breaker and a limit of what goes on at once; only a store that is down counts against it. */
function guarded({ deadlineMs, observe, pauseMs = PAUSE_MS }: ReaderOptions): Run {
  const down = handleWhen(error => kindOf(error) === 'down')
  const policy = wrap(
    bulkhead(PARALLEL, WAITING),
    circuitBreaker(down, { halfOpenAfter: pauseMs, breaker: new ConsecutiveBreaker(FAILURES) }),
    // a store's client may not heed the signal: it is left behind
    timeout(deadlineMs, TimeoutStrategy.Aggressive),
  )
  return async work => {
    try {
      const done = await policy.execute(({ signal }) => work(signal))
      observe?.('ok')
      return done
    } catch (error) {
      const fault = faultOf(error)
      observe?.(OUTCOMES[fault.kind])
      throw fault
    }
  }
}

/** Of an error that is none of a store: it is our own, and nothing is answered for it from memory. */
function kindOf(error: unknown): FaultKind | undefined {
  if (error instanceof TaskCancelledError) return 'down'
  return error instanceof StoreFault ? error.kind : undefined
}

function faultOf(error: unknown): StoreFault {
  if (error instanceof StoreFault) return error
  if (error instanceof BrokenCircuitError)
    return new StoreFault('down', 'it failed several times and is left alone for some seconds')
  if (error instanceof TaskCancelledError) return new StoreFault('down', 'it did not answer in time')
  if (error instanceof BulkheadRejectedError) return new StoreFault('down', 'too many requests wait for it')
  throw error
}
