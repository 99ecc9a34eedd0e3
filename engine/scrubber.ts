import { PRINTED, type Secret } from './secret.ts'

/** Takes secrets out of lines of JSON text. */
export type Scrubber = {
  /** Registers a live secret; of many the last `limit` count. Values under 6 characters are too common to look for and are not registered. */
  readonly add: (secret: Secret | Secret<Uint8Array>) => void
  /** The text without registered secrets, without pieces of 12 characters or more of them, and without what has the shape of one. */
  readonly scrub: (text: string) => string
}

/** What is a secret by its look, known to us or not. The text is JSON: a line break in it is written as `\n`. */
const shapes: readonly RegExp[] = [
  // a private key, also one whose end is missing
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:(?!-----END)[^"])*(?:-----END [A-Z0-9 ]*PRIVATE KEY-----)?/g,
  // JWS and JWE, compact: the header begins with a brace and a quote or white space
  /e(?:yJ|yA|wo|w0|wk)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}/g,
  // Vault: service, batch and recovery tokens, and their old forms
  /hv[sbr]\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9]+)?/g,
  /(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))[sbr]\.[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9]+)?/g,
  // credentials of an Authorization header; prose ("bearer authentication") has neither digit nor sign, nor this length
  /(?<=(?:Bearer|Basic|DPoP)\s+)(?:(?=[a-z]*[0-9._~+/=-])[A-Za-z0-9._~+/=-]{6,}|[A-Za-z0-9]{20,})/gi,
  // user and password of a URL
  /(?<=[a-z]:\/\/)[^\s"/@\\]+(?=@)/gi,
]

/** Pieces by which a registered value is found, and the shortest part of a longer one that counts as it. */
const GRAM = 6
const RUN = 12
/** With a gram at every 7th character each run of 12 holds one whole; very long values have fewer. */
const STRIDE = RUN - GRAM + 1
const GRAMS_OF_ONE = 32

export function openScrubber(limit = 1000): Scrubber {
  const known = new Map<string, readonly string[]>()
  const index = new GramIndex()
  const forget = (value: string) => {
    for (const text of known.get(value) ?? []) index.delete(text)
    known.delete(value)
  }
  return {
    add: secret => {
      const [value = '', ...others] = spellings(secret.reveal())
      forget(value)
      const texts = [value, ...others].filter(text => text.length >= GRAM)
      known.set(value, texts)
      for (const text of texts) index.add(text)
      if (known.size > limit) forget(known.keys().next().value ?? '')
    },
    scrub: text => shapes.reduce((left, shape) => left.replace(shape, PRINTED), index.without(text)),
  }
}

/** The ways in which a value stands in JSON text: escaped, in a URL, as digits of bytes. */
function spellings(value: string | Uint8Array): readonly string[] {
  if (typeof value === 'string')
    return [...new Set([JSON.stringify(value).slice(1, -1), encodeURIComponent(value.toWellFormed())])]
  const bytes = Buffer.from(value)
  return [bytes.toString('hex'), bytes.toString('base64').replace(/=+$/, ''), bytes.toString('base64url')]
}

/** Finds pieces of many values in one pass over a text, by a rolling hash over 6 characters. */
class GramIndex {
  /** by hash, then by value: many values begin alike, and each must go without a look at the others */
  readonly #pieces = new Map<number, Map<string, readonly number[]>>()

  add(text: string): void {
    for (const at of gramsOf(text)) {
      const key = keyAt(text, at)
      const pieces = this.#pieces.get(key) ?? new Map<string, readonly number[]>()
      this.#pieces.set(key, pieces.set(text, [...(pieces.get(text) ?? []), at]))
    }
  }

  delete(text: string): void {
    for (const at of gramsOf(text)) {
      const key = keyAt(text, at)
      const pieces = this.#pieces.get(key)
      pieces?.delete(text)
      if (pieces?.size === 0) this.#pieces.delete(key)
    }
  }

  without(text: string): string {
    if (this.#pieces.size === 0 || text.length < GRAM) return text
    let kept = ''
    let from = 0
    for (let at = 0, key = keyAt(text, 0); at + GRAM <= text.length; key = keyAfter(key, text, at), at++) {
      const run = at < from ? undefined : this.#runAt(text, at, key, from)
      if (!run) continue
      kept += text.slice(from, run.start) + PRINTED
      from = run.end
    }
    return kept + text.slice(from)
  }

  #runAt(text: string, at: number, key: number, from: number): Run | undefined {
    for (const [value, places] of this.#pieces.get(key) ?? []) {
      for (const place of places) {
        const run = common(text, at, value, place, from)
        if (run.end - run.start >= Math.min(RUN, value.length)) return run
      }
    }
    return undefined
  }
}

type Run = { readonly start: number; readonly end: number }

/** How far text and value agree around these places. */
function common(text: string, at: number, value: string, place: number, from: number): Run {
  let back = 0
  while (at - back > from && place > back && text[at - back - 1] === value[place - back - 1]) back++
  let on = 0
  while (at + on < text.length && text[at + on] === value[place + on]) on++
  return { start: at - back, end: at + on }
}

function gramsOf(text: string): readonly number[] {
  const last = text.length - GRAM
  const stride = Math.max(STRIDE, Math.ceil(text.length / GRAMS_OF_ONE))
  const starts = Array.from({ length: Math.floor(last / stride) + 1 }, (_, number) => number * stride)
  return last % stride === 0 ? starts : [...starts, last]
}

const BASE = 0x01000193
const TOP = Array.from({ length: GRAM - 1 }).reduce((power: number) => Math.imul(power, BASE), 1)

function keyAt(text: string, at: number): number {
  let key = 0
  for (let offset = 0; offset < GRAM; offset++) key = (Math.imul(key, BASE) + text.charCodeAt(at + offset)) | 0
  return key
}

/** The key one character further. */
function keyAfter(key: number, text: string, at: number): number {
  const without = (key - Math.imul(text.charCodeAt(at), TOP)) | 0
  return (Math.imul(without, BASE) + text.charCodeAt(at + GRAM)) | 0
}
