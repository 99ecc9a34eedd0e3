import type { Broker } from '#engine'
import { collection, single } from '../records.ts'
import type { Path } from '../table.ts'
import { standingOf, tpmChanged } from './lifecycle.ts'

export const config = ({ attest }: Broker): Path =>
  single(
    'config',
    attest.settings.config,
    {
      one: 'configuration of the mount',
      description:
        'Who may enrol, which TPMs are accepted, how long a challenge lives. Writing it also makes the mount trust the current version of its login key.',
    },
    mount => attest.configOf(mount),
    {
      write: async ({ mount, name, given, caller }) => {
        await attest.settings.config.write(mount.id, name, given)
        await attest.open(mount, caller)
        attest.watch.begin(mount)
        return undefined
      },
    },
  )

export const tpm = (broker: Broker): readonly Path[] => {
  const { settings, lifecycle, results } = broker.attest
  return collection(
    'tpm',
    settings.tpm,
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
        last_result: (await results.last(mount.id, name)) ?? null,
      }),
      // what a machine got by a key that is disabled now cannot be told from the rest: all of it is revoked, and its other keys log in again
      write: async ({ mount, name, given }) => {
        const { disabled_aks, ended_aks } = await settings.tpm.write(mount.id, name, given)
        if (disabled_aks.join() === ended_aks.join()) return undefined
        if (disabled_aks.some(key => !ended_aks.includes(key))) await lifecycle.end(mount, name, 'disabled')
        // on record once it is done, so that it is done again when this does not come to its end
        await settings.tpm.write(mount.id, name, { ended_aks: disabled_aks })
        return undefined
      },
      changed: async (mount, name) => {
        await tpmChanged(broker, mount, name)
        // whatever was written: what its maker revoked is so
        await broker.attest.isRevoked(mount, name)
        if (!(await settings.tpm.get(mount.id, name))) await results.forget(mount.id, name)
      },
    },
  )
}
