import { type Broker, corimFields, fromTpmFields, required, text } from '#engine'
import { collection } from '../records.ts'
import { type Path, path } from '../table.ts'

export const reference = ({ attest }: Broker): readonly Path[] =>
  collection(
    'reference',
    attest.settings.reference,
    {
      one: 'set of reference values',
      many: 'sets of reference values',
      description:
        'What a machine has to be: values of PCRs, what its event log and its list of IMA may say. Roles name the sets that count for them; every write counts the version on. What a disabled or deleted set let in is revoked.',
    },
    { changed: mount => attest.lifecycle.tidy(mount) },
  )

export const ima = ({ attest }: Broker): readonly Path[] =>
  collection('ima', attest.settings.ima, {
    one: 'list of files',
    many: 'lists of files',
    description: 'Digests of files that machines may use, as sets of reference values name them.',
  })

export const signer = ({ attest }: Broker): readonly Path[] =>
  collection('signer', attest.settings.signer, {
    one: 'key of who may sign reference values',
    many: 'keys of those who may sign reference values',
    description: 'Public keys by which signed reference values are verified before `reference/:name/corim` takes them.',
  })

export const fromCorim = ({ attest }: Broker): Path =>
  path({
    pattern: 'reference/:name/corim',
    help: {
      synopsis: 'Make a set of reference values of a signed CoRIM.',
      description:
        'Takes a Concise Reference Integrity Manifest (COSE_Sign1) that one of the keys under `signer/` signed, and makes or replaces the set: PCRs from its integrity registers, the time in which it counts from its validity. What else a manifest can say is refused.',
    },
    fields: { name: required(text('Name of the set.', { max: 128 })), ...corimFields },
    operations: {
      update: {
        summary: 'Make or replace the set; return it.',
        run: async ({ mount, values: { name, ...given } }) => ({ data: await attest.referenceFromCorim(mount, name, given) }),
      },
    },
  })

export const fromTpm = ({ attest }: Broker): Path =>
  path({
    pattern: 'reference/:name/from-tpm/:id',
    help: {
      synopsis: 'Make a set of reference values of what a machine showed.',
      description:
        'Takes the last evidence of an enrolled TPM, as `tpm/:id` shows it, and makes or replaces the set so that this machine would be let in. Read it before a role names it: what is measured is not therefore good.',
    },
    fields: {
      name: required(text('Name of the set.', { max: 128 })),
      id: required(text('Id of the TPM.', { max: 128 })),
      ...fromTpmFields,
    },
    operations: {
      update: {
        summary: 'Make or replace the set; return it.',
        run: async ({ mount, values: { name, id, ...given } }) => {
          const { record } = await attest.referenceFromTpm(mount, name, id, given)
          return { data: record }
        },
      },
    },
  })
