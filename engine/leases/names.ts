import { gatherCalls } from '../gather.ts'
import { inParallel } from '../parallel.ts'
import type { Store } from '../vault/store.ts'
import { type Calendar, openCalendar } from './calendar.ts'
import { dueIn, minuteOf } from './name.ts'
import { openPacks } from './packs.ts'

/** The names of all leases: in the store an entry each, or many in a pack, and here a calendar of them. */
export type Names = {
  readonly calendar: Calendar
  readonly add: (name: string) => Promise<void>
  readonly drop: (name: string) => Promise<void>
  /** Takes them from the store: those of other replicas, and after a start those from before. What was there when it was asked for is known then. */
  readonly refresh: () => Promise<void>
  /** Puts names of the same minute together where there are many, and removes what is left of minutes that are over. */
  readonly pack: (now: number) => Promise<void>
}

const NAMES = 'leases/due/'
const AT_ONCE = 32

export function openNames(store: Store): Names {
  const calendar = openCalendar()
  const packs = openPacks(store)
  /** names that have an entry of their own in the store; the others are in packs */
  const alone = new Set<string>()
  /** names whose write is under way */
  const writing = new Set<string>()
  /** names that were written while a list was under way, which may be from before */
  let young: Set<string> | undefined

  const at = (name: string) => `${NAMES}${minuteOf(dueIn(name))}/${name}`
  const add = async (name: string) => {
    calendar.add(name)
    alone.add(name)
    young?.add(name)
    writing.add(name)
    await store.put(at(name), {}).finally(() => writing.delete(name))
  }
  const drop = async (name: string) => {
    const isSeen = calendar.has(name)
    calendar.drop(name)
    young?.delete(name)
    if (alone.delete(name) || !isSeen) await store.delete(at(name))
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
  const refresh = gatherCalls(() =>
    look().finally(() => {
      young = undefined
    }),
  )
  return {
    calendar,
    add,
    drop,
    refresh,
    pack: async now => {
      for (const names of manyOf(alone, now)) {
        await packs.write(names)
        await inParallel(names, AT_ONCE, async name => {
          if (alone.delete(name)) await store.delete(at(name))
        })
      }
      await packs.clear(now, calendar.has)
    },
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
