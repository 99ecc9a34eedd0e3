import { Finder, MASK } from './finder.ts'
import { spellings } from './spellings.ts'

/** Takes what must not come back out of what does. Every piece is replaced by as many asterisks, so that lengths and frames stay as they are.
 *  A backstop: it finds a value whole, in the spellings of `spellings.ts`; it does not find what was split, reversed or encrypted. */
export type Scrubber = {
  /** Scrubs a whole text in place. */
  readonly whole: (bytes: Buffer) => boolean
  /** Scrubs what arrives in pieces. */
  readonly stream: () => ScrubStream
  /** Overwrites what it looks for. From then on it masks everything. */
  readonly wipe: () => void
}
export type ScrubStream = {
  /** What may go on by now; what could be the beginning of something is held back, unless it is an eighth of the shortest or less. */
  readonly push: (chunk: Buffer) => Buffer
  /** What was held back to the end. */
  readonly end: () => Buffer
}

/** Shorter ones would be found everywhere. */
const SHORTEST = 8
const EMPTY = Buffer.alloc(0)

/** Undefined when no value is long enough to look for. */
export function openScrubber(values: readonly string[]): Scrubber | undefined {
  const texts = [...new Set(values.filter(value => Buffer.byteLength(value) >= SHORTEST).flatMap(spellings))]
  const patterns = texts.filter(text => text.length >= SHORTEST)
  if (patterns.length === 0) return undefined
  const finder = new Finder(inOwnMemory(patterns))
  return { whole: bytes => finder.mask(bytes, bytes.length) > 0, wipe: () => finder.wipe(), stream: () => openStream(finder) }
}

/** Bytes of latin-1 texts. Cut from Node's pool they would keep 64 KiB of it for as long as they are held, which is as long as their token lives. */
function inOwnMemory(texts: readonly string[]): readonly Buffer[] {
  const all = Buffer.allocUnsafeSlow(texts.reduce((sum, { length }) => sum + length, 0))
  let end = 0
  return texts.map(text => {
    const begin = end
    end += all.write(text, begin, 'latin1')
    return all.subarray(begin, end)
  })
}

function openStream(finder: Finder): ScrubStream {
  // as it came, from where something could begin; how much of it is masked all the same, and how much went on already
  let held = EMPTY
  let covered = 0
  let gone = 0
  const masked = (bytes: Buffer, before: number) => {
    const reach = Math.max(covered, finder.mask(bytes, before))
    bytes.fill(MASK, 0, covered)
    return reach
  }
  return {
    push: chunk => {
      const bytes = held.length > 0 ? Buffer.concat([held, chunk]) : chunk
      const hold = finder.unfinished(bytes)
      const from = bytes.length - hold
      held = hold > 0 ? Buffer.from(bytes.subarray(from)) : EMPTY
      covered = Math.max(0, masked(bytes, from) - from)
      const until = hold > finder.shown ? Math.max(gone, from) : bytes.length
      const ready = bytes.subarray(gone, until)
      gone = until - from
      return ready
    },
    end: () => {
      const rest = held
      masked(rest, rest.length)
      held = EMPTY
      return rest.subarray(gone)
    },
  }
}
