import { isConflict } from '../errors.ts'
import { gather } from '../gather.ts'
import type { Kept, Store } from '../vault/store.ts'
import { type Calendar, openCalendar } from './calendar.ts'
import { type Lease, PENDING_SECONDS } from './lease.ts'
import { dueIn, idIn, minuteOf, nameOf } from './name.ts'
import { openPacks } from './packs.ts'
import { inParallel } from './parallel.ts'

/** Where leases are kept: a record each, changed by check-and-set alone, and a calendar of names, whose list is the index. A record without a
 *  name is one that nobody would end, so the name is there before the record counts, and goes after it. A name too many is harmless. */
export type Ledger = {
  readonly calendar: Calendar
  readonly read: (id: string) => Promise<Kept<Lease> | undefined>
  /** Writes a lease that is new. @throws BrokerError conflict when its id is taken */
  readonly create: (lease: Lease) => Promise<void>
  /** Replaces what was read. @throws BrokerError conflict when somebody else did */
  readonly replace: (kept: Kept<Lease>, lease: Lease) => Promise<void>
  /** Both: the record, then the names that are known of it. */
  readonly remove: (lease: Lease, names?: readonly string[]) => Promise<void>
  /** Forgets a name that stands for nothing any more. */
  readonly dropName: (name: string) => Promise<void>
  /** The name that the lease has now: written if it is not there, in place of this one. */
  readonly rename: (name: string, lease: Lease) => Promise<void>
  /** Takes the names of all leases from the store: those of other replicas, and after a start those from before. What was there when it was asked for is known then. */
  readonly refresh: () => Promise<void>
  /** Puts names of the same minute together where there are many, and removes what is left of minutes that are over. */
  readonly pack: (now: number) => Promise<void>
  /** Gives every record a name, and takes away names that have no record. Returns how many of both. */
  readonly tidy: (now: number) => Promise<{ readonly named: number; readonly dropped: number }>
}

const RECORDS = 'leases/record/'
const NAMES = 'leases/due/'
const AT_ONCE = 32

export function openLedger(store: Store): Ledger {
  const calendar = openCalendar()
  const packs = openPacks(store)
  /** names that have an entry of their own in the store; the others are in packs */
  const alone = new Set<string>()
  /** names whose write is under way */
  const writing = new Set<string>()
  /** names that were written while a list was under way, which may be from before */
  let young: Set<string> | undefined

  const recordAt = (id: string) => `${RECORDS}${id}`
  const nameAt = (name: string) => `${NAMES}${minuteOf(dueIn(name))}/${name}`
  const read = (id: string) => store.fresh<Lease>(recordAt(id))
  const addName = async (name: string) => {
    calendar.add(name)
    alone.add(name)
    young?.add(name)
    writing.add(name)
    await store.put(nameAt(name), {}).finally(() => writing.delete(name))
  }
  const dropName = async (name: string) => {
    calendar.drop(name)
    young?.delete(name)
    if (alone.delete(name)) await store.delete(nameAt(name))
  }
  const look = async () => {
    const written = new Set(writing)
    young = written
    const minutes = await store.list(NAMES)
    const lists = await inParallel(minutes, AT_ONCE, minute => store.list(`${NAMES}${minute}`))
    const seen = new Set(lists.flat())
    // after the lists: a name that is in none of them any more is in a pack by then, or nowhere
    const { added, gone } = await packs.refresh()
    const missed = [...alone, ...gone].filter(name => !seen.has(name) && !written.has(name))
    const packed = missed.length > 0 ? packs.names() : seen
    for (const name of missed) {
      alone.delete(name)
      if (!packed.has(name)) calendar.drop(name)
    }
    for (const name of seen) alone.add(name)
    for (const name of [...seen, ...added]) calendar.add(name)
  }
  const refresh = gather<undefined, undefined>(async askers => {
    await look().finally(() => {
      young = undefined
    })
    return askers
  }, Number.POSITIVE_INFINITY)
  return {
    calendar,
    read,
    create: async lease => {
      // the name is written whether or not the record is: one without the other is found and dropped when it is due
      const [named, kept] = await Promise.allSettled([addName(nameOf(lease)), store.put(recordAt(idIn(nameOf(lease))), lease, 0)])
      if (kept.status === 'rejected') throw kept.reason
      if (named.status === 'rejected') throw named.reason
    },
    replace: async (kept, lease) => {
      const after = nameOf(lease)
      // what is due earlier has to be found earlier; what is due later is found too early, read, and put right
      if (lease.due < kept.value.due) await addName(after)
      await store.put(recordAt(idIn(after)), lease, kept.version)
    },
    remove: async (lease, names = []) => {
      await store.delete(recordAt(idIn(nameOf(lease))))
      const known = [
        ...names,
        ...[lease.due, lease.expiresAt, lease.issuedAt + PENDING_SECONDS].map(due => nameOf({ ...lease, due })),
      ]
      await Promise.all([...new Set(known)].filter(calendar.has).map(dropName))
    },
    dropName,
    rename: async (name, lease) => {
      const now = nameOf(lease)
      if (now === name) return
      await addName(now)
      await dropName(name)
    },
    refresh: () => refresh(undefined),
    pack: async now => {
      for (const names of manyOf(alone, now)) {
        await packs.write(names)
        await inParallel(names, AT_ONCE, async name => {
          if (alone.delete(name)) await store.delete(nameAt(name))
        })
      }
      await packs.clear(now, calendar.has)
    },
    tidy: now => tidy({ store, calendar, read, addName, dropName }, now),
  }
}

const MANY = 200
/** Not what may be due before it is packed. */
const SOON_SECONDS = 180

/** Names of the same minute, where there are many. */
function manyOf(names: Iterable<string>, now: number): readonly (readonly string[])[] {
  const later = [...names].filter(name => dueIn(name) > now + SOON_SECONDS)
  const minutes = Map.groupBy(later, name => minuteOf(dueIn(name)))
  return [...minutes.values()].filter(({ length }) => length >= MANY)
}

type Parts = Pick<Ledger, 'calendar' | 'read' | 'dropName'> & {
  readonly store: Store
  readonly addName: (name: string) => Promise<void>
}

async function tidy({ store, calendar, read, addName, dropName }: Parts, now: number) {
  const records = new Set(await store.list(RECORDS))
  const known = new Set([...calendar.names()].map(idIn))
  const nameless = [...records].filter(id => !known.has(id))
  const named = await inParallel(nameless, AT_ONCE, async id => {
    const kept = await read(id)
    if (kept) await addName(nameOf(kept.value))
    return kept !== undefined
  })
  const empty = [...calendar.names()].filter(name => !records.has(idIn(name)) && dueIn(name) <= now)
  await inParallel(empty, AT_ONCE, dropName)
  return { named: named.filter(Boolean).length, dropped: empty.length }
}

/** Reads, changes, writes, and once more when somebody else was faster. Undefined when there is nothing, or nothing to change. */
export async function changeLease(
  ledger: Ledger,
  id: string,
  make: (lease: Lease) => Lease | undefined,
): Promise<Lease | undefined> {
  for (;;) {
    const kept = await ledger.read(id)
    const lease = kept && make(kept.value)
    if (!kept || !lease) return undefined
    try {
      await ledger.replace(kept, lease)
      return lease
    } catch (error) {
      if (!isConflict(error)) throw error
    }
  }
}
