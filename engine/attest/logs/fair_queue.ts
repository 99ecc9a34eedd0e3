/** A queue with so many places, which belong to all who want them: who has many waits with the second until each other was served once, and gives
 *  up the last when there is no place for somebody who has fewer. */
export type FairQueue<Item> = {
  /** The item that found no place, or lost it. */
  readonly add: (who: string, item: Item) => Item | undefined
  readonly next: () => Item | undefined
}

export function openFairQueue<Item>(places: number): FairQueue<Item> {
  /** by who waits, those who were served last at the end */
  const lines = new Map<string, Item[]>()
  let size = 0
  return {
    add: (who, item) => {
      const own = lines.get(who) ?? []
      const longest = [...lines.values()].reduce((most, line) => (line.length > most.length ? line : most), own)
      if (size === places && longest.length <= own.length + 1) return item
      const lost = size === places ? longest.pop() : undefined
      if (!lost) size += 1
      own.push(item)
      lines.set(who, own)
      return lost
    },
    next: () => {
      const [first] = lines
      if (!first) return undefined
      const [who, line] = first
      const item = line.shift()
      size -= 1
      lines.delete(who)
      if (line.length > 0) lines.set(who, line)
      return item
    },
  }
}
