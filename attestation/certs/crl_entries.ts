import { after, contentOf, type Element, elementAt, INTEGER, SEQUENCE, slice } from './der.ts'

const TIMES = [0x17, 0x18]
const BOOLEAN = 0x01

/** What a list has revoked, and the list without that. */
export type Entries = {
  /** serial numbers in hexadecimal without leading zeros */
  readonly serials: ReadonlySet<string>
  /** whether an entry has a critical extension */
  readonly critical: boolean
  /** DER of the list without its entries, for what reads the rest of it */
  readonly rest: Buffer
  /** what the signature is over */
  readonly signed: Buffer
}

/**
 * Reads `revokedCertificates` of a list (RFC 5280 5.1.2.6), of which there may be some hundred thousand: pkijs takes a quarter of a millisecond for
 * each, and the decoder below it refuses more than some three thousand.
 * @returns undefined when they are not as they have to be
 */
export function readEntries(list: Uint8Array): Entries | undefined {
  const body = elementAt(list, elementAt(list, 0)?.from)
  const fields = contentOf(list, body)
  const last = fields?.findLastIndex(({ tag }) => TIMES.includes(tag)) ?? -1
  if (body === undefined || fields === undefined || last < 0) return undefined
  const listed = fields[last + 1]
  const signed = slice(list, body)
  if (listed?.tag !== SEQUENCE) return { serials: new Set(), critical: false, rest: Buffer.from(list), signed }
  const serials = new Set<string>()
  let critical = false
  for (let at = listed.from; at < listed.to; ) {
    const entry = elementAt(list, at)
    const read = entry && readEntry(list, entry)
    if (!entry || entry.to > listed.to || !read) return undefined
    serials.add(read.serial)
    critical ||= read.critical
    at = entry.to
  }
  return { serials, critical, rest: without(list, body, listed), signed }
}

function readEntry(list: Uint8Array, entry: Element): { serial: string; critical: boolean } | undefined {
  const serial = elementAt(list, entry.from)
  const date = after(list, serial)
  if (entry.tag !== SEQUENCE || serial?.tag !== INTEGER || date === undefined || !TIMES.includes(date.tag)) return undefined
  const found = { serial: serialIn(list.subarray(serial.from, serial.to)), critical: false }
  if (date.to === entry.to) return found
  const extensions = after(list, date)
  if (extensions?.tag !== SEQUENCE || extensions.to !== entry.to) return undefined
  const members = contentOf(list, extensions)?.map(one => contentOf(list, one))
  if (members === undefined || members.includes(undefined)) return undefined
  return { ...found, critical: members.some(one => one?.[1]?.tag === BOOLEAN && list[one[1].from] !== 0) }
}

/** Hexadecimal, without leading zeros. */
export function serialIn(integer: Uint8Array): string {
  return Buffer.from(integer.buffer, integer.byteOffset, integer.length)
    .toString('hex')
    .replace(/^(?:00)+/, '')
}

/** The list with its lengths as they are then. */
function without(list: Uint8Array, body: Element, part: Element): Buffer {
  const signed = sequence(list.subarray(body.from, part.start), list.subarray(part.to, body.to))
  return sequence(signed, list.subarray(body.to))
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  const bytes = length.subarray(length.findIndex(byte => byte !== 0))
  const header = content.length < 0x80 ? [content.length] : [0x80 + bytes.length, ...bytes]
  return Buffer.concat([Buffer.of(SEQUENCE, ...header), content])
}
