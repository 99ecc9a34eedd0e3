import type { Audit } from '../audit/index.ts'
import { openUpstreams } from '../issuers/outbound.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import { rootKey } from '../stores/vault_kv.ts'
import type { Tasks } from '../tasks/service.ts'
import type { Work } from '../tasks/work.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { OwnVault } from '../vault/own.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { openExpiry, openRecords, type Records } from './records.ts'
import { openRoots } from './roots.ts'
import { openRotation, type Rotation, type RotationParts } from './rotation.ts'
import { type IntegrationSettings, openIntegrationSettings } from './settings.ts'
import { openSharing, type Sharing } from './sharing.ts'
import { openSight, type Sight } from './sight.ts'
import { openObjections, openSources, type Sources } from './sources.ts'
import { openStoreRecords, type StoreRecords } from './store_records.ts'
import { openUpkeep, type Upkeep } from './upkeep.ts'

/** Where credentials come from: who made each, who may use it for what, and its root credential. */
export type Integrations = Sources &
  Records &
  Sharing &
  StoreRecords &
  Pick<Sight, 'managed'> & {
    readonly settings: IntegrationSettings
    readonly rotation: Rotation
    readonly upkeep: Upkeep
    readonly drop: (mount: Mount) => Promise<void>
    readonly close: () => Promise<void>
  }

export type IntegrationParts = {
  readonly world: World
  readonly state: Store
  readonly cipher: Cipher
  readonly signer: Signer
  readonly audit: Audit
  readonly mounts: MountTable
  readonly metrics: Metrics
  readonly tasks: Pick<Tasks, 'bindings' | 'sweep'>
  readonly work: Pick<Work, 'sweep'>
  readonly own: OwnVault
  readonly rsaSigner: RsaSigner
  readonly keyOf: RotationParts['keyOf']
}

export function openIntegrations(parts: IntegrationParts): Integrations {
  const { world, state, audit, mounts, metrics, tasks, work, own, signer, rsaSigner, keyOf } = parts
  const settings = openIntegrationSettings(state)
  const roots = openRoots({ world, state, cipher: parts.cipher, settings, metrics })
  const objectionTo = openObjections(settings, world)
  const sight = openSight({ settings, mounts, tasks, objectionTo })
  const expiry = openExpiry(settings, roots, world)

  const upstreams = openUpstreams({ monotonic: world.monotonic })
  const outbound: RotationParts['outbound'] = (mount, name, ca, throttled) =>
    upstreams.of(`${mount.id}/${name}/rotation`, name, ca, throttled)
  const rotation = openRotation({ world, state, audit, settings, roots, signer, rsaSigner, keyOf, outbound })
  const names = (mount: Mount) => settings.integration.list(mount.id)
  const upkeep = openUpkeep({ world, metrics, mounts, own, rotation, names, expiry, sweeps: [tasks.sweep, work.sweep] })
  return {
    ...openSources({ world, audit, settings, roots, objectionTo }),
    ...openRecords({ world, state, settings, roots, sight, expiry }),
    ...openSharing(settings, sight),
    ...openStoreRecords(settings, roots),
    managed: sight.managed,
    settings,
    rotation,
    upkeep,
    drop: async mount => {
      await signer.destroy(rootKey(mount.id)).catch(() => undefined)
    },
    close: async () => {
      upkeep.stop()
      await Promise.all([roots.close(), upstreams.close()])
    },
  }
}
