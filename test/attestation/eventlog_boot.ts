import {
  appraiseEventLogs,
  type BootClaims,
  type Hash,
  type LogRules,
  parseEventLog,
  replayEventLog,
  type Verdict,
} from '#attestation'
import { eventType } from '../../attestation/eventlog/event_types.ts'
import { outcome, unwrap } from './attester.ts'
import { boot, encodeLog, type Made, separator } from './eventlog_maker.ts'

// A boot as it was measured, what a TPM would have quoted after it, and how both are judged.

export const ALL = Array.from({ length: 24 }, (_, pcr) => pcr)

/** The values that a TPM would have quoted after those events, in that bank. */
export function valuesOf(events: readonly Made[], bank: Hash = 'sha256'): ReadonlyMap<number, Buffer> {
  return unwrap(replayEventLog(unwrap(parseEventLog(encodeLog(events, {}, [bank]))), bank))
}

export const quoted = valuesOf(boot)
export const log = encodeLog(boot)

export function appraise(logs: readonly Uint8Array[], changes: Partial<LogRules> = {}, values = quoted): Verdict<BootClaims> {
  return appraiseEventLogs(logs, values, { bank: 'sha256', replay: ALL, ...changes })
}

export const judge = (bytes: Uint8Array, changes: Partial<LogRules> = {}) => outcome(appraise([bytes], changes))
/** What a machine that measured these says of itself. */
export const honest = (events: readonly Made[]) => appraise([encodeLog(events)], {}, valuesOf(events))

export const at = (name: string) =>
  boot.findIndex(({ type, data }) => type === eventType.EFI_VARIABLE_DRIVER_CONFIG && data.includes(Buffer.from(name, 'utf16le')))
export const secureBootAt = at('SecureBoot')
export const eventAt = (place: number) => boot[place] ?? separator(0)
export const inserted = (place: number, ...events: Made[]) => boot.toSpliced(place, 0, ...events)
export const NONE = Buffer.alloc(0)
