import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerError, isConflict } from '../errors.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'

/** One at a time, among all replicas: a record in KV that is taken with check-and-set and ends by itself. */
export type Locks = {
  /** Runs the work when nobody else runs one under this name. @throws BrokerError unavailable when the lock is not free in time, or the work takes longer than it may */
  readonly alone: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

/** Longer than any work may take, so that nobody takes a lock away from work that goes on. */
const LEASE_MS = 30_000
export const WORK_MS = 20_000
const WAIT_MS = 25_000
const PAUSE_MS = 50

type Held = { readonly owner: string; readonly until: number }

export function openLocks(state: Store, { now, random }: World): Locks {
  const queue = new Map<string, Promise<unknown>>()
  const take = async (name: string, owner: string): Promise<boolean> => {
    const held = await state.fresh<Held>(name)
    if (held && held.value.until > now()) return false
    try {
      await state.put(name, { owner, until: now() + LEASE_MS }, held?.version ?? 0)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }
  const release = async (name: string, owner: string): Promise<void> => {
    const held = await state.fresh<Held>(name)
    if (held?.value.owner === owner) await state.put(name, { owner: '', until: 0 }, held.version)
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
