import { accessorIn, dueIn, type Entry, entryOf, idIn, minuteOf } from './name.ts'

/** The names of all leases, in memory: by id, and by the minute in which something is due. A name is kept as it is and read when it is needed. */
export type Calendar = {
  readonly add: (name: string) => void
  readonly drop: (name: string) => void
  readonly has: (name: string) => boolean
  /** names of what is due by `now`, and not before that was told */
  readonly due: (now: number) => readonly string[]
  readonly where: (wanted: (entry: Entry) => boolean) => readonly Entry[]
  readonly names: () => Iterable<string>
  /** tags of the accessors of all leases, each with the id of one of its leases */
  readonly accessors: () => Iterable<readonly [tag: string, id: string]>
  readonly size: () => number
}

export function openCalendar(): Calendar {
  const names = new Set<string>()
  const waiting = new Map<number, Set<string>>()
  const accessors = new Map<string, { count: number; id: string }>()

  const wait = (name: string, minute: number) => {
    const set = waiting.get(minute) ?? new Set()
    waiting.set(minute, set.add(name))
  }
  const unwait = (name: string, minute: number) => {
    const set = waiting.get(minute)
    set?.delete(name)
    if (set?.size === 0) waiting.delete(minute)
  }
  const count = (name: string, by: 1 | -1) => {
    const accessorTag = accessorIn(name)
    if (accessorTag === '') return
    const id = idIn(name)
    const { count: before, id: known } = accessors.get(accessorTag) ?? { count: 0, id }
    // the newest is the likeliest to be there still when it is read
    if (before + by > 0) accessors.set(accessorTag, { count: before + by, id: by > 0 ? id : known })
    else accessors.delete(accessorTag)
  }
  return {
    add: name => {
      if (names.has(name) || !entryOf(name)) return
      names.add(name)
      wait(name, minuteOf(dueIn(name)))
      count(name, 1)
    },
    drop: name => {
      if (!names.delete(name)) return
      unwait(name, minuteOf(dueIn(name)))
      count(name, -1)
    },
    has: name => names.has(name),
    due: now => {
      const past = [...waiting.keys()].filter(minute => minute <= minuteOf(now))
      const found = past.flatMap(minute => [...(waiting.get(minute) ?? [])].filter(name => dueIn(name) <= now))
      for (const name of found) unwait(name, minuteOf(dueIn(name)))
      return found
    },
    where: wanted => [...names].flatMap(name => matching(name, wanted)),
    names: () => names,
    accessors: function* accessorsOf() {
      for (const [tag, { id }] of accessors) yield [tag, id] as const
    },
    size: () => names.size,
  }
}

function matching(name: string, wanted: (entry: Entry) => boolean): readonly Entry[] {
  const entry = entryOf(name)
  return entry && wanted(entry) ? [entry] : []
}
