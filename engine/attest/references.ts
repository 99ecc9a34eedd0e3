import { banks } from '#attestation'
import { type Collection, type Given, openCollection } from '../collection.ts'
import { retryConflicts } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import { flag, integer, list, map, text, type Values } from '../fields.ts'
import type { Store } from '../vault/store.ts'
import { databasesOf, digestOf, fail, pcrOf, referenceValues } from './reference_values.ts'

/** What an operator writes of good machines. A field that is left out is not looked at. */
export const referenceFields = {
  pcrs: map(
    'Pinned PCRs: {"sha256": {"0": "<hex>" or ["<hex>", ...]}}, any of several digests. PCRs that are not named are not looked at.',
  ),
  replay: list('PCRs that the event log of the boot has to explain, such as 0,2,4,7,8,9.'),
  bank: text('Bank of the PCRs in `replay` and of the one of IMA.', { fallback: 'sha256', choices: banks }),
  log_padding: flag('Accept bytes of 0xff after the last event, as logs of confidential machines have them.', {
    fallback: false,
  }),
  secure_boot: text('Whether secure boot has to be on. PCR 7 has to be in `replay`.', {
    fallback: 'any',
    choices: ['any', 'required'],
  }),
  databases: map(
    'Allowed measured digests of PK, KEK, db and dbx: {"dbx": "<hex>" or ["<hex>", ...]}. PCR 7 has to be in `replay`.',
  ),
  boot_images: list(
    'Digests of boot loaders and kernels that may be measured into PCR 4, which has to be in `replay`: all that was measured has to be listed, and something has to be measured.',
  ),
  boot_drivers: list('Digests that may be measured into PCR 2, which has to be in `replay`.'),
  boot_files: list('Digests of what the boot loader reads, such as kernels, into PCR 9, which has to be in `replay`.'),
  command_lines: list(
    'Command lines of kernels, whole, any of them; a JSON list when one has commas. PCR 8 or 12 has to be in `replay`.',
  ),
  command_line_required: list('Words that every command line of a kernel has; `*` at the end of a word stands for any rest.'),
  command_line_forbidden: list('Words that no command line of a kernel has; `*` at the end of a word stands for any rest.'),
  firmware_versions: list('Versions of the firmware of the TPM as quotes say them, 16 hex digits, any of them.'),
  ima: text('Whether the list of IMA has to explain PCR 10.', { fallback: 'off', choices: ['off', 'required'] }),
  ima_lists: list('Names of the lists of files: every file that was used has to be in one of them. Any file when empty.'),
  ima_ignored: list('Paths of files that are not looked at; `*` at the end stands for any rest.'),
  ima_reported: list('Paths of files of which the result tells the digests; `*` at the end stands for any rest.'),
  ima_extends: text('What the kernel extends the bank with: its own template hash, or SHA-1 and zeros as before Linux 5.8.', {
    fallback: 'bank',
    choices: ['bank', 'padded-sha1'],
  }),
  ima_boot_aggregate: text('The PCRs that the first entry of the list is a digest of.', {
    fallback: '0-9',
    choices: ['0-7', '0-9', 'unchecked'],
  }),
  ima_templates: list('Templates that the list may have.', {
    fallback: ['ima-ng', 'ima-sig'],
    choices: ['ima-ng', 'ima-sig', 'ima-buf'],
  }),
  ima_violations: text('Whether files may be changed while they are in use.', {
    fallback: 'refused',
    choices: ['refused', 'allowed'],
  }),
  not_before: text('When the set begins to count, as in 2026-12-01T00:00:00Z. At once when empty.', { fallback: '' }),
  not_after: text('When the set ends to count: machines that match no other one are refused from then on. Never when empty.', {
    fallback: '',
  }),
  observe: flag('Record what machines show under tpm/:id, and let none of them in. Digests may be left out then.', {
    fallback: false,
  }),
  disabled: flag('A disabled set lets no machine in, and what it let in gets nothing more.', { fallback: false }),
  owner: text('Who answers for the set.', { fallback: '' }),
  reason: text('Why it was written, such as the number of the change.', { fallback: '' }),
  description: text('What the set describes.', { fallback: '' }),
}

const kept = {
  ...referenceFields,
  version: integer('Counts on with every write of the set, or of a list of files that it names.', { fallback: 0 }),
  written_by: text('Entity of who wrote this version; empty when nobody had to be known.', { fallback: '' }),
  changed_by: list(
    'Entities of those who wrote it, or a list of files that it names, since somebody approved of it: they cannot.',
  ),
  approved_version: integer('The version that somebody else approved of.', { fallback: 0 }),
  approved_by: text('Entity of who approved of it.', { fallback: '' }),
}
export type ReferenceRecord = Values<typeof kept>

/** Sets of reference values. Every write of one, or of a list of files that it names, counts the version on, also after the set was deleted:
 *  name and version are one content, for ever. */
export type References = Omit<Collection<typeof referenceFields>, 'get' | 'fresh' | 'write'> & {
  readonly get: (mountId: string, name: string) => Promise<ReferenceRecord | undefined>
  readonly fresh: (mountId: string, name: string) => Promise<ReferenceRecord | undefined>
  /** @param by entity of who writes */
  readonly write: (mountId: string, name: string, given: Given<typeof referenceFields>, by?: string) => Promise<ReferenceRecord>
  /** Two people answer for a set: nobody approves of it who wrote it, or a list of files that it names, since somebody else did.
   *  @throws BrokerError not_found; bad_request when the version is another by now; permission_denied */
  readonly approve: (mountId: string, name: string, version: number, by: string) => Promise<void>
  /** A list of files changes: what was approved of, or read to be, with it was so as it was. @param by entity of who changes it */
  readonly listChanges: (mountId: string, list: string, by: string) => Promise<void>
}

/** Each time somebody else was first: there are not so many. */
const TRIES = 8

/** @param exists whether there is a list of files of this name */
export function openReferences(store: Store, exists: (mountId: string, name: string) => Promise<boolean>): References {
  const records = openCollection(store, 'reference', kept, {
    check: (record, mountId) => checkReference(record, mountId, exists),
  })
  /** for what no list that is missing, or about to come back, may hold up */
  const unchecked = openCollection(store, 'reference', kept)
  const lastPath = (mountId: string, name: string) => `${mountId}/reference-version/${name}`
  const lastOf = async (mountId: string, name: string) =>
    (await store.fresh<{ version: number }>(lastPath(mountId, name)))?.value.version ?? 0
  /** Nobody’s approval comes between: it would be one of the list as it was. */
  const listChanges = async (mountId: string, name: string, list: string, by: string): Promise<void> => {
    if (!(await records.fresh(mountId, name))?.ima_lists.includes(list)) return
    await unchecked.write(mountId, name, kept => listChanged(kept, by))
  }
  return {
    ...records,
    fields: referenceFields,
    write: async (mountId, name, given, by = '') => {
      const last = (await records.fresh(mountId, name))?.version ?? (await lastOf(mountId, name))
      return records.write(mountId, name, record => ({
        ...(typeof given === 'function' ? given(record) : given),
        version: (record?.version ?? last) + 1,
        written_by: by,
        changed_by: changers(record, by),
      }))
    },
    approve: async (mountId, name, version, by) => {
      await records.write(mountId, name, record => {
        if (!record) throw new BrokerError('not_found', 'name: there is no set of reference values of this name')
        // whoever wrote without an entity, or before two people were wanted, could be anybody: also who approves
        if (record.written_by === '')
          fail('name', 'it is not known who wrote the set: write it again with a token that has an entity')
        if (by === '' || authorsOf(record).includes(by))
          throw new BrokerError(
            'permission_denied',
            'wanted somebody else than who wrote the set, or a list of files of it, with an entity of their own',
          )
        if (record.owner === '' || record.reason === '')
          fail('owner', 'wanted a set that says who answers for it, and the reason')
        if (record.version !== version) fail('version', `the set is of version ${record.version} now: read it again`)
        return { approved_version: version, approved_by: by }
      })
    },
    listChanges: async (mountId, list, by) => {
      for (const name of await records.list(mountId)) await retryConflicts(TRIES, () => listChanges(mountId, name, list, by))
    },
    delete: async (mountId, name) => {
      const record = await records.fresh(mountId, name)
      if (record) await store.put(lastPath(mountId, name), { version: record.version })
      await records.delete(mountId, name)
    },
  }
}

/** The version is of other content then: who read it as it was cannot approve of it as it is. */
function listChanged(record: ReferenceRecord | undefined, by: string): Partial<ReferenceRecord> {
  if (!record) throw new BrokerError('conflict', 'the set was deleted meanwhile')
  return { version: record.version + 1, approved_version: 0, approved_by: '', changed_by: changers(record, by) }
}

/** Of what is to be approved of: whoever wrote a version that was approved of may approve of what others changed since. */
const authorsOf = ({ changed_by, written_by }: ReferenceRecord) => (changed_by.length > 0 ? changed_by : [written_by])

/** Who changed it since it was approved of, when one more does. */
function changers(record: ReferenceRecord | undefined, by: string): readonly string[] {
  const before = record && record.approved_version !== record.version ? record.changed_by : []
  return [...new Set([...before, ...(by === '' ? [] : [by])])]
}

/** What a set needs, by field: a rule on PCRs that are not replayed could never hold. */
const needs = {
  databases: [7],
  boot_images: [4],
  boot_drivers: [2],
  boot_files: [9],
  command_lines: [8, 12],
  command_line_required: [8, 12],
  command_line_forbidden: [8, 12],
} as const satisfies Partial<Record<keyof typeof referenceFields, readonly number[]>>

const DIGESTS = ['boot_images', 'boot_drivers', 'boot_files'] as const

async function checkReference(
  record: ReferenceRecord,
  mountId: string,
  exists: (mountId: string, name: string) => Promise<boolean>,
): Promise<void> {
  const pinned = referenceValues(record.pcrs, record.observe)
  const replayed = record.replay.map(pcr => pcrOf('replay', pcr))
  const empty = pinned.size === 0 && replayed.length === 0 && record.ima === 'off'
  if (empty) fail('pcrs', `wanted values under one of the banks ${banks.join(', ')}, or PCRs in replay, or ima`)
  checkBoot(record, replayed, pinned.get(record.bank)?.has(4) ?? false)
  if (!record.observe && pinned.size === 0 && !hasRules(record))
    fail('pcrs', 'wanted values to pin, or rules on what the logs say: as it is, every boot would match')
  for (const name of DIGESTS) for (const digest of record[name]) digestOf(name, record.bank, digest)
  for (const version of record.firmware_versions)
    if (!/^[0-9a-f]{16}$/i.test(version)) fail('firmware_versions', 'wanted 16 hex digits each, as quotes say them')
  checkWindow(record)
  await checkIma(record, mountId, exists)
}

/** That a log is true to the quote says nothing of whether what it says is good. */
function hasRules(record: ReferenceRecord): boolean {
  const { secure_boot, databases, boot_images, boot_drivers, firmware_versions, ima_lists } = record
  const listed = [...Object.keys(databases), ...boot_images, ...boot_drivers, ...firmware_versions, ...ima_lists]
  return secure_boot === 'required' || listed.length > 0
}

function checkBoot(record: ReferenceRecord, replayed: readonly number[], pinsImages: boolean): void {
  databasesOf(record.databases, record.bank)
  if (record.secure_boot === 'required' && !replayed.includes(7)) fail('secure_boot', 'wanted PCR 7 in replay')
  for (const [name, pcrs] of Object.entries(needs)) {
    const given = record[name as keyof typeof needs]
    const used = Array.isArray(given) ? given.length > 0 : Object.keys(given).length > 0
    if (used && !pcrs.some(pcr => replayed.includes(pcr))) fail(name, `wanted PCR ${pcrs.join(' or ')} in replay`)
  }
  // what a boot loader measures is as true as the boot loader is
  const trusted = pinsImages || record.boot_images.length > 0 || record.secure_boot === 'required'
  const measured = [
    ...record.boot_files,
    ...record.command_lines,
    ...record.command_line_required,
    ...record.command_line_forbidden,
  ]
  if (measured.length > 0 && !trusted)
    fail(
      'boot_images',
      'wanted the boot loaders that measure files and command lines: list them, pin PCR 4, or require secure boot',
    )
}

/** Milliseconds since the epoch; undefined for an empty text. */
function instantOf(name: string, date: string): number | undefined {
  if (date === '') return undefined
  const at = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d))?$/.test(date) ? Date.parse(date) : Number.NaN
  return Number.isNaN(at) ? fail(name, 'wanted a date such as 2026-12-01 or 2026-12-01T12:00:00Z') : at
}

/** The time in which a set counts, in milliseconds since the epoch, its end not included. */
export type Window = { readonly from: number; readonly until: number }
export const ALWAYS: Window = { from: Number.NEGATIVE_INFINITY, until: Number.POSITIVE_INFINITY }

export function windowOf({ not_before, not_after }: Pick<ReferenceRecord, 'not_before' | 'not_after'>): Window {
  return {
    from: instantOf('not_before', not_before) ?? ALWAYS.from,
    until: instantOf('not_after', not_after) ?? ALWAYS.until,
  }
}

export const within = ({ from, until }: Window, now: number): boolean => now >= from && now < until

function checkWindow(record: ReferenceRecord): void {
  const { from, until } = windowOf(record)
  if (from >= until) fail('not_after', 'wanted a date after not_before')
}

const MOST_LISTS = 16

async function checkIma(
  record: ReferenceRecord,
  mountId: string,
  exists: (mountId: string, name: string) => Promise<boolean>,
): Promise<void> {
  const { ima, ima_lists, ima_ignored, ima_reported, ima_templates } = record
  if (ima === 'off' && [...ima_lists, ...ima_ignored, ...ima_reported].length > 0)
    fail('ima', 'wanted `required` with rules on files')
  if (ima_templates.length === 0) fail('ima_templates', 'wanted at least one')
  if (ima_lists.length > MOST_LISTS) fail('ima_lists', `wanted at most ${MOST_LISTS}`)
  for (const [index, name] of ima_lists.entries())
    if (!(await exists(mountId, name))) fail('ima_lists', `there is no list of the name at place ${index + 1}: write it first`)
}
