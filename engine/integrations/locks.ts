import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { BrokerError, isConflict } from '../errors.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'

/** One at a time, among all replicas: a record in KV that is taken with check-and-set. Whoever waits takes it from an owner that they saw for too long, by their
 *  own monotonic clock: wall clocks of replicas differ, and jump. */
export type Locks = {
  /** Runs the work when nobody else runs one under this name. @throws BrokerError unavailable when the lock is not free in time, or the work takes longer than it may */
  readonly alone: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

export const WORK_MS = 20_000
/** Longer than any work may take, so that nobody takes a lock away from work that goes on. */
const DEAD_MS = 30_000
/** Longer than that, so that whoever waits for one that died gets in. */
const WAIT_MS = 31_000
const PAUSE_MS = 50
const SEEN = 10_000

type Held = { readonly owner: string }

export function openLocks(state: Store, { monotonic, random }: World): Locks {
  const queue = new Map<string, Promise<unknown>>()
  const seen = new LRUCache<string, { readonly owner: string; readonly since: number }>({ max: SEEN })
  const isDead = (name: string, owner: string): boolean => {
    const last = seen.get(name)
    if (last?.owner === owner) return monotonic() - last.since > DEAD_MS
    seen.set(name, { owner, since: monotonic() })
    return false
  }
  const take = async (name: string, owner: string): Promise<boolean> => {
    const held = await state.fresh<Held>(name)
    if (held && held.value.owner !== '' && !isDead(name, held.value.owner)) return false
    try {
      await state.put(name, { owner }, held?.version ?? 0)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }
  const release = async (name: string, owner: string): Promise<void> => {
    const held = await state.fresh<Held>(name)
    if (held?.value.owner === owner) await state.put(name, { owner: '' }, held.version)
  }
  const held = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const owner = random(16).toString('base64url')
    const deadline = performance.now() + WAIT_MS
    while (!(await take(name, owner))) {
      if (performance.now() > deadline) throw new BrokerError('unavailable', 'another replica works on this: try again')
      await sleep(PAUSE_MS)
    }
    // work that takes too long goes on, and its lock with it, until that ends by itself
    return inTime(released(work, () => release(name, owner)))
  }
  return {
    alone: (name, work) => {
      const before = queue.get(name) ?? Promise.resolve()
      const mine = before.then(
        () => held(name, work),
        () => held(name, work),
      )
      queue.set(name, mine)
      const leave = () => {
        if (queue.get(name) === mine) queue.delete(name)
      }
      mine.then(leave, leave)
      return mine
    },
  }
}

async function released<T>(work: () => Promise<T>, release: () => Promise<void>): Promise<T> {
  try {
    return await work()
  } finally {
    // what is not given back ends by itself
    await release().catch(() => undefined)
  }
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => late.reject(new BrokerError('unavailable', 'the work on this took too long: try again')),
    WORK_MS,
  )
  return Promise.race([work, late.promise]).finally(() => clearTimeout(timer))
}
