import { hash } from 'node:crypto'
import type { PcrBank } from '../pcr_table.ts'
import { type Hash, hashes } from '../tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import type { EventLog, PcrEvent } from './event_log.ts'
import { eventType } from './event_types.ts'

/** What an event extends its PCR with in that bank, when the log says so. */
export function digestIn({ digests }: PcrEvent, bank: Hash): Buffer | undefined {
  return digests.get(hashes[bank].id)
}

/** The same in hexadecimal, of an event that was replayed. */
export function hexIn(event: PcrEvent, bank: Hash): string {
  return digestIn(event, bank)?.toString('hex') ?? ''
}

/** Whether an event extends its PCR. */
export function isMeasured({ type }: PcrEvent): boolean {
  return type !== eventType.NO_ACTION
}

/** The value after an extend (TPM 2.0 Library Part 3, TPM2_PCR_Extend). */
export function extend(bank: Hash, value: Uint8Array, digest: Uint8Array): Buffer {
  return hash(bank, Buffer.concat([value, digest]), 'buffer')
}

/**
 * The values that all 24 PCRs of a bank have if the log is true. PCR 17 to 22 begin as 0xff, PCR 0 at the locality that the
 * firmware started from, all others at zero (TCG PC Client Platform Firmware Profile, EFI_STARTUP_LOCALITY_EVENT).
 * @returns WEAK_BANK, LOG_AMBIGUOUS, EVENT_SEMANTICS, BAD_ENCODING or LOG_MISMATCH when refused
 */
export function replayEventLog({ banks, events }: EventLog, bank: Hash): Verdict<PcrBank> {
  if (!banks.includes(bank)) return reject('WEAK_BANK', `the log has no digests of bank ${bank}, but of ${banks.join(' and ')}`)
  const locality = startupLocality(events)
  if (!locality.ok) return locality
  const values = initialValues(bank, locality.value)
  for (const [at, event] of events.entries()) {
    if (!isMeasured(event)) continue
    const digest = digestIn(event, bank)
    if (digest === undefined) return reject('LOG_MISMATCH', `event ${at} has no digest of bank ${bank}`)
    values.set(event.pcr, extend(bank, values.get(event.pcr) ?? Buffer.alloc(0), digest))
  }
  return accept(values)
}

function initialValues(bank: Hash, locality: number): Map<number, Buffer> {
  const { size } = hashes[bank]
  const values = new Map(Array.from({ length: 24 }, (_, pcr) => [pcr, Buffer.alloc(size, pcr >= 17 && pcr <= 22 ? 0xff : 0)]))
  values.get(0)?.writeUInt8(locality, size - 1)
  return values
}

const STARTUP_LOCALITY = Buffer.from('StartupLocality\0')
const localities = [0, 3, 4]

/** Nothing covers this event, so it may neither be there twice nor speak of a PCR that was extended before it. */
function startupLocality(events: readonly PcrEvent[]): Verdict<number> {
  const saying = events.filter(
    event => !isMeasured(event) && event.data.subarray(0, STARTUP_LOCALITY.length).equals(STARTUP_LOCALITY),
  )
  const [event] = saying
  if (event === undefined) return accept(0)
  if (saying.length > 1) return wrong('LOG_AMBIGUOUS', 'the startup locality is told twice')
  const before = events.slice(0, events.indexOf(event))
  if (before.some(other => other.pcr === 0 && isMeasured(other)))
    return wrong('EVENT_SEMANTICS', 'the startup locality is told after PCR 0 was extended')
  const locality = event.data[STARTUP_LOCALITY.length] ?? -1
  const wellFormed = event.pcr === 0 && event.data.length === STARTUP_LOCALITY.length + 1 && localities.includes(locality)
  return wellFormed ? accept(locality) : wrong('BAD_ENCODING', 'the startup locality is malformed')
}

function wrong(code: 'LOG_AMBIGUOUS' | 'EVENT_SEMANTICS' | 'BAD_ENCODING', detail: string): Rejection {
  return reject(code, detail)
}
