import { type Broker, corimFields, fromTpmFields, integer, required, text, unmatchedIn } from '#engine'
import { collection } from '../records.ts'
import { type Path, path, type Request } from '../table.ts'

/** Who writes, where a second person has to approve of it: the entity that Vault knows the token by. */
async function writerOf({ attest, authority }: Broker, { mount, caller }: Pick<Request<never>, 'mount' | 'caller'>, at: string) {
  if ((await attest.configOf(mount)).reference_approval === 'none') return ''
  const { facts, permitted } = await authority.identify(caller, `${mount.path}${at}`, ['create', 'update'])
  await permitted
  return facts.entityId
}

export const reference = (broker: Broker): readonly Path[] => {
  const { attest } = broker
  return collection(
    'reference',
    attest.settings.reference,
    {
      one: 'set of reference values',
      many: 'sets of reference values',
      description:
        'What a machine has to be: values of PCRs, what its event log and its list of IMA may say. Roles name the sets that count for them; every write counts the version on. What a disabled or deleted set let in is revoked.',
    },
    {
      write: async ({ mount, name, given, caller }) => {
        await attest.settings.reference.write(
          mount.id,
          name,
          given,
          await writerOf(broker, { mount, caller }, `reference/${name}`),
        )
        return undefined
      },
      changed: mount => attest.lifecycle.tidy(mount),
      remarks: async (mount, name) => {
        const [set, { allow_software_tpms }] = await Promise.all([
          attest.settings.reference.get(mount.id, name),
          attest.configOf(mount),
        ])
        return set && !set.observe && !allow_software_tpms ? unmatchedIn(set.pcrs) : []
      },
    },
  )
}

export const approve = (broker: Broker): Path =>
  path({
    pattern: 'reference/:name/approve',
    help: {
      synopsis: 'Approve of a set of reference values.',
      description:
        'Where `reference_approval=second-person`, a version of a set lets machines in once somebody else than its writer has read it and approved of it here. Both are known by their entities at Vault. Each write of the set, or of a list of files that it names, needs a new approval, which nobody gives who wrote one of them since the last one.',
    },
    fields: {
      name: required(text('Name of the set.', { max: 128 })),
      version: required(integer('The version that was read.', { fallback: 0 })),
    },
    operations: {
      update: {
        summary: 'Approve of this version.',
        run: async request => {
          const { mount, values, caller } = request
          const at = `${mount.path}reference/${values.name}/approve`
          const { facts, permitted } = await broker.authority.identify(caller, at, ['update'])
          await permitted
          await broker.attest.settings.reference.approve(mount.id, values.name, values.version, facts.entityId)
          return undefined
        },
      },
    },
  })

export const ima = (broker: Broker): readonly Path[] =>
  collection(
    'ima',
    broker.attest.settings.ima,
    {
      one: 'list of files',
      many: 'lists of files',
      description: 'Digests of files that machines may use, as sets of reference values name them.',
    },
    {
      write: async ({ mount, name, given, caller }) => {
        await broker.attest.settings.ima.write(mount.id, name, given, await writerOf(broker, { mount, caller }, `ima/${name}`))
        return undefined
      },
    },
  )

export const signer = ({ attest }: Broker): readonly Path[] =>
  collection('signer', attest.settings.signer, {
    one: 'key of who may sign reference values',
    many: 'keys of those who may sign reference values',
    description: 'Public keys by which signed reference values are verified before `reference/:name/corim` takes them.',
  })

export const fromCorim = (broker: Broker): Path =>
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
        run: async request => {
          const { name, ...given } = request.values
          const writer = await writerOf(broker, request, `reference/${name}/corim`)
          return { data: await broker.attest.referenceFromCorim(request.mount, name, given, writer) }
        },
      },
    },
  })

export const fromTpm = (broker: Broker): Path =>
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
        run: async request => {
          const { name, id, ...given } = request.values
          const writer = await writerOf(broker, request, `reference/${name}/from-tpm/${id}`)
          const { record } = await broker.attest.referenceFromTpm(request.mount, name, id, given, writer)
          return { data: record }
        },
      },
    },
  })
