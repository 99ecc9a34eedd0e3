import {
  appraiseEventLogs,
  type Bank,
  banks,
  type EventLog,
  type PcrBank,
  parseEventLog,
  replayEventLog,
  type Verdict,
} from '#attestation'
import { type Case, expectationOf, expectationOfLog, type Fields, fileIn, idOf, outcome, textIn, Unusable } from './case.ts'
import { strongBanks, valuesIn } from './pcr_values.ts'

/** Logs that were made to be wrong in one way, with the values that were quoted. */
export function attackLog(folder: string, record: Fields, place: string): Case {
  return {
    id: idOf(record, place),
    expected: expectationOf(record),
    judge: () => judge(logsOf(folder, record), record.pcrs, record),
  }
}

/** A log of a real machine, with the values it leads to or without. */
export function eventLog(folder: string, record: Fields, place: string): Case {
  const logs = () => logsOf(folder, record)
  const expected = expectationOfLog(record, isInSha1Form(logs))
  return { id: idOf(record, place), expected, judge: () => judge(logs(), record.expected_pcrs ?? record.pcrs, record) }
}

function isInSha1Form(logs: () => readonly Buffer[]): boolean {
  try {
    return !logs().some(isCryptoAgile)
  } catch (error) {
    if (error instanceof Unusable) return false // which it will be told to be when it is judged
    throw error
  }
}

function logsOf(folder: string, record: Fields): Buffer[] {
  const files = Array.isArray(record.files) ? record.files.map(String) : [textIn(record, 'file')]
  return files.map(file => readLog(folder, file))
}

function readLog(folder: string, file: string): Buffer {
  const bytes = fileIn(folder, file)
  return file.endsWith('.b64') ? Buffer.from(bytes.toString('latin1'), 'base64') : bytes
}

function judge(logs: readonly Buffer[], pcrs: unknown, { padding }: Fields): string {
  const form = { padding: padding === true || logs.every(isOfConfidentialMachine) }
  if (pcrs === undefined || pcrs === null) return logs.length === 1 && logs[0] ? alone(logs[0], form.padding) : missing()
  const quoted = valuesIn(pcrs)
  if (!quoted.ok) return quoted.code
  const codes = strongBanks(quoted.value).map(bank => {
    const values: PcrBank = quoted.value.get(bank) ?? new Map()
    return outcome(appraiseEventLogs(logs, values, { ...form, bank, replay: [...values.keys()] }))
  })
  return codes.find(code => code !== 'OK') ?? (codes.length > 0 ? 'OK' : 'WEAK_BANK')
}

function missing(): never {
  throw new Unusable('several logs can only be told from each other by quoted values')
}

/** Against its own values: of PCRs that end with a separator, as some of the logs are parts of one; and of those that have none. */
function alone(bytes: Buffer, padding: boolean): string {
  const log = parseEventLog(bytes, { padding })
  if (!log.ok) return log.code
  const bank = banks.find(one => log.value.banks.includes(one)) ?? 'sha256'
  const values: Verdict<PcrBank> = replayEventLog(log.value, bank)
  if (!values.ok) return values.code
  return outcome(appraiseEventLogs([bytes], values.value, { bank: bank satisfies Bank, padding, replay: ended(log.value) }))
}

const SEPARATOR = 0x4

function ended({ events }: EventLog): number[] {
  const firmware = [0, 1, 2, 3, 4, 5, 6, 7].filter(pcr => events.some(event => event.pcr === pcr && event.type === SEPARATOR))
  return [...firmware, ...Array.from({ length: 16 }, (_, pcr) => pcr + 8)]
}

/** Its registers are counted from 1, also in the header, and it lies in memory that is filled up with 0xff (UEFI Specification, Confidential Computing). */
function isOfConfidentialMachine(log: Buffer): boolean {
  return isCryptoAgile(log) && log.readUInt32LE(0) === 1
}

const SPEC_ID = Buffer.from('Spec ID Event03\0')

function isCryptoAgile(log: Buffer): boolean {
  return log.subarray(32, 32 + SPEC_ID.length).equals(SPEC_ID)
}

/** Whether a file of unknown origin is an event log, by its header or its name. */
export function looksLikeEventLog(name: string, bytes: Buffer): boolean {
  return (
    isCryptoAgile(bytes) ||
    isCryptoAgile(Buffer.from(bytes.toString('latin1', 0, 128), 'base64')) ||
    /\.bin$|event_?log|bios_measurements/i.test(name)
  )
}
