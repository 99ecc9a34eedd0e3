import { BrokerError } from '../errors.ts'
import type { Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { Secret } from '../secret.ts'
import { stores } from '../stores/index.ts'
import { checkGiven, type Roots } from './roots.ts'
import type { IntegrationSettings, storeFields } from './settings.ts'

/** The stores that an operator configured beside the own path in Vault. */
export type StoreRecords = {
  readonly writeStore: (
    mount: Mount,
    name: string,
    given: Partial<Values<typeof storeFields>>,
    secrets: Readonly<Record<string, Secret>> | undefined,
  ) => Promise<void>
  /** @throws BrokerError not_found */
  readonly readStore: (mount: Mount, name: string) => Promise<object>
  /** @throws BrokerError bad_request while an integration keeps its root credential there */
  readonly deleteStore: (mount: Mount, name: string) => Promise<void>
}

const NAMED = 5

export function openStoreRecords(settings: IntegrationSettings, roots: Roots): StoreRecords {
  const { integration: records, store } = settings
  const using = async (mount: Mount, name: string): Promise<readonly string[]> => {
    const names = await records.list(mount.id)
    const found = names.map(async one => ((await records.fresh(mount.id, one))?.store === name ? [one] : []))
    return (await Promise.all(found)).flat()
  }
  return {
    writeStore: async (mount, name, given, secrets) => {
      if (name === 'vault') throw new BrokerError('bad_request', 'the store vault is always there and has no settings')
      const kept = await store.fresh(mount.id, name)
      const moved = kept && (differs(given.settings, kept.settings) || differs(given.type, kept.type))
      // the settings say where they are sent: whoever changes those has to know them
      if (moved && !secrets) throw new BrokerError('bad_request', 'secrets: wanted anew, as the settings change')
      const kind = stores[given.type ?? kept?.type ?? '']
      if (kind && secrets) checkGiven(secrets, kind.secrets, kept !== undefined && !moved)
      await store.write(mount.id, name, given)
      if (moved) await roots.removeStore(mount, name)
      if (secrets) await roots.writeStore(mount, name, secrets)
    },
    readStore: async (mount, name) => {
      const record = await store.get(mount.id, name)
      if (!record) throw new BrokerError('not_found', '')
      return { name, ...record, secrets: Object.keys(stores[record.type]?.secrets ?? {}) }
    },
    deleteStore: async (mount, name) => {
      const users = await using(mount, name)
      if (users.length > 0) {
        const some = users.slice(0, NAMED).join(', ')
        throw new BrokerError('bad_request', `the store is in use by ${some}: point them elsewhere first`)
      }
      await store.delete(mount.id, name)
      await roots.removeStore(mount, name)
    },
  }
}

const differs = (given: unknown, kept: unknown) => given !== undefined && JSON.stringify(given) !== JSON.stringify(kept)
