import type { Refusal } from '../refusals.ts'
import { accept, reject, type Verdict } from '../verdict.ts'

/** Thrown by `Reader` alone and turned into a verdict by `parse`: hostile bytes never throw past a parser. */
class Malformed extends Error {
  readonly code: Refusal
  constructor(code: Refusal, detail: string) {
    super(detail)
    this.code = code
  }
}

/** Reads TPM structures: big-endian, bounded by the bytes given (TPM 2.0 Library Part 1, Data Types; Part 2, TPM2B). */
export class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  /** Position in the input, to slice out the exact bytes of a structure. */
  get offset(): number {
    return this.#at
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#pass(1))
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#pass(2))
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#pass(4))
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#pass(8))
  }

  /** TPM2B_*: a 16-bit size and that many bytes. */
  sized(): Buffer {
    return this.take(this.u16())
  }

  /** The next `count` bytes: a view, not a copy. */
  take(count: number): Buffer {
    const from = this.#pass(count)
    return this.#bytes.subarray(from, from + count)
  }

  /** Where the next `count` bytes begin; they count as read. */
  #pass(count: number): number {
    if (count > this.left) throw new Malformed('TRUNCATED', `wanted ${count} bytes at ${this.#at}, ${this.left} are left`)
    const from = this.#at
    this.#at += count
    return from
  }

  end(): void {
    if (this.left > 0) throw new Malformed('TRAILING_DATA', `${this.left} bytes after the end at ${this.#at}`)
  }

  fail(code: Refusal, detail: string): never {
    throw new Malformed(code, detail)
  }
}

/** Runs a parser over the whole of `bytes`: too long is LIMIT, left-over bytes are TRAILING_DATA, what the parser refuses is its own code. */
export function parse<T>(bytes: Uint8Array, limit: number, parser: (reader: Reader) => T): Verdict<T> {
  if (bytes.length > limit) return reject('LIMIT', `${bytes.length} bytes, at most ${limit} are read`)
  try {
    const reader = new Reader(bytes)
    const value = parser(reader)
    reader.end()
    return accept(value)
  } catch (error) {
    if (error instanceof Malformed) return reject(error.code, error.message)
    throw error
  }
}

/** Writes TPM structures, big-endian. */
export class Writer {
  readonly #parts: Uint8Array[] = []

  u8(value: number): this {
    return this.bytes(Uint8Array.of(value))
  }

  u16(value: number): this {
    const part = Buffer.alloc(2)
    part.writeUInt16BE(value)
    return this.bytes(part)
  }

  u32(value: number): this {
    const part = Buffer.alloc(4)
    part.writeUInt32BE(value)
    return this.bytes(part)
  }

  bytes(value: Uint8Array): this {
    this.#parts.push(value)
    return this
  }

  /** TPM2B_*: a 16-bit size and the bytes. */
  sized(value: Uint8Array): this {
    return this.u16(value.length).bytes(value)
  }

  done(): Buffer {
    return Buffer.concat(this.#parts)
  }
}
