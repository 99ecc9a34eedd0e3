type Match = { readonly from: number; readonly until: number }

/** What is found is replaced by as many of these: asterisks. */
export const MASK = 0x2a

const TABLE = 16_384
const WINDOW = 64

/** Finds many patterns in one pass, mostly in jumps of the length of the shortest (Wu and Manber, 1994, with blocks of two bytes). */
export class Finder {
  /** So few bytes of a pattern are not held back: whoever waits for the end of a message is not kept waiting for what only looks like a beginning. */
  readonly shown: number
  readonly #patterns: readonly Buffer[]
  readonly #window: number
  readonly #longest: number
  readonly #jumps: Uint8Array
  readonly #ending = new Map<number, readonly Buffer[]>()
  /** bytes, and blocks, that a pattern begins with */
  readonly #firstBytes = new Uint8Array(256)
  readonly #firstBlocks = new Uint8Array(TABLE)
  #isWiped = false

  constructor(patterns: readonly Buffer[]) {
    this.#patterns = patterns
    this.#window = Math.min(WINDOW, ...patterns.map(pattern => pattern.length))
    this.shown = this.#window >> 3
    this.#longest = Math.max(...patterns.map(pattern => pattern.length))
    this.#jumps = new Uint8Array(TABLE).fill(this.#window - 1)
    for (const pattern of patterns) this.#learn(pattern)
  }

  #learn(pattern: Buffer): void {
    const last = this.#window - 2
    for (let at = 0; at <= last; at++) {
      const block = blockAt(pattern, at)
      this.#jumps[block] = Math.min(this.#jumps[block] ?? 0, last - at)
    }
    const end = blockAt(pattern, last)
    this.#ending.set(end, [...(this.#ending.get(end) ?? []), pattern])
    this.#firstBytes[pattern[0] ?? 0] = 1
    this.#firstBlocks[blockAt(pattern, 0)] = 1
  }

  wipe(): void {
    for (const pattern of this.#patterns) pattern.fill(0)
    this.#isWiped = true
  }

  /** Masks every pattern that is there. @returns where the last of those ends that begin before `before`, or 0 */
  mask(bytes: Buffer, before: number): number {
    if (this.#isWiped) {
      bytes.fill(MASK)
      return bytes.length
    }
    let reach = 0
    // all are found before one is masked: they may overlap, and one may be in another
    for (const { from, until } of this.#find(bytes)) {
      bytes.fill(MASK, from, until)
      if (from < before) reach = Math.max(reach, until)
    }
    return reach
  }

  #find(bytes: Buffer): readonly Match[] {
    const back = this.#window - 2
    const end = bytes.length - 1
    const jumps = this.#jumps
    const found: Match[] = []
    for (let at = back; at < end; ) {
      const block = (((bytes[at] as number) << 6) ^ (bytes[at + 1] as number)) & (TABLE - 1)
      const jump = jumps[block] as number
      if (jump > 0) {
        at += jump
        continue
      }
      const from = at - back
      for (const pattern of this.#ending.get(block) ?? [])
        if (matches(bytes, from, pattern)) found.push({ from, until: from + pattern.length })
      at += 1
    }
    return found
  }

  /** How many bytes at the end could be the beginning of a pattern. */
  unfinished(bytes: Buffer): number {
    const last = bytes.length - 1
    for (let at = Math.max(0, bytes.length - this.#longest + 1); at < last; at++) {
      const block = (((bytes[at] as number) << 6) ^ (bytes[at + 1] as number)) & (TABLE - 1)
      if (this.#firstBlocks[block] === 1 && this.#begins(bytes, at)) return bytes.length - at
    }
    return last >= 0 && this.#firstBytes[bytes[last] as number] === 1 ? 1 : 0
  }

  #begins(bytes: Buffer, at: number): boolean {
    const left = bytes.length - at
    return this.#patterns.some(pattern => pattern.length > left && matches(bytes, at, pattern, left))
  }
}

function blockAt(bytes: Buffer, at: number): number {
  return (((bytes[at] ?? 0) << 6) ^ (bytes[at + 1] ?? 0)) & (TABLE - 1)
}

/** In JavaScript, as most end at the first bytes: a native call would cost more than it looks at. */
function matches(bytes: Buffer, at: number, pattern: Buffer, length = pattern.length): boolean {
  if (at + length > bytes.length) return false
  for (let index = 0; index < length; index++) if (bytes[at + index] !== pattern[index]) return false
  return true
}
