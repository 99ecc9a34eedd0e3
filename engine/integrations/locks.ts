import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { wasFirst } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import type { Hold } from './port.ts'

/** One at a time, among all replicas: a record in KV that is taken with check-and-set, and written again while the work goes on. Whoever waits takes it from an
 *  owner that did not write it for too long, by their own monotonic clock: wall clocks of replicas differ, and jump. */
export type Locks = {
  /** Runs the work when nobody else runs one under this name, and returns when it ends, however long that takes.
   *  @throws BrokerError unavailable when the lock is not free in time */
  readonly alone: <T>(name: string, work: (hold: Hold) => Promise<T>) => Promise<T>
}

/** After that nothing is sent any more that only one may send. What was sent is waited for, and what came for it kept: neither is given up half-way. */
export const WORK_MS = 20_000
/** How often the owner writes the record again. */
const RENEW_MS = 5_000
/** For so long after it was written the owner counts on it: what is sent then is answered before anybody takes it for dead. */
const SURE_MS = 15_000
/** An owner that did not write the record for so long has died, or does not reach Vault. */
const DEAD_MS = 30_000
/** Longer than that, so that whoever waits for one that died gets in. */
const WAIT_MS = 31_000
/** All that work does ends much sooner, by deadlines of its own: work that does not is a mistake of ours, and keeps nobody out for ever. */
const LONGEST_MS = 300_000
const PAUSE_MS = 50
const SEEN = 10_000

type Held = { readonly owner: string }
type Seen = { readonly owner: string; readonly version: number; readonly since: number }

export function openLocks(state: Store, { monotonic, random }: World): Locks {
  const queue = new Map<string, Promise<unknown>>()
  const seen = new LRUCache<string, Seen>({ max: SEEN })
  const isDead = (name: string, owner: string, version: number): boolean => {
    const last = seen.get(name)
    if (last?.owner === owner && last.version === version) return monotonic() - last.since > DEAD_MS
    seen.set(name, { owner, version, since: monotonic() })
    return false
  }
  const look = (name: string) =>
    state.fresh<Held>(name).catch((error: unknown) => {
      // where nobody can look, the owner may not be able to write either
      seen.delete(name)
      throw error
    })
  const take = async (name: string, owner: string): Promise<boolean> => {
    const held = await look(name)
    if (held && held.value.owner !== '' && !isDead(name, held.value.owner, held.version)) return false
    return wasFirst(state.put(name, { owner }, held?.version ?? 0))
  }
  /** When the owner began to have it. */
  const taken = async (name: string, owner: string): Promise<number> => {
    const deadline = performance.now() + WAIT_MS
    while (true) {
      const since = monotonic()
      if (await take(name, owner)) return since
      if (performance.now() > deadline) throw new BrokerError('unavailable', 'another replica works on this: try again')
      await sleep(PAUSE_MS)
    }
  }
  const held = async <T>(name: string, work: (hold: Hold) => Promise<T>): Promise<T> => {
    const owner = random(16).toString('base64url')
    const { hold, late, end } = keepHeld({ state, monotonic, name, owner, since: await taken(name, owner) })
    return Promise.race([ended(() => work(hold), end), late])
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

async function ended<T>(work: () => Promise<T>, end: () => Promise<void>): Promise<T> {
  try {
    return await work()
  } finally {
    // what is not given back ends by itself
    await end().catch(() => undefined)
  }
}

type Holding = Pick<World, 'monotonic'> & {
  readonly state: Store
  readonly name: string
  readonly owner: string
  /** monotonic, before the record was written */
  readonly since: number
}

/** A lock while its work goes on: whether it still is, when that has gone on for too long, and its end. */
function keepHeld({ state, monotonic, name, owner, since }: Holding) {
  let sure = since
  let renewal = Promise.resolve()
  const write = async (next: string): Promise<void> => {
    const asked = monotonic()
    const held = await state.fresh<Held>(name)
    if (held?.value.owner !== owner) return
    await state.put(name, { owner: next }, held.version)
    sure = asked
  }
  const late = Promise.withResolvers<never>()
  const timer = setInterval(() => {
    renewal = renewal.then(() => write(owner)).catch(() => undefined)
    if (monotonic() - since <= LONGEST_MS) return
    clearInterval(timer)
    late.reject(tooLong())
  }, RENEW_MS).unref()
  const hold: Hold = () => {
    if (monotonic() - since > WORK_MS) throw tooLong()
    if (monotonic() - sure > SURE_MS)
      throw new BrokerError('unavailable', 'it is not certain that no other replica works on this: try again')
  }
  const end = async (): Promise<void> => {
    clearInterval(timer)
    await renewal
    await write('')
  }
  return { hold, late: late.promise, end }
}

const tooLong = () => new BrokerError('unavailable', 'the work on this took too long: try again')
