import type { Broker } from '#engine'
import { collection, single } from '../records.ts'
import type { Path } from '../table.ts'
import { standingOf, tpmChanged } from './lifecycle.ts'

export const config = ({ attest }: Broker): Path => {
  const row = single(
    'config',
    attest.settings.config,
    {
      one: 'configuration of the mount',
      description:
        'Who may enrol, which TPMs are accepted, how long a challenge lives. Writing it also makes the mount trust the current version of its login key.',
    },
    mount => attest.configOf(mount),
  )
  const { update } = row.operations
  if (!update) throw new Error('the row of a record has all operations')
  const run: typeof update.run = async request => {
    const reply = await update.run(request)
    await attest.open(request.mount, request.caller)
    attest.watch.begin(request.mount)
    return reply
  }
  return { ...row, operations: { ...row.operations, update: { ...update, run } } }
}

export const tpm = (broker: Broker): readonly Path[] => {
  const rows = collection(
    'tpm',
    broker.attest.settings.tpm,
    {
      one: 'TPM',
      many: 'TPMs',
      description:
        'Enrolled and registered TPMs, by id: `sha256-` and the SHA-256 of the public endorsement key, with what they showed last. Writing one registers it; `disabled=true` refuses it everywhere and revokes what it has, `disabled_aks` does so with one of its keys. `state` is `failed` from a failed attestation on until `tpm/:id/clear`.',
    },
    {
      show: async (record, mount, name) => ({
        ...record,
        ...(await standingOf(broker, mount, name)),
        last_result: (await broker.attest.results.last(mount.id, name)) ?? null,
      }),
      changed: async (mount, name) => {
        const { attest } = broker
        await tpmChanged(broker, mount, name)
        if (!(await attest.settings.tpm.get(mount.id, name))) await attest.results.forget(mount.id, name)
      },
    },
  )
  return rows.map(row => (row.operations.update ? endingKeys(broker, row) : row))
}

/** What a machine got by a key that is disabled now cannot be told from the rest: all of it is revoked, and its other keys log in again. */
function endingKeys({ attest: { settings, lifecycle } }: Broker, row: Path): Path {
  const { update } = row.operations
  if (!update) throw new Error('the row of a record has all operations')
  const run: typeof update.run = async request => {
    const { mount } = request
    const { name } = request.values as unknown as { name: string }
    const before = (await settings.tpm.get(mount.id, name))?.disabled_aks ?? []
    const reply = await update.run(request)
    const after = (await settings.tpm.get(mount.id, name))?.disabled_aks ?? []
    if (after.some(key => !before.includes(key))) await lifecycle.end(mount, name, 'disabled')
    return reply
  }
  return { ...row, operations: { ...row.operations, update: { ...update, run } } }
}
