import { hash } from 'node:crypto'
import type { Hash } from '../tpm2/constants.ts'
import { type Rejection, reject } from '../verdict.ts'
import { readEfiVariable } from './efi_variable.ts'
import type { PcrEvent } from './event_log.ts'
import { eventType, nameOfType } from './event_types.ts'
import { digestIn, hexIn, isMeasured } from './replay.ts'

const { SEPARATOR, NONHOST_INFO, EFI_ACTION, EFI_GPT_EVENT, EFI_VARIABLE_BOOT, EFI_VARIABLE_BOOT2 } = eventType
const { EFI_VARIABLE_DRIVER_CONFIG, EFI_VARIABLE_AUTHORITY } = eventType

/** The PCR of the secure boot policy. */
const SECURE_BOOT = 7
/** PCR 0 to 7 are the firmware's until it ends each with a separator. */
const FIRMWARE_PCRS = 8

/**
 * Judges the events of PCRs that were replayed. The rules, in order: where the digest is one of the data, it is that; the data has
 * the form of its type; one separator in each of PCR 0 to 7; nothing in PCR 7 but what the firmware profile has there, and in its
 * place. The type of an event proves nothing: a wrong one may at most have the log refused.
 * @param events those of the replayed PCRs, in the order of the log
 * @returns the fault, EVENT_DATA_DIGEST, BAD_ENCODING or EVENT_SEMANTICS
 */
export function faultOfEvents(events: readonly PcrEvent[], pcrs: readonly number[], bank: Hash): Rejection | undefined {
  const measured = events.filter(isMeasured)
  return firstOf(measured, event => wrongData(event, bank)) ?? firstOf(measured, wrongForm) ?? wrongPlaces(measured, pcrs, bank)
}

function wrongPlaces(events: readonly PcrEvent[], pcrs: readonly number[], bank: Hash): Rejection | undefined {
  for (const pcr of pcrs) {
    const own = events.filter(event => event.pcr === pcr)
    const fault = pcr === SECURE_BOOT ? wrongSecureBoot(own, bank) : wrongSeparators(own, pcr)
    if (fault !== undefined) return fault
  }
  return undefined
}

function firstOf<T>(events: readonly PcrEvent[], fault: (event: PcrEvent) => T | undefined): T | undefined {
  for (const event of events) {
    const found = fault(event)
    if (found !== undefined) return found
  }
  return undefined
}

/** Types whose digest is one of the data (Platform Firmware Profile, Event Types); of two types it may be one of a part. */
const overData: readonly number[] = [SEPARATOR, NONHOST_INFO, EFI_ACTION, EFI_GPT_EVENT, EFI_VARIABLE_DRIVER_CONFIG]
const overDataOrValue: readonly number[] = [EFI_VARIABLE_BOOT, EFI_VARIABLE_BOOT2]

function wrongData(event: PcrEvent, bank: Hash): Rejection | undefined {
  const { type } = event
  const free = !overData.includes(type) && !overDataOrValue.includes(type)
  if (free || isDigestOf(event.data, event, bank)) return undefined
  if (overDataOrValue.includes(type) && isDigestOfValue(event, bank)) return undefined
  return notMeasured(event)
}

function notMeasured({ type, pcr }: PcrEvent): Rejection {
  return reject('EVENT_DATA_DIGEST', `the data of an ${nameOfType(type)} in PCR ${pcr} is not what was measured`)
}

/** Whether this is what the event extended its PCR with: then, and only then, its content is known. */
export function isDigestOf(content: Uint8Array, event: PcrEvent, bank: Hash): boolean {
  return digestIn(event, bank)?.toString('hex') === hash(bank, content) // faster in hexadecimal
}

function isDigestOfValue(event: PcrEvent, bank: Hash): boolean {
  const variable = readEfiVariable(event.data)
  return variable.ok && isDigestOf(variable.value.value, event, bank)
}

function wrongForm({ type, data, pcr }: PcrEvent): Rejection | undefined {
  if (type === EFI_VARIABLE_DRIVER_CONFIG || type === EFI_VARIABLE_BOOT || type === EFI_VARIABLE_BOOT2)
    return faultOf(readEfiVariable(data))
  // what can be run has neither form, so it cannot hide behind the type
  const isText = data.every(byte => byte >= 0x20 && byte < 0x7f)
  if (type === EFI_ACTION && !isText) return reject('EVENT_SEMANTICS', `an EV_EFI_ACTION in PCR ${pcr} is no text`)
  if (type === EFI_GPT_EVENT && !data.subarray(0, PARTITION_TABLE.length).equals(PARTITION_TABLE))
    return reject('EVENT_SEMANTICS', `an EV_EFI_GPT_EVENT in PCR ${pcr} is no partition table`)
  const isEnd = separators.some(separator => separator.equals(data))
  if (type === SEPARATOR && !isEnd) return reject('EVENT_SEMANTICS', `the separator of PCR ${pcr} is 0x${data.toString('hex')}`)
  return undefined
}

function faultOf(verdict: { readonly ok: true } | Rejection): Rejection | undefined {
  return verdict.ok ? undefined : verdict
}

/** Signature of an EFI_PARTITION_TABLE_HEADER. */
const PARTITION_TABLE = Buffer.from('EFI PART')
/** Both are in use; any other one says that the firmware failed. */
const separators = [Buffer.alloc(4), Buffer.alloc(4, 0xff)]

function wrongSeparators(events: readonly PcrEvent[], pcr: number): Rejection | undefined {
  const count = events.filter(({ type }) => type === SEPARATOR).length
  if (pcr >= FIRMWARE_PCRS || count === 1) return undefined
  return reject('EVENT_SEMANTICS', `PCR ${pcr} has ${count} separators`)
}

/** The separator by its digest: a type can be given to any event, and what the operating system adds comes after. */
export function isSeparator(event: PcrEvent, bank: Hash): boolean {
  return separatorDigests[bank].includes(hexIn(event, bank))
}

const digestsOf = (bank: Hash) => separators.map(separator => hash(bank, separator))
const separatorDigests: Readonly<Record<Hash, readonly string[]>> = {
  sha1: digestsOf('sha1'),
  sha256: digestsOf('sha256'),
  sha384: digestsOf('sha384'),
  sha512: digestsOf('sha512'),
}

const inSecureBoot: readonly number[] = [SEPARATOR, EFI_VARIABLE_DRIVER_CONFIG, EFI_VARIABLE_AUTHORITY, EFI_ACTION]

function wrongSecureBoot(events: readonly PcrEvent[], bank: Hash): Rejection | undefined {
  const stranger = events.find(({ type }) => !inSecureBoot.includes(type))
  if (stranger) return reject('EVENT_SEMANTICS', `${nameOfType(stranger.type)} in PCR ${SECURE_BOOT}`)
  const ends = events.filter(event => event.type === SEPARATOR || isSeparator(event, bank))
  const end = events.findIndex(({ type }) => type === SEPARATOR)
  if (ends.length !== 1 || end < 0) return reject('EVENT_SEMANTICS', `PCR ${SECURE_BOOT} has ${ends.length} separators`)
  const late = events.slice(end + 1).find(({ type }) => type !== EFI_VARIABLE_AUTHORITY)
  if (late) return reject('EVENT_SEMANTICS', `${nameOfType(late.type)} after the separator of PCR ${SECURE_BOOT}`)
  return wrongPolicy(events.slice(0, end), bank)
}

/** Before the separator nothing is unknown, so nothing of it can be hidden under another type. */
function wrongPolicy(events: readonly PcrEvent[], bank: Hash): Rejection | undefined {
  const authorities = events.filter(({ type }) => type === EFI_VARIABLE_AUTHORITY) // of all others this was seen before
  const unknown = authorities.find(event => !isDigestOf(event.data, event, bank) && !isDigestOfValue(event, bank))
  if (unknown) return notMeasured(unknown)
  const names = new Set<string>()
  for (const event of events.filter(({ type }) => type === EFI_VARIABLE_DRIVER_CONFIG)) {
    const variable = readEfiVariable(event.data)
    if (!variable.ok) return variable
    const name = `${variable.value.guid} ${variable.value.name}`
    if (names.has(name)) return reject('EVENT_SEMANTICS', `PCR ${SECURE_BOOT} has the variable ${name} twice`)
    names.add(name)
  }
  return undefined
}
