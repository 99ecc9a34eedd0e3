import { createReadStream } from 'node:fs'
import { type Fault, genesis, type Head, LINE_LIMIT, type Line, NEWLINE, readLine } from './chain.ts'

/** A file, or its bytes. */
export type Source = string | AsyncIterable<Uint8Array>

export type AuditVerdict =
  | { readonly ok: true; readonly records: number; readonly first: number; readonly head: Head }
  | { readonly ok: false; readonly reason: Fault; readonly at: Place }

/** Where the first bad record is: `file` counts from 0, `line` from 1; `index` is the one that was expected there. */
export type Place = { readonly file: number; readonly line: number; readonly index: number }

export type Expected = {
  /** the record before the first one here; without it the first file must begin a chain, or say itself that it continues one */
  readonly after?: Head
  /** the hash of the last record, known from elsewhere: a chain cannot tell by itself that its end was cut off */
  readonly head?: string
}

/**
 * Verifies a log over the bytes of its lines, in constant memory. Several files are one chain in the order given.
 * The reasons are the rows of `faults`: TORN, TOO_LONG, NOT_JSON, FORM and EDITED are of the line itself; GENESIS, MISSING,
 * REORDERED and FOREIGN of its place in the chain; EMPTY and HEAD of the end. Throws when a file cannot be read.
 */
export async function verifyAudit(sources: Source | readonly Source[], expected: Expected = {}): Promise<AuditVerdict> {
  const chain = new Chain(expected.after)
  for (const source of Array.isArray(sources) ? (sources as readonly Source[]) : [sources as Source]) {
    chain.nextFile()
    for await (const lines of linesOf(source)) if (!lines.every(line => chain.take(line))) return chain.verdict(expected.head)
  }
  return chain.verdict(expected.head)
}

/** Reads on from line to line and holds only where it stands. */
class Chain {
  #head: Head | undefined
  #first: number | undefined
  #records = 0
  #file = -1
  #line = 0
  #fault: { reason: Fault; at: Place } | undefined

  constructor(after: Head | undefined) {
    this.#head = after
  }

  nextFile(): void {
    this.#file += 1
    this.#line = 0
  }

  /** False when no later line can change the verdict. */
  take(bytes: Buffer): boolean {
    this.#line += 1
    const line = whole(bytes)
    if (this.#fault) return this.#lookFor(line)
    if (typeof line === 'string') return this.#stop(line)
    const fault = this.#misplaced(line)
    if (fault) return this.#stop(fault)
    this.#head = { index: line.index, hash: line.hash }
    this.#first ??= line.index
    this.#records += 1
    return true
  }

  verdict(expectedHead: string | undefined): AuditVerdict {
    if (!this.#fault && this.#records === 0) this.#stop('EMPTY')
    if (!this.#fault && expectedHead !== undefined && this.#head?.hash !== expectedHead) this.#stop('HEAD')
    if (this.#fault) return { ok: false, ...this.#fault }
    return { ok: true, records: this.#records, first: this.#first ?? 0, head: this.#head ?? genesis }
  }

  #misplaced({ index, prev, opensFile }: Line): Fault | undefined {
    if ((index === 0) !== (prev === genesis.hash)) return 'GENESIS'
    if (!this.#head) return opensFile ? undefined : 'GENESIS'
    if (index > this.#head.index + 1) return 'MISSING'
    if (index <= this.#head.index) return 'REORDERED'
    return prev === this.#head.hash ? undefined : 'FOREIGN'
  }

  #stop(reason: Fault): boolean {
    this.#fault = { reason, at: { file: Math.max(0, this.#file), line: this.#line, index: (this.#head?.index ?? -1) + 1 } }
    return reason === 'MISSING'
  }

  /** A record that seemed missing may come later: then it is not missing but out of its place. */
  #lookFor(line: Line | Fault): boolean {
    if (!this.#fault || typeof line === 'string' || line.index !== this.#fault.at.index) return true
    this.#fault = { ...this.#fault, reason: 'REORDERED' }
    return false
  }
}

function whole(bytes: Buffer): Line | Fault {
  if (bytes.length > LINE_LIMIT) return 'TOO_LONG'
  if (bytes.at(-1) !== NEWLINE) return 'TORN'
  return readLine(bytes.subarray(0, -1))
}

/** Lines with their newlines, as many at a time as came together. What is longer than a line can be comes in pieces. */
async function* linesOf(source: Source): AsyncGenerator<Buffer[]> {
  const chunks: AsyncIterable<Uint8Array> =
    typeof source === 'string' ? createReadStream(source, { highWaterMark: 256 * 1024 }) : source
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    const { lines, after } = split(Buffer.concat([rest, chunk]))
    rest = after
    if (rest.length > LINE_LIMIT) {
      lines.push(rest)
      rest = Buffer.alloc(0)
    }
    if (lines.length > 0) yield lines
  }
  if (rest.length > 0) yield [rest]
}

function split(bytes: Buffer): { lines: Buffer[]; after: Buffer } {
  const lines: Buffer[] = []
  let start = 0
  for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, end + 1))
    start = end + 1
  }
  return { lines, after: bytes.subarray(start) }
}
