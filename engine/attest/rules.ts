import { accept, type Bank, type BootRules, type Reference, reject, type Selection } from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Files, Wanted } from './logs/log_job.ts'
import { databasesOf, referenceValues } from './reference_values.ts'
import { type ReferenceRecord, windowOf, within } from './references.ts'
import { type AttestSettings, configOf } from './settings.ts'

/** A set of reference values as it counts now. */
export type CurrentSet = { readonly version: number; readonly observes: boolean; readonly wanted: Wanted }

/** What a role expects of a machine. */
export type Rules = {
  /** those that let machines in, in the order of the role */
  readonly deciding: readonly CurrentSet[]
  /** those that only record what machines show */
  readonly observing: readonly CurrentSet[]
  /** what a quote has to cover */
  readonly selection: Selection
  /** which logs have to come with it */
  readonly logs: readonly LogKind[]
  readonly tpmIds: readonly string[]
  readonly allowReset: boolean
  readonly allowUnsafe: boolean
  readonly mustBind: boolean
  /** the key to bind has to be certified by the attestation key */
  readonly mustCertify: boolean
  /** of TPMs, in lower case */
  readonly deniedFirmware: readonly string[]
  /** a machine that fails gets nothing until it is cleared */
  readonly latches: boolean
}
export type LogKind = 'tcg' | 'ima'

/** @param now milliseconds since the epoch: sets outside of their time do not count
 *  @param format of the evidence, which has to be that of the role
 *  @returns ROLE, ROLE_DISABLED, KIND, PCR_POLICY, REFERENCE_DISABLED, REFERENCE_WINDOW or REFERENCE_NOT_APPROVED when refused */
export async function rulesOf(
  settings: AttestSettings,
  mount: Mount,
  name: string,
  now: number,
  format = 'tpm2-quote',
): Promise<Verdict<Rules>> {
  const [role, config] = await Promise.all([settings.role.get(mount.id, name), configOf(settings, mount)])
  if (!role) return reject('ROLE', 'no role has this name')
  if (role.disabled) return reject('ROLE_DISABLED', name)
  if (role.format !== format) return reject('KIND', `the role wants ${role.format}`)
  const sets = await Promise.all(role.references.map(async set => ({ set, record: await settings.reference.get(mount.id, set) })))
  const gone = sets.find(({ record }) => !record)
  if (gone) return reject('PCR_POLICY', `the reference values ${gone.set} do not exist`)
  if (sets.every(({ record }) => record?.disabled)) return reject('REFERENCE_DISABLED', role.references.join(', '))
  const current = sets.flatMap(({ set, record }) => (record && counts(record, now) ? [{ set, record }] : []))
  if (current.length === 0)
    return reject('REFERENCE_WINDOW', `none of ${role.references.join(', ')} counts at ${new Date(now).toISOString()}`)
  const alone = config.reference_approval === 'none'
  const approved = current.filter(({ record }) => alone || isApproved(record))
  const found = await Promise.all(
    approved.map(async ({ set, record }) => {
      const read = await setOf(settings, mount, set, record)
      return alone || (await isStill(settings, mount, set, record)) ? [read] : []
    }),
  )
  const read = found.flat()
  if (read.length === 0)
    return reject('REFERENCE_NOT_APPROVED', current.map(({ set, record }) => `${set} of version ${record.version}`).join(', '))
  const missing = read.find(one => !one.ok)
  if (missing && !missing.ok) return missing
  const all = read.flatMap(one => (one.ok ? [one.value] : []))
  return accept({
    deciding: all.filter(({ observes }) => !observes),
    observing: all.filter(({ observes }) => observes),
    selection: selectionOf(all.map(({ wanted }) => wanted)),
    logs: [
      ...(all.some(({ wanted }) => wanted.boot) ? (['tcg'] as const) : []),
      ...(all.some(({ wanted }) => wanted.ima) ? (['ima'] as const) : []),
    ],
    tpmIds: role.tpm_ids,
    allowReset: config.allow_software_tpms,
    allowUnsafe: role.allow_unsafe_clock,
    mustBind: role.bind_key !== 'optional',
    mustCertify: role.bind_key === 'certified',
    deniedFirmware: config.denied_firmware.map(lower),
    latches: config.latch,
  })
}

/** An update goes from one set to the next: while both count, either will do. */
function counts(record: ReferenceRecord, now: number): boolean {
  return !record.disabled && within(windowOf(record), now)
}

/** What lets nobody in needs nobody’s approval. */
const isApproved = ({ observe, version, approved_version }: ReferenceRecord) => observe || version === approved_version

/** Whether the lists of files that were read just now are those that somebody approved of: the set may be from the cache, and they not. */
async function isStill(settings: AttestSettings, mount: Mount, name: string, record: ReferenceRecord): Promise<boolean> {
  if (record.observe || record.ima_lists.length === 0) return true
  return (await settings.reference.fresh(mount.id, name))?.version === record.version
}

async function setOf(
  settings: AttestSettings,
  mount: Mount,
  name: string,
  record: ReferenceRecord,
): Promise<Verdict<CurrentSet>> {
  const lists = await Promise.all(record.ima_lists.map(async list => ({ list, kept: await settings.ima.get(mount.id, list) })))
  const gone = lists.find(({ kept }) => !kept)
  if (gone) return reject('PCR_POLICY', `${name}: the list of files ${gone.list} does not exist`)
  const files = lists.map(({ list, kept }): Files => ({ key: `${mount.id}/${list}`, text: kept?.files ?? '' }))
  return accept({ version: record.version, observes: record.observe, wanted: wantedOf(name, record, files) })
}

function wantedOf(name: string, record: ReferenceRecord, files: readonly Files[]): Wanted {
  const { bank, firmware_versions: firmware } = record
  return {
    name,
    pcrs: referenceValues(record.pcrs, record.observe),
    explained: explainedBy(record, bank),
    ...(firmware.length > 0 && { firmwareVersions: firmware.map(lower) }),
    ...(record.replay.length > 0 && { boot: bootOf(record, bank) }),
    ...(record.ima === 'required' && { ima: imaOf(record, bank, files) }),
  }
}

const IMA_PCR = 10
/** The PCRs that the boot aggregate is of have to be signed with it. */
const aggregated = { '0-7': 8, '0-9': 10, unchecked: 0 } as const

function explainedBy(record: ReferenceRecord, bank: Bank): Selection {
  const replayed = record.replay.map(Number)
  const aggregate = Array.from({ length: aggregated[record.ima_boot_aggregate] }, (_, pcr) => pcr)
  const pcrs = new Set([...replayed, ...(record.ima === 'required' ? [...aggregate, IMA_PCR] : [])])
  return pcrs.size > 0 ? { [bank]: [...pcrs].sort((one, other) => one - other) } : {}
}

function bootOf(record: ReferenceRecord, bank: Bank): BootRules {
  const listed = (name: string, digests: readonly string[]) => (digests.length > 0 ? { [name]: digests.map(lower) } : {})
  return {
    bank,
    replay: record.replay.map(Number),
    padding: record.log_padding,
    ...(record.secure_boot === 'required' && { secureBoot: 'required' }),
    databases: databasesOf(record.databases, bank),
    ...listed('images', record.boot_images),
    ...listed('drivers', record.boot_drivers),
    ...listed('files', record.boot_files),
    ...commandLineOf(record),
  }
}

function commandLineOf(record: ReferenceRecord): Pick<BootRules, 'commandLine'> {
  const { command_lines: allowed, command_line_required: required, command_line_forbidden: forbidden } = record
  if ([...allowed, ...required, ...forbidden].length === 0) return {}
  return { commandLine: { ...(allowed.length > 0 && { allowed }), required, forbidden } }
}

function imaOf(record: ReferenceRecord, bank: Bank, files: readonly Files[]): NonNullable<Wanted['ima']> {
  return {
    bank,
    extends: record.ima_extends,
    bootAggregate: record.ima_boot_aggregate,
    templates: record.ima_templates,
    allowViolations: record.ima_violations === 'allowed',
    ignored: record.ima_ignored,
    reported: record.ima_reported,
    ...(files.length > 0 && { files }),
  }
}

const lower = (digest: string) => digest.toLowerCase()

/** What a challenge asks for: every PCR that one of the sets looks at. */
function selectionOf(sets: readonly Pick<Reference, 'pcrs' | 'explained'>[]): Selection {
  const selection: { [bank in Bank]?: number[] } = {}
  const add = (bank: Bank, indices: Iterable<number>) => {
    selection[bank] = [...new Set([...(selection[bank] ?? []), ...indices])].sort((one, other) => one - other)
  }
  for (const { pcrs, explained = {} } of sets) {
    for (const [bank, values] of pcrs) add(bank, values.keys())
    for (const [bank, indices] of Object.entries(explained)) add(bank as Bank, indices)
  }
  return selection
}
