import type { PcrBank } from '../pcr_table.ts'
import { extend, initialValue, localities } from '../pcr_values.ts'
import { type Hash, hashes, PCRS } from '../tpm2/constants.ts'
import { accept, reject, type Verdict } from '../verdict.ts'
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

/**
 * The values that all PCRs of a bank have if the log is true: each begins with its `initialValue`, PCR 0 at the locality that the
 * firmware says it started from.
 * @returns WEAK_BANK, LOG_AMBIGUOUS, EVENT_SEMANTICS, BAD_ENCODING or LOG_MISMATCH when refused
 */
export function replayEventLog({ banks, events }: EventLog, bank: Hash): Verdict<PcrBank> {
  if (!banks.includes(bank)) return reject('WEAK_BANK', `the log has no digests of bank ${bank}, but of ${banks.join(' and ')}`)
  const locality = startupLocality(events)
  if (!locality.ok) return locality
  const values = new Map(Array.from({ length: PCRS }, (_, pcr) => [pcr, initialValue(bank, pcr, locality.value)]))
  for (const [at, event] of events.entries()) {
    if (!isMeasured(event)) continue
    const digest = digestIn(event, bank)
    if (digest === undefined) return reject('LOG_MISMATCH', `event ${at} has no digest of bank ${bank}`)
    values.set(event.pcr, extend(bank, values.get(event.pcr) ?? Buffer.alloc(0), digest))
  }
  return accept(values)
}

const STARTUP_LOCALITY = Buffer.from('StartupLocality\0')

/** Nothing covers this event, so it may neither be there twice nor speak of a PCR that was extended before it. */
function startupLocality(events: readonly PcrEvent[]): Verdict<number> {
  const saying = events.filter(
    event => !isMeasured(event) && event.data.subarray(0, STARTUP_LOCALITY.length).equals(STARTUP_LOCALITY),
  )
  const [event] = saying
  if (event === undefined) return accept(0)
  if (saying.length > 1) return reject('LOG_AMBIGUOUS', 'the startup locality is told twice')
  const before = events.slice(0, events.indexOf(event))
  if (before.some(other => other.pcr === 0 && isMeasured(other)))
    return reject('EVENT_SEMANTICS', 'the startup locality is told after PCR 0 was extended')
  const locality = event.data[STARTUP_LOCALITY.length] ?? -1
  const wellFormed = event.pcr === 0 && event.data.length === STARTUP_LOCALITY.length + 1 && localities.includes(locality)
  return wellFormed ? accept(locality) : reject('BAD_ENCODING', 'the startup locality is malformed')
}
