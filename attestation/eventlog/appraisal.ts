import { withOsSeparator } from '../os_separator.ts'
import type { PcrBank } from '../pcr_table.ts'
import type { Bank } from '../pcrs.ts'
import { sameBytes } from '../same_bytes.ts'
import { type Rejection, reject, type Verdict } from '../verdict.ts'
import { type BootClaims, claimsOf } from './boot_claims.ts'
import { type EventLog, type LogFormat, parseEventLog } from './event_log.ts'
import { faultOfEvents } from './event_rules.ts'
import { replayEventLog } from './replay.ts'

const LOGS_LIMIT = 16

export type LogRules = LogFormat & {
  readonly bank: Bank
  /** PCRs that the log has to explain; any other is as if the log did not speak of it */
  readonly replay: readonly number[]
}

/**
 * Judges the event logs that came with a quote, of which one has to be that of the boot that was quoted: older ones may lie beside
 * it. The checks of a log, in order: its structure, see `parseEventLog`; its replay, see `replayEventLog`, equals the quoted value
 * of every PCR in question, or becomes it by `withOsSeparator`; its events, see `faultOfEvents`.
 * @param quoted the values of the bank that the quote was verified over
 * @returns what those return when refused, LOG_MISSING, LIMIT, PCR_NOT_QUOTED or LOG_MISMATCH
 */
export function appraiseEventLogs(logs: readonly Uint8Array[], quoted: PcrBank, rules: LogRules): Verdict<BootClaims> {
  if (logs.length === 0) return reject('LOG_MISSING', 'no event log was sent')
  if (logs.length > LOGS_LIMIT) return reject('LIMIT', `${logs.length} event logs, at most ${LOGS_LIMIT} are read`)
  const missing = rules.replay.find(pcr => !quoted.has(pcr))
  if (missing !== undefined)
    return reject('PCR_NOT_QUOTED', `PCR ${missing} of ${rules.bank} has to be replayed, but is not signed`)
  const faults: Rejection[] = []
  for (const log of logs) {
    const verdict = appraise(log, quoted, rules)
    if (verdict.ok) return verdict
    faults.push(verdict)
  }
  return faults.find(({ code }) => code.startsWith('EVENT_')) ?? faults[0] ?? reject('LOG_MISSING', 'no event log was sent')
}

function appraise(bytes: Uint8Array, quoted: PcrBank, rules: LogRules): Verdict<BootClaims> {
  const log = parseEventLog(bytes, rules)
  if (!log.ok) return log
  const mismatch = mismatchOf(log.value, quoted, rules)
  if (mismatch !== undefined) return mismatch
  const events = log.value.events.filter(({ pcr }) => rules.replay.includes(pcr))
  return faultOfEvents(events, rules.replay, rules.bank) ?? claimsOf(events, rules.replay, rules.bank)
}

function mismatchOf(log: EventLog, quoted: PcrBank, { bank, replay }: LogRules): Rejection | undefined {
  const replayed = replayEventLog(log, bank)
  if (!replayed.ok) return replayed
  const differs = replay.filter(pcr => !explains(bank, pcr, replayed.value.get(pcr), quoted.get(pcr)))
  return differs.length === 0
    ? undefined
    : reject('LOG_MISMATCH', `the log does not explain PCR ${differs.join(', ')} of ${bank}`)
}

function explains(bank: Bank, pcr: number, replayed: Buffer | undefined, quoted: Buffer | undefined): boolean {
  if (replayed === undefined || quoted === undefined) return false
  const separated = withOsSeparator(bank, pcr, replayed)
  return sameBytes(replayed, quoted) || (separated !== undefined && sameBytes(separated, quoted))
}
