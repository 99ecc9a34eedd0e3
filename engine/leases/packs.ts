import { randomUUID } from 'node:crypto'
import { inParallel } from '../parallel.ts'
import type { Store } from '../vault/store.ts'
import { dueIn, minuteOf } from './name.ts'

/** Names by the thousand in one record, for those that are due in the same minute: so a start reads few large records in place of long lists. A pack is
 *  written once and never changed; what has ended in it is found to have when it is due, and when nothing of it is left it goes as a whole. */
export type Packs = {
  /** Names in packs that were not known before, and in packs that are gone. */
  readonly refresh: () => Promise<{ readonly added: readonly string[]; readonly gone: readonly string[] }>
  /** of all packs that are known */
  readonly names: () => ReadonlySet<string>
  /** Durable when it ends: then the names need not stand alone any more. */
  readonly write: (names: readonly string[]) => Promise<void>
  /** Removes packs whose minute is over and of which nothing is left. */
  readonly clear: (now: number, isLeft: (name: string) => boolean) => Promise<void>
}

const PACKS = 'leases/pack/'
const AT_ONCE = 16
/** Vault takes records of up to a mebibyte. */
const MOST_BYTES = 512 * 1024

export function openPacks(store: Store): Packs {
  const known = new Map<string, readonly string[]>()
  const read = async (pack: string) => (await store.fresh<{ names: readonly string[] }>(`${PACKS}${pack}`))?.value.names ?? []
  return {
    refresh: async () => {
      const packs = new Set(await store.list(PACKS))
      const fresh = [...packs].filter(pack => !known.has(pack))
      const lists = await inParallel(fresh, AT_ONCE, read)
      const left = [...known.keys()].filter(pack => !packs.has(pack))
      const gone = left.flatMap(pack => known.get(pack) ?? [])
      for (const pack of left) known.delete(pack)
      for (const [index, pack] of fresh.entries()) known.set(pack, lists[index] ?? [])
      return { added: lists.flat(), gone }
    },
    names: () => new Set([...known.values()].flat()),
    write: async names => {
      for (const part of inParts(names)) {
        const pack = `${minuteOf(dueIn(part[0] ?? ''))}.${randomUUID()}`
        known.set(pack, part)
        await store.put(`${PACKS}${pack}`, { names: part }, 0)
      }
    },
    clear: async (now, isLeft) => {
      const over = [...known].filter(([pack, names]) => Number.parseInt(pack, 10) < minuteOf(now) - 1 && !names.some(isLeft))
      await inParallel(over, AT_ONCE, async ([pack]) => {
        await store.delete(`${PACKS}${pack}`)
        known.delete(pack)
      })
    },
  }
}

function inParts(names: readonly string[]): readonly (readonly string[])[] {
  const most = Math.max(1, Math.floor(MOST_BYTES / (Math.max(...names.map(name => name.length), 0) + 3)))
  return Array.from({ length: Math.ceil(names.length / most) }, (_, part) => names.slice(part * most, (part + 1) * most))
}
