import { hash } from 'node:crypto'

/** Where a chain stands: its last record. */
export type Head = { readonly index: number; readonly hash: string }

/** Where every chain begins: before record 0. */
export const genesis: Head = { index: -1, hash: '0'.repeat(64) }

/** The longest line, in bytes with its newline. */
export const LINE_LIMIT = 16 * 1024
export const NEWLINE = 0x0a

/** The `event` of the record with which every file begins, so that a file without its first records is told from one that continues another. */
export const FILE_OPENED = 'file-opened'

/** What can be wrong with a chain, once. */
export const faults = {
  NOT_JSON: 'the line is not a JSON object',
  FORM: 'the line does not hold index, prev and hash where a record has them',
  TOO_LONG: 'the line is longer than a record can be',
  EDITED: 'the record does not have the hash that it states',
  MISSING: 'at least one record before this one is missing',
  REORDERED: 'the record does not stand in its place',
  FOREIGN: 'the record continues another one than that before it',
  GENESIS: 'the first record neither begins a chain nor a file that continues one',
  TORN: 'the last line ends without a newline',
  EMPTY: 'there is no record',
  HEAD: 'the chain does not end with the expected record',
} as const
export type Fault = keyof typeof faults

/**
 * Makes the next line of a chain: `{"index":n,"prev":"<hex>",members,"hash":"<hex>"}` and a newline. The hash is SHA-256 of the
 * bytes of the line before `,"hash":`; these hold `prev`, the hash of the record before, so each hash covers all before it.
 */
export function link(head: Head, members: string): { readonly line: string; readonly head: Head } {
  const index = head.index + 1
  const covered = `{"index":${index},"prev":"${head.hash}",${members}`
  const digest = hash('sha256', covered)
  return { line: `${covered},"hash":"${digest}"}\n`, head: { index, hash: digest } }
}

export type Line = { readonly index: number; readonly prev: string; readonly hash: string; readonly opensFile: boolean }

const opening = /^\{"index":(0|[1-9]\d{0,14}),"prev":"([0-9a-f]{64})",/
const closing = /^,"hash":"([0-9a-f]{64})"\}$/
const OPENING_BYTES = 100
const CLOSING_BYTES = 75

/** Reads one line, without its newline, by its bytes: the hash covers them as they stand, no other spelling of the same JSON will do. */
export function readLine(bytes: Buffer): Line | Fault {
  const start = opening.exec(bytes.toString('latin1', 0, OPENING_BYTES))
  const end = closing.exec(bytes.toString('latin1', Math.max(0, bytes.length - CLOSING_BYTES)))
  const [, index, prev] = start ?? []
  const stated = end?.[1]
  if (index === undefined || prev === undefined || stated === undefined) return parsed(bytes) ? 'FORM' : 'NOT_JSON'
  if (hash('sha256', bytes.subarray(0, bytes.length - CLOSING_BYTES)) !== stated) return 'EDITED'
  const record = parsed(bytes)
  if (!record) return 'NOT_JSON'
  // a member that is there twice would be read differently by others
  if (String(record['index']) !== index || record['prev'] !== prev || record['hash'] !== stated) return 'FORM'
  const opensFile = record['type'] === 'system' && record['event'] === FILE_OPENED
  return { index: Number(index), prev, hash: stated, opensFile }
}

/** The index that the beginning of a line states, without a look at the rest. */
export function indexOf(bytes: Buffer): number | undefined {
  const [, index] = opening.exec(bytes.toString('latin1', 0, OPENING_BYTES)) ?? []
  return index === undefined ? undefined : Number(index)
}

function parsed(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
