import { appraiseEventLogs } from '../eventlog/appraisal.ts'
import type { BootClaims } from '../eventlog/boot_claims.ts'
import { appraiseImaList, type ImaClaims, type Rounds } from '../eventlog/ima_list.ts'
import type { PcrTable } from '../pcr_table.ts'
import type { ReferenceSet } from '../pcrs.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import { type BootRules, faultOfBoot } from './boot_rules.ts'
import { faultOfFiles, type ImaReference, type ImaSummary, listingOf, summaryOf } from './ima_rules.ts'

/** A set of reference values with what it wants of logs; what it leaves out is not looked at. */
export type Reference = ReferenceSet & {
  /** as the quote says it, 16 hexadecimal digits; any of them */
  readonly firmwareVersions?: readonly string[]
  readonly boot?: BootRules
  readonly ima?: ImaReference
}

/** What was sent beside a quote: worth nothing but for what the quoted values are made of. */
export type Logs = { readonly eventLog?: Uint8Array; readonly imaList?: Uint8Array }

/** What a verified quote says. */
export type Quoted = {
  readonly pcrs: PcrTable
  readonly firmwareVersion: string
  /** whether the TPM hides its firmware version from this key, see `ClockRules` */
  readonly obfuscated: boolean
}

/** What a machine showed, also when it is refused for it. */
export type Shown = {
  /** the name of the first set that it matches, whole */
  readonly verdict: Verdict<string>
  /** what the log of the boot says, as far as the set that decided, or the first, has it explained */
  readonly boot?: BootClaims
  readonly ima?: ImaSummary
  /** all files of IMA, when asked for */
  readonly listing?: string
}

type Options = {
  /** whether to list all files of IMA */
  readonly listing?: boolean
}

/**
 * Judges logs against sets of reference values whose PCR values a quote matches already, in rounds, as `appraiseImaList` does. A
 * machine has to match one of the sets, whole: the firmware of the TPM, then the log of the boot, then the list of IMA.
 * @param references in the order in which they are to be tried, at least one
 * @returns a generator, at whose end is what was shown; its verdict is what `appraiseEventLogs`, `faultOfBoot`, `appraiseImaList` and
 *   `faultOfFiles` return when refused, LOG_MISSING or TPM_FIRMWARE
 */
export function* appraiseReferences(
  logs: Logs,
  quoted: Quoted,
  references: readonly Reference[],
  { listing = false }: Options = {},
): Generator<undefined, Shown, undefined> {
  const read = readers(logs, quoted)
  const faults: Rejection[] = []
  let first: Omit<Shown, 'verdict'> | undefined
  for (const reference of references) {
    const boot = reference.boot && read.boot(reference.boot)
    const ima = reference.ima && (yield* read.ima(reference.ima))
    const shown = shownOf(reference, boot, ima, listing)
    const fault = faultOf(reference, quoted, boot, ima, shown)
    if (fault === undefined) return { verdict: accept(reference.name), ...shown }
    first ??= shown
    faults.push(reject(fault.code, `${reference.name}: ${fault.detail}`))
  }
  const detail = faults.map(fault => fault.detail).join('; ')
  return { verdict: reject(faults[0]?.code ?? 'PCR_POLICY', detail || 'there are no reference values'), ...first }
}

type Boot = Verdict<BootClaims> | undefined
type Ima = Verdict<ImaClaims> | undefined

function shownOf({ ima: rules }: Reference, boot: Boot, ima: Ima, listing: boolean): Omit<Shown, 'verdict'> {
  const files = ima?.ok && rules ? { ima: summaryOf(ima.value, rules), ...(listing && { listing: listingOf(ima.value) }) } : {}
  return { ...(boot?.ok && { boot: boot.value }), ...files }
}

function faultOf(
  reference: Reference,
  quoted: Quoted,
  boot: Boot,
  ima: Ima,
  shown: Omit<Shown, 'verdict'>,
): Rejection | undefined {
  const firmware = wrongFirmware(reference, quoted)
  if (firmware) return firmware
  if (boot && !boot.ok) return boot
  const fault = reference.boot && shown.boot && faultOfBoot(shown.boot, reference.boot)
  if (fault) return fault
  if (ima && !ima.ok) return ima
  return shown.ima && faultOfFiles(shown.ima)
}

function wrongFirmware({ firmwareVersions }: Reference, { firmwareVersion, obfuscated }: Quoted): Rejection | undefined {
  if (firmwareVersions === undefined) return undefined
  if (obfuscated) return reject('TPM_FIRMWARE', 'the TPM tells its firmware version only to keys of the endorsement hierarchy')
  return firmwareVersions.includes(firmwareVersion) ? undefined : reject('TPM_FIRMWARE', `the firmware is ${firmwareVersion}`)
}

/** Sets that read a log in the same way share what was read: a list of IMA takes hundreds of milliseconds. */
function readers({ eventLog, imaList }: Logs, { pcrs }: Quoted) {
  const boots = new Map<string, Verdict<BootClaims>>()
  const lists = new Map<string, Verdict<ImaClaims>>()
  return {
    boot: ({ bank, replay, padding = false }: BootRules): Verdict<BootClaims> => {
      const key = JSON.stringify([bank, replay, padding])
      const known = boots.get(key)
      if (known) return known
      const logs = eventLog === undefined ? [] : [eventLog]
      const read = appraiseEventLogs(logs, pcrs.get(bank) ?? new Map(), { bank, replay, padding })
      boots.set(key, read)
      return read
    },
    *ima(rules: ImaReference): Rounds {
      const { bank, extends: mode, bootAggregate, templates, allowViolations } = rules
      const key = JSON.stringify([bank, mode, bootAggregate, templates, allowViolations])
      const known = lists.get(key)
      if (known) return known
      const read = imaList ? yield* appraiseImaList(imaList, pcrs, rules) : reject('LOG_MISSING' as const, 'no IMA list was sent')
      lists.set(key, read)
      return read
    },
  }
}
