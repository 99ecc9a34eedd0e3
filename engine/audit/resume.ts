import { createReadStream } from 'node:fs'
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { genesis, type Head, LINE_LIMIT, NEWLINE, readLine } from './chain.ts'
import { statOf } from './disk.ts'
import { BROKEN, UNFINISHED } from './segment.ts'
import { type AuditVerdict, verifyAudit } from './verify.ts'

/** Where the log goes on: after `head`, at `length` bytes of its file; what is `torn` behind that is no record. */
export type Standing =
  | { readonly ok: true; readonly head: Head; readonly length: number; readonly torn: number }
  | { readonly ok: false; readonly verdict: Broken }
export type Broken = Extract<AuditVerdict, { ok: false }>

/** Files up to this size are verified whole at start, of larger ones the end: a start must not take longer with every day. */
const VERIFIED_WHOLE = 16 * 2 ** 20
const VERIFIED_END = 2 ** 20

/** Finds where the log goes on. A log without a file, or with an empty one, goes on after the newest file that was moved aside. Throws when a file cannot be read. */
export async function standingOf(file: string): Promise<Standing> {
  const size = await sizeOf(file)
  if (size === 0) return startingOver(file, 0)
  await using handle = await open(file, 'r')
  const length = await endOfLines(handle, size)
  if (length < size && !(await looksTorn(handle, length))) return { ok: false, verdict: await foreign(file) }
  if (length === 0) return startingOver(file, size)
  const verdict = length <= VERIFIED_WHOLE ? await verifyAudit(part(file, 0, length)) : await verifiedEnd(file, handle, length)
  return verdict.ok ? { ok: true, head: verdict.head, length, torn: size - length } : { ok: false, verdict }
}

async function sizeOf(file: string): Promise<number> {
  const stats = await statOf(file)
  // a link would be lost with the first rotation, a FIFO or a device keeps nothing
  if (stats && !stats.isFile()) throw new Error(`${file} is not a regular file`)
  return stats?.size ?? 0
}

async function startingOver(file: string, torn: number): Promise<Standing> {
  return { ok: true, head: await lastOfPredecessors(file), length: 0, torn }
}

/** What does not end like a record was never ours: the verifier names the place. */
async function foreign(file: string): Promise<Broken> {
  const verdict = await verifyAudit(file)
  return verdict.ok
    ? { ok: false, reason: 'TORN', at: { file: 0, line: verdict.records + 1, index: verdict.head.index + 1 } }
    : verdict
}

/** When the end does not verify, the whole file tells where the first bad record is. */
async function verifiedEnd(file: string, handle: FileHandle, length: number): Promise<AuditVerdict> {
  const from = length - VERIFIED_END
  const bytes = await read(handle, from, VERIFIED_END)
  const start = bytes.indexOf(NEWLINE) + 1
  const first = readLine(bytes.subarray(start, bytes.indexOf(NEWLINE, start)))
  if (typeof first === 'string') return verifyAudit(part(file, 0, length))
  const verdict = await verifyAudit(part(file, from + start, length), { after: { index: first.index - 1, hash: first.prev } })
  return verdict.ok ? verdict : verifyAudit(part(file, 0, length))
}

/** The last record of the file that was moved aside last: by rotation, or because it was sealed. */
async function lastOfPredecessors(file: string): Promise<Head> {
  let last = genesis
  for (const name of await readdir(dirname(file))) {
    if (!isAside(name, basename(file))) continue
    const head = await lastRecordOf(join(dirname(file), name))
    if (head.index > last.index) last = head
  }
  return last
}

function isAside(name: string, file: string): boolean {
  const ours = name.startsWith(`${file}.`) || name.startsWith(`${file}-`)
  return ours && !name.includes(BROKEN) && !name.includes(UNFINISHED)
}

async function lastRecordOf(path: string): Promise<Head> {
  const stats = await statOf(path)
  if (!stats?.isFile()) return genesis
  await using handle = await open(path, 'r')
  const length = await endOfLines(handle, stats.size)
  const from = Math.max(0, length - LINE_LIMIT)
  const bytes = await read(handle, from, length - from - 1)
  const line = readLine(bytes.subarray(bytes.lastIndexOf(NEWLINE) + 1))
  return typeof line === 'string' ? genesis : line
}

/** The length up to the last newline, with it. */
async function endOfLines(handle: FileHandle, size: number): Promise<number> {
  for (let end = size; end > 0; end -= LINE_LIMIT) {
    const from = Math.max(0, end - LINE_LIMIT)
    const at = (await read(handle, from, end - from)).lastIndexOf(NEWLINE)
    if (at !== -1) return from + at + 1
  }
  return 0
}

/** A crash leaves the beginning of a record, or zeros where the file grew before its bytes were written. */
async function looksTorn(handle: FileHandle, from: number): Promise<boolean> {
  const bytes = await read(handle, from, LINE_LIMIT)
  const start = Buffer.from('{"index":').subarray(0, bytes.length)
  return bytes.subarray(0, start.length).equals(start) || bytes.every(byte => byte === 0)
}

async function read(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.max(0, length))
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, position)
  return bytes.subarray(0, bytesRead)
}

function part(file: string, start: number, length: number): AsyncIterable<Uint8Array> {
  return createReadStream(file, { start, end: length - 1 })
}
