import { banks } from '../pcrs.ts'
import { parse, type Reader } from '../tpm2/bytes.ts'
import { type Hash, hashes, PCRS } from '../tpm2/constants.ts'
import { reject, type Verdict } from '../verdict.ts'
import { eventType } from './event_types.ts'
import { u16, u32 } from './little_endian.ts'

/** The log of a boot is refused above this many bytes; that of a PC has about 40,000. */
const LOG_LIMIT = 1_048_576
const limits = { events: 10_000, data: 262_144, algorithms: 16 }

/** What firmware and boot loaders say that they measured: a claim until its replay equals quoted PCRs. Buffers are views of the bytes given. */
export type EventLog = {
  /** that its header declares, but for those that no quote of ours is over */
  readonly banks: readonly Hash[]
  readonly events: readonly PcrEvent[]
}
/** TCG_PCR_EVENT2. No digest covers the type, and for most types none covers the data. */
export type PcrEvent = {
  readonly pcr: number
  readonly type: number
  /** by TPM_ALG_ID */
  readonly digests: ReadonlyMap<number, Buffer>
  readonly data: Buffer
}
export type LogFormat = {
  /** accepts bytes of 0xff after the last event: what is read from the memory that an ACPI table points to has them */
  readonly padding?: boolean
}

/**
 * Reads an event log in crypto-agile form to its last byte (TCG PC Client Platform Firmware Profile, Event Logging): one
 * TCG_PCR_EVENT with TCG_EfiSpecIDEvent, then TCG_PCR_EVENT2s. An event may lack digests of declared banks, which is for the
 * replay to see. Counts and sizes are judged before what they count is looked for.
 * @returns LOG_MISSING, LIMIT, TRUNCATED, WEAK_BANK for one in SHA-1 form or of SHA-1 alone, BAD_ENCODING, UNSUPPORTED_ALG or TRAILING_DATA when refused
 */
export function parseEventLog(bytes: Uint8Array, { padding = false }: LogFormat = {}): Verdict<EventLog> {
  if (bytes.length === 0) return reject('LOG_MISSING', 'the event log is empty')
  return parse(bytes, LOG_LIMIT, reader => readLog(reader, bytes, padding))
}

function readLog(reader: Reader, bytes: Uint8Array, padding: boolean): EventLog {
  const declared = readHeader(reader)
  const events: PcrEvent[] = []
  while (reader.left > 0) {
    if (isPadding(bytes.subarray(reader.offset))) {
      if (!padding) reader.fail('TRAILING_DATA', `${reader.left} bytes of 0xff after the last event`)
      reader.take(reader.left)
    } else {
      if (events.length === limits.events) reader.fail('LIMIT', `more than ${limits.events} events`)
      events.push(readEvent(reader, declared))
    }
  }
  return { banks: (Object.keys(hashes) as Hash[]).filter(bank => declared.has(hashes[bank].id)), events }
}

/** Some bytes of 0xff may begin an event; it is padding when nothing else follows. */
function isPadding(rest: Uint8Array): boolean {
  return rest.every(byte => byte === 0xff)
}

/** Sizes of digests by TPM_ALG_ID. */
type Algorithms = ReadonlyMap<number, number>

/** Those of ours, then SM3-256, SHA3-256, SHA3-384 and SHA3-512, of which nothing but the size has to be known to read on. */
const known: Algorithms = new Map([
  ...Object.values(hashes).map(({ id, size }) => [id, size] as const),
  [0x0012, 32],
  [0x0027, 32],
  [0x0028, 48],
  [0x0029, 64],
])

const SPEC_ID = Buffer.from('Spec ID Event03\0')
const SHA1_SIZE = 20

/** TCG_PCR_EVENT. A log in SHA-1 form has any event of that structure here. */
function readHeader(reader: Reader): Algorithms {
  readPcr(reader)
  const [type, digest, data] = [u32(reader), reader.take(SHA1_SIZE), readData(reader)]
  if (!data.subarray(0, SPEC_ID.length).equals(SPEC_ID)) reader.fail('WEAK_BANK', 'the log is in SHA-1 form')
  if (type !== eventType.NO_ACTION || !isZero(digest))
    reader.fail('BAD_ENCODING', 'the header of the log is measured, which it must not be')
  const read = parse(data, limits.data, readSpecId)
  if (read.ok) return isStrong(read.value) ? read.value : reader.fail('WEAK_BANK', 'the log declares no bank that may decide')
  const misfit = read.code === 'TRUNCATED' || read.code === 'TRAILING_DATA' // the field in the event, not the log
  return reader.fail(misfit ? 'BAD_ENCODING' : read.code, `TCG_EfiSpecIDEvent: ${read.detail}`)
}

function isStrong(declared: Algorithms): boolean {
  return banks.some(bank => declared.has(hashes[bank].id))
}

/** TCG_EfiSpecIDEvent: signature, platformClass, version, uintnSize, digestSizes, vendorInfo. */
function readSpecId(reader: Reader): Algorithms {
  reader.take(SPEC_ID.length + 4)
  const [, major] = reader.take(4)
  if (major !== 2) reader.fail('BAD_ENCODING', `specVersionMajor is ${major}`)
  const count = u32(reader)
  if (count > limits.algorithms) reader.fail('LIMIT', `${count} algorithms, at most ${limits.algorithms} are read`)
  if (count === 0) reader.fail('BAD_ENCODING', 'no algorithm is declared')
  const declared = new Map<number, number>()
  for (let at = 0; at < count; at += 1) {
    const [id, size] = [u16(reader), u16(reader)]
    if (!known.has(id)) reader.fail('UNSUPPORTED_ALG', `${hex(id)} is declared`)
    if (declared.has(id)) reader.fail('BAD_ENCODING', `${hex(id)} is declared twice`)
    if (size !== known.get(id)) reader.fail('BAD_ENCODING', `digests of ${hex(id)} are declared to have ${size} bytes`)
    declared.set(id, size)
  }
  reader.take(reader.u8())
  return declared
}

function readEvent(reader: Reader, declared: Algorithms): PcrEvent {
  const [pcr, type] = [readPcr(reader), u32(reader)]
  const digests = readDigests(reader, declared)
  const data = readData(reader)
  if (type === eventType.NO_ACTION && ![...digests.values()].every(isZero))
    reader.fail('BAD_ENCODING', 'EV_NO_ACTION extends nothing, but has a digest')
  return { pcr, type, digests, data }
}

/** TPML_DIGEST_VALUES */
function readDigests(reader: Reader, declared: Algorithms): Map<number, Buffer> {
  const count = u32(reader)
  if (count > limits.algorithms) reader.fail('LIMIT', `${count} digests, at most ${limits.algorithms} are read`)
  const digests = new Map<number, Buffer>()
  for (let at = 0; at < count; at += 1) {
    const id = u16(reader)
    const size = declared.get(id) ?? reader.fail('UNSUPPORTED_ALG', `a digest of ${hex(id)}, which the header does not declare`)
    if (digests.has(id)) reader.fail('BAD_ENCODING', `an event has two digests of ${hex(id)}`)
    digests.set(id, reader.take(size))
  }
  return digests
}

function readPcr(reader: Reader): number {
  const pcr = u32(reader)
  return pcr < PCRS ? pcr : reader.fail('LIMIT', `PCR ${pcr}, the highest is ${PCRS - 1}`)
}

function readData(reader: Reader): Buffer {
  const size = u32(reader)
  return size > limits.data
    ? reader.fail('LIMIT', `an event of ${size} bytes, at most ${limits.data} are read`)
    : reader.take(size)
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every(byte => byte === 0)
}

function hex(id: number): string {
  return `algorithm 0x${id.toString(16).padStart(4, '0')}`
}
