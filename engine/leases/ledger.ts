import { isConflict } from '../errors.ts'
import { inParallel } from '../parallel.ts'
import type { Kept, Store } from '../vault/store.ts'
import { type Lease, PENDING_SECONDS, shortIdOf } from './lease.ts'
import { dueIn, idIn, nameOf } from './name.ts'
import { type Names, openNames } from './names.ts'

/** Where leases are kept: a record each, changed by check-and-set alone, and a calendar of names, whose list is the index. A record without a
 *  name is one that nobody would end, so the name is there before the record counts, and goes after it. A name too many is harmless. */
export type Ledger = Pick<Names, 'calendar' | 'refresh' | 'pack'> & {
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
  /** Gives every record a name, and takes away names that have no record. Returns how many of both. */
  readonly tidy: (now: number) => Promise<{ readonly named: number; readonly dropped: number }>
}

const RECORDS = 'leases/record/'
const AT_ONCE = 32

export function openLedger(store: Store): Ledger {
  const names = openNames(store)
  const { calendar } = names
  const recordAt = (id: string) => `${RECORDS}${id}`
  const read = (id: string) => store.fresh<Lease>(recordAt(id))
  return {
    calendar,
    refresh: names.refresh,
    pack: names.pack,
    read,
    create: async lease => {
      // the name is written whether or not the record is: one without the other is found and dropped when it is due
      const [named, kept] = await Promise.allSettled([names.add(nameOf(lease)), store.put(recordAt(shortIdOf(lease)), lease, 0)])
      if (kept.status === 'rejected') throw kept.reason
      if (named.status === 'rejected') throw named.reason
    },
    replace: async (kept, lease) => {
      const after = nameOf(lease)
      // what is due earlier has to be found earlier; what is due later is found too early, read, and put right
      if (lease.due < kept.value.due) await names.add(after)
      await store.put(recordAt(shortIdOf(lease)), lease, kept.version)
    },
    remove: async (lease, others = []) => {
      const last = [nameOf(lease), ...others]
      const standing = [lease.expiresAt, lease.issuedAt + PENDING_SECONDS].map(due => nameOf({ ...lease, due }))
      // of what another replica wrote a moment ago neither is seen here, and one is there
      const isSeen = standing.some(calendar.has) ? calendar.has : () => true
      // before the record: after it the id may be taken again, and one of them with it
      await Promise.all(standing.filter(name => !last.includes(name) && isSeen(name)).map(names.drop))
      await store.delete(recordAt(shortIdOf(lease)))
      await Promise.all([...new Set(last)].filter(calendar.has).map(names.drop))
    },
    dropName: names.drop,
    rename: async (name, lease) => {
      const now = nameOf(lease)
      if (now === name) return
      await names.add(now)
      await names.drop(name)
    },
    tidy: now => tidy(store, names, read, now),
  }
}

async function tidy(store: Store, { calendar, add, drop }: Names, read: Ledger['read'], now: number) {
  const records = new Set(await store.list(RECORDS))
  const known = new Set([...calendar.names()].map(idIn))
  const nameless = [...records].filter(id => !known.has(id))
  const named = await inParallel(nameless, AT_ONCE, async id => {
    const kept = await read(id)
    if (kept) await add(nameOf(kept.value))
    return kept !== undefined
  })
  const empty = [...calendar.names()].filter(name => !records.has(idIn(name)) && dueIn(name) <= now)
  await inParallel(empty, AT_ONCE, drop)
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
