/** Takes what must not come back out of what does. Every piece is replaced by as many asterisks, so that lengths and frames stay as they are.
 *  A backstop: it finds a value whole, in the spellings below; it does not find what was split, reversed or encrypted. */
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
const MASK = 0x2a
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

/** How a value may stand in an answer, as the bytes of latin-1 text. */
function spellings(value: string): readonly string[] {
  const bytes = Buffer.from(value)
  const raw = bytes.toString('latin1')
  const hex = bytes.toString('hex')
  const spaced = hex.replace(/..(?!$)/g, '$& ') // S3, of a request whose signature is wrong
  const escaped = escapes(value)
  const percent = [...bytes].map(byte => `%${byte.toString(16).padStart(2, '0')}`).join('')
  const spelled = [
    ...inJson(value),
    escaped,
    escapedUpper(escaped),
    ...inUrl(value.toWellFormed()).flatMap(text => [text, text.replace(/%../g, one => one.toLowerCase())]),
    percent,
    percent.toUpperCase(),
    ...inMarkup(value),
  ]
  return [
    raw,
    hex,
    hex.toUpperCase(),
    spaced,
    spaced.toUpperCase(),
    ...base64s(bytes),
    ...spelled.map(text => Buffer.from(text).toString('latin1')),
  ]
}

/** Every unit as `\u00e9`. */
const escapes = (text: string) =>
  Array.from({ length: text.length }, (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')
const escapedUpper = (escaped: string) => escaped.replace(/\\u..../g, one => `\\u${one.slice(2).toUpperCase()}`)

/** As those who write JSON do it that escape more than they have to. */
function inJson(value: string): readonly string[] {
  const json = JSON.stringify(value).slice(1, -1)
  const beyond = json.replace(/[^\0-\x7f]/g, escapes) // Python, Ruby
  const quoted = beyond.replaceAll('\\"', '\\u0022') // .NET
  return [
    json,
    json.replaceAll('/', '\\/'),
    beyond,
    beyond.replaceAll('/', '\\/'), // PHP
    json.replace(/[<>&]/g, escapes), // Go
    json.replace(/[<>&=']/g, escapes), // Gson
    escapedUpper(quoted.replace(/[<>&'+`]/g, escapes)),
  ]
}

/** As those who write URLs and forms do it that encode more than they have to, or less. */
function inUrl(value: string): readonly string[] {
  const url = encodeURIComponent(value)
  const strict = url.replace(/[!'()*]/g, one => `%${one.charCodeAt(0).toString(16).toUpperCase()}`) // RFC 3986
  const form = strict.replaceAll('%20', '+')
  return [
    url,
    url.replaceAll('%20', '+'),
    encodeURI(value),
    strict,
    strict.replaceAll('%2F', '/'), // Python
    form,
    form.replaceAll('%2A', '*').replaceAll('~', '%7E'), // the URL standard, Java
  ]
}

/** How pages and XML escape beside `&amp;`, `&lt;` and `&gt;`. */
const MARKUP: readonly Readonly<Record<string, string>>[] = [
  {}, // between tags
  { '"': '&quot;' }, // PHP
  { '"': '&quot;', "'": '&apos;' }, // XML
  { '"': '&quot;', "'": '&#39;' }, // Ruby, Express
  { '"': '&quot;', "'": '&#039;' }, // PHP
  { '"': '&quot;', "'": '&#x27;' }, // Python
  { '"': '&#34;', "'": '&#39;' }, // Go, Jinja
  { '"': '&quot;', "'": '&#39;', '/': '&#x2F;', '`': '&#x60;', '=': '&#x3D;' }, // Mustache
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '=': '&#x3D;' }, // Handlebars
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '+': '&#x2B;' }, // .NET
]

/** As templates and libraries for XML escape it. */
function inMarkup(value: string): readonly string[] {
  const escapes = MARKUP.map(more => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', ...more }) as Readonly<Record<string, string>>)
  return escapes.map(named => value.replace(/[&<>"'/`=+]/g, one => named[one] ?? one))
}

/** As it stands in base64 of something longer: by where it begins in a group of three bytes, without the characters that its neighbours share. */
function base64s(bytes: Buffer): readonly string[] {
  return [0, 1, 2].flatMap(before => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    const shared = [0, 2, 3][before] ?? 0
    const spare = (before + bytes.length) % 3
    const inner = text.replace(/=+$/, '').slice(shared, spare === 0 ? undefined : -1)
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')]
  })
}

type Match = { readonly from: number; readonly until: number }

const TABLE = 16_384
const WINDOW = 64

/** Finds many patterns in one pass, mostly in jumps of the length of the shortest (Wu and Manber, 1994, with blocks of two bytes). */
class Finder {
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
