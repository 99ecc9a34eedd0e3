import { decodeFirst, encode, Tagged, type Token, Tokenizer } from 'cborg'
import { accept, reasonOf, reject, type Verdict } from '../verdict.ts'

type Limits = {
  readonly bytes: number
  readonly depth: number
  /** tags that may be there, which are kept: `isTagged` tells */
  readonly tags?: readonly number[]
}

const strictly = {
  strict: true, // integers and lengths in as few bytes as they need
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  rejectDuplicateMapKeys: true,
  useMaps: true,
} as const

/**
 * Reads one CBOR item (RFC 8949) that has only one form: definite lengths, shortest integers, no key twice, no other tags.
 * @returns LIMIT, BAD_ENCODING or TRAILING_DATA when refused
 */
export function readCbor(bytes: Uint8Array, limits: Limits): Verdict<unknown> {
  if (bytes.length > limits.bytes) return reject('LIMIT', `${bytes.length} bytes of CBOR, at most ${limits.bytes} are read`)
  try {
    const [value, rest] = decodeFirst(bytes, {
      ...strictly,
      tags: Tagged.preserve(...(limits.tags ?? [])),
      tokenizer: new Bounded(bytes, limits.depth),
    }) as [unknown, Uint8Array]
    if (rest.length > 0) return reject('TRAILING_DATA', `${rest.length} bytes after the CBOR`)
    return accept(value)
  } catch (error) {
    if (error instanceof TooDeep) return reject('LIMIT', error.message)
    return reject('BAD_ENCODING', reasonOf(error))
  }
}

export const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array

export function isTagged(value: unknown, tag: number): value is Tagged {
  return value instanceof Tagged && value.tag === tag
}

/** What is signed is encoded as it is read: in the one form that the reader takes. */
export function writeCbor(value: unknown): Buffer {
  return Buffer.from(encode(value))
}

class TooDeep extends Error {}

/** The decoder calls itself for what is nested, so nesting is counted before it does. */
class Bounded extends Tokenizer {
  readonly #depth: number
  /** items that each open array or map still waits for */
  readonly #open: number[] = []

  constructor(bytes: Uint8Array, depth: number) {
    super(bytes, strictly)
    this.#depth = depth
  }

  override next(): Token {
    const token = super.next()
    while (this.#open.at(-1) === 0) this.#open.pop()
    const last = this.#open.length - 1
    if (last >= 0) this.#open[last] = (this.#open[last] ?? 0) - 1
    if (token.type.name === 'array') this.#open.push(Number(token.value))
    if (token.type.name === 'tag') this.#open.push(1)
    if (token.type.name === 'map') this.#open.push(2 * Number(token.value))
    // what is no UTF-8 was replaced, and then two texts would read the same
    if (token.type.name === 'string' && String(token.value).includes('\ufffd')) throw new Error('a text is not well-formed UTF-8')
    if (this.#open.length > this.#depth) throw new TooDeep(`CBOR is nested more than ${this.#depth} deep`)
    return token
  }
}
