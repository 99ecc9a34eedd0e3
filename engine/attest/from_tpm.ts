import { BrokerError } from '../errors.ts'
import type { Values } from '../fields.ts'
import { list, text } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import { LIST_LIMIT } from './file_lists.ts'
import type { ReferenceRecord, referenceFields } from './references.ts'
import type { BootSeen, Result, Results } from './results.ts'
import type { AttestSettings } from './settings.ts'

/** How a set is made of what an enrolled machine showed last. */
export const fromTpmFields = {
  pin: list('PCRs to pin, of those that were quoted. When empty all that the log does not explain.'),
  owner: text('Who answers for the set.', { fallback: '' }),
  reason: text('Why it was written, such as the number of the change.', { fallback: '' }),
  not_before: text('When the set begins to count.', { fallback: '' }),
  not_after: text('When the set ends to count.', { fallback: '' }),
}

export type Made = { readonly record: ReferenceRecord; readonly lists: readonly string[] }

/** Makes or replaces a set, so that this machine would be let in: values of PCRs are pinned, what its logs said becomes rules.
 *  @throws BrokerError not_found when there is no such evidence, bad_request when no set can be made of it */
export async function referenceFromTpm(
  { reference, ima }: AttestSettings,
  results: Results,
  mount: Mount,
  name: string,
  tpmId: string,
  given: Values<typeof fromTpmFields>,
  writer: string,
): Promise<Made> {
  const result = await results.last(mount.id, tpmId)
  if (!result) throw new BrokerError('not_found', 'this TPM has shown nothing yet: let it log in with a role whose set observes')
  const { pin, ...words } = given
  const lists: string[] = []
  const listing = result['ima'] === undefined ? '' : await results.files(mount.id, tpmId)
  if (listing === undefined)
    throw new BrokerError('bad_request', 'the files of this TPM are not on record: let it log in with a role whose set observes')
  for (const [index, text] of chunksOf(listing).entries()) {
    lists.push(index === 0 ? name : `${name}-${index + 1}`)
    await ima.write(mount.id, lists.at(-1) ?? name, { files: text, description: `files of ${tpmId}` }, writer)
  }
  const kept = await reference.get(mount.id, name)
  const set: Partial<Values<typeof referenceFields>> = {
    ...(kept ? {} : { description: `as ${tpmId} was` }),
    ...words,
    ...bootFields(result.boot),
    pcrs: pinned(result, pin),
    ...(lists.length > 0
      ? { ima: 'required', ima_lists: lists }
      : { ima: 'off', ima_lists: [], ima_ignored: [], ima_reported: [] }),
    observe: false,
  }
  return { record: await reference.write(mount.id, name, set, writer), lists }
}

/** PCR 10 changes with every file that is used, 16 and 23 belong to nobody. */
const NOT_PINNED = ['10', '16', '23']

function pinned({ pcrs, boot }: Result, pin: readonly string[]): Record<string, Record<string, string>> {
  const explained = (bank: string, pcr: string) => boot?.bank === bank && boot.replayed.includes(Number(pcr))
  const wanted = (bank: string, pcr: string) =>
    pin.length > 0 ? pin.includes(pcr) : !explained(bank, pcr) && !NOT_PINNED.includes(pcr)
  const banks = Object.entries(pcrs).map(
    ([bank, values]) => [bank, Object.entries(values).filter(([pcr]) => wanted(bank, pcr))] as const,
  )
  const quoted = new Set(Object.values(pcrs).flatMap(values => Object.keys(values)))
  const strange = pin.find(pcr => !quoted.has(pcr))
  if (strange !== undefined)
    throw new BrokerError('bad_request', `pin: PCR ${strange} was not quoted, only ${[...quoted].join(', ')} were`)
  return Object.fromEntries(
    banks.filter(([, values]) => values.length > 0).map(([bank, values]) => [bank, Object.fromEntries(values)]),
  )
}

/** What the boot was, as rules; fields that it says nothing about are emptied. */
function bootFields(boot: BootSeen | undefined): Partial<Values<typeof referenceFields>> {
  const {
    bank = 'sha256',
    replayed = [],
    secure_boot,
    databases = {},
    images = [],
    drivers = [],
    files = [],
    command_lines = [],
  } = boot ?? {}
  const long = Object.keys(boot ?? {}).find(member => member.endsWith('_count'))
  if (long)
    throw new BrokerError(
      'bad_request',
      `the boot of this TPM has more ${long.replace(/_count$/, '')} than a set can list: pin the PCR instead`,
    )
  const distinct = (items: readonly string[]) => [...new Set(items)]
  return {
    bank,
    replay: replayed.map(String),
    secure_boot: secure_boot === true ? 'required' : 'any',
    databases,
    boot_images: distinct(images),
    boot_drivers: distinct(drivers),
    boot_files: images.length > 0 || secure_boot === true ? distinct(files) : [],
    command_lines: images.length > 0 || secure_boot === true ? distinct(command_lines) : [],
    command_line_required: [],
    command_line_forbidden: [],
    firmware_versions: [],
  }
}

/** Pieces that are lists of files themselves. */
function chunksOf(listing: string): readonly string[] {
  const chunks: string[] = []
  for (let from = 0; from < listing.length; ) {
    const end = from + LIST_LIMIT >= listing.length ? listing.length : listing.lastIndexOf('\n', from + LIST_LIMIT - 1) + 1
    chunks.push(listing.slice(from, end))
    from = end
  }
  return chunks
}
