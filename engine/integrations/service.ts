import { accept, reject } from '#attestation'
import { type Audit, plain } from '../audit/index.ts'
import { BrokerError } from '../errors.ts'
import type { Values } from '../fields.ts'
import { openUpstreams } from '../issuers/outbound.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Secret } from '../secret.ts'
import { stores } from '../stores/index.ts'
import { rootKey } from '../stores/vault_kv.ts'
import { NO_CONTEXT } from '../tasks/bindings.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Tasks } from '../tasks/service.ts'
import type { Work } from '../tasks/work.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { OwnVault } from '../vault/own.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { beyondAgents, creatorOf, mayManage, objection } from './access.ts'
import { type Expiry, expiryOf } from './expiry.ts'
import type { Integration, Root, RootCredential } from './port.ts'
import { openRoots, type Roots } from './roots.ts'
import { openRotation, type Rotation } from './rotation.ts'
import {
  type grantFields,
  type IntegrationRecord,
  type IntegrationSettings,
  type integrationFields,
  openIntegrationSettings,
  settingsOf,
  type storeFields,
} from './settings.ts'
import { openUpkeep, type Upkeep } from './upkeep.ts'

type Secrets = Readonly<Record<string, Secret>> | undefined

/** Who asks for a credential, as far as integrations look at them. */
export type Asker = { readonly entityId: string; readonly context: TaskContext }

/** An integration that may be used, and what is noted while it is. */
export type Source = {
  readonly integration: Integration
  readonly root: Root
  /** grows as the root credential is read */
  readonly notes: { stale: boolean; warning: string | undefined }
}

/** Where credentials come from: who made each, who may use it for what, and its root credential. */
export type Integrations = {
  readonly settings: IntegrationSettings
  readonly roots: Roots
  /** For a request of an agent: a foreign one answers exactly like one that is not there. `why` is for the audit log alone. */
  readonly admit: (
    mount: Mount,
    name: string,
    asker: Asker,
    action: string,
    place: { txn: string; path: string },
  ) => Promise<Verdict<Source>>
  /** Without a look at who asks: to end what was issued through it, and to look after it. Undefined when it is not there. */
  readonly source: (mount: Mount, name: string) => Promise<Source | undefined>
  /** What is given replaces what is there. @throws BrokerError permission_denied for all but its creator. @returns warnings */
  readonly write: (
    mount: Mount,
    name: string,
    given: Partial<Values<typeof integrationFields>>,
    secrets: Secrets,
    who: TokenFacts,
  ) => Promise<readonly string[]>
  /** Everything but secrets, of which it names the fields. @throws BrokerError not_found, also to an agent that it does not concern */
  readonly read: (
    mount: Mount,
    name: string,
    who: TokenFacts,
  ) => Promise<{ readonly data: object; readonly warnings: readonly string[] }>
  readonly list: (mount: Mount, who: TokenFacts) => Promise<readonly string[]>
  readonly delete: (mount: Mount, name: string, who: TokenFacts) => Promise<void>
  /** Lets another agent use it: by its creator alone. */
  readonly grant: (
    mount: Mount,
    name: string,
    entity: string,
    given: Partial<Values<typeof grantFields>>,
    who: TokenFacts,
  ) => Promise<void>
  readonly revokeGrant: (mount: Mount, name: string, entity: string, who: TokenFacts) => Promise<void>
  readonly grants: (mount: Mount, name: string, who: TokenFacts) => Promise<readonly string[]>
  readonly readGrant: (mount: Mount, name: string, entity: string, who: TokenFacts) => Promise<object>
  readonly writeStore: (mount: Mount, name: string, given: Partial<Values<typeof storeFields>>, secrets: Secrets) => Promise<void>
  readonly readStore: (mount: Mount, name: string) => Promise<object>
  readonly deleteStore: (mount: Mount, name: string) => Promise<void>
  /** The integration, when this token may manage it. */
  readonly managed: (mount: Mount, name: string, who: TokenFacts) => Promise<IntegrationRecord>
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
}

/** One sentence for all reasons: who asks does not learn which. */
const NOT_HERE = 'the role names no integration that may be used here'

export function openIntegrations(parts: IntegrationParts): Integrations {
  const { world, state, cipher, audit, mounts, metrics, tasks } = parts
  const settings = openIntegrationSettings(state)
  const roots = openRoots({ world, state, cipher, settings, metrics })
  const { integration: records } = settings

  const isAgent = ({ path }: TokenFacts) => mounts.find(path)?.type === 'tpm-quote'
  const granted = async (mount: Mount, name: string, entityId: string): Promise<boolean> => {
    if (entityId === '') return false
    const grant = await settings.grant(name).get(mount.id, entityId)
    return grant !== undefined && (grant.expires_at === '' || Date.parse(grant.expires_at) > world.now())
  }
  const objectionTo = async (
    mount: Mount,
    name: string,
    record: IntegrationRecord | undefined,
    asker: Asker,
  ): Promise<string | undefined> => {
    const grant = await granted(mount, name, asker.entityId)
    return record ? objection(name, record, asker.context, asker.entityId, grant) : 'there is none of this name'
  }
  const sourceOf = async (mount: Mount, name: string, record: IntegrationRecord, maxStale: number): Promise<Source> => {
    const notes: Source['notes'] = { stale: false, warning: undefined }
    const noted = (read: RootCredential) => {
      notes.stale = read.stale
      notes.warning = expiryOf(name, record, read, world.now()).warning
    }
    const kind = record.store === 'vault' ? 'vault' : (await settings.store.get(mount.id, record.store))?.type
    return { integration: integrationOf(name, record, kind ?? ''), root: roots.of(mount, name, record, maxStale, noted), notes }
  }
  /** What an agent may know of; to it everything else is not there. */
  const seen = async (mount: Mount, name: string, who: TokenFacts): Promise<IntegrationRecord> => {
    const record = await records.get(mount.id, name)
    const context = isAgent(who) ? ((await tasks.bindings.of(mount, who.entityId)) ?? NO_CONTEXT) : undefined
    const foreign =
      record &&
      context &&
      !mayManage(record, who) &&
      (await objectionTo(mount, name, { ...record, tasks: [] }, { entityId: who.entityId, context }))
    if (!record || foreign) throw new BrokerError('not_found', '')
    return record
  }
  const managed = async (mount: Mount, name: string, who: TokenFacts): Promise<IntegrationRecord> => {
    const record = await seen(mount, name, who)
    if (!mayManage(record, who)) throw new BrokerError('permission_denied', 'only who made the integration may do this')
    return record
  }
  /** Before the record goes, and before a new one of this name comes: no root credential is ever there for whoever takes the name next. */
  const forget = async (mount: Mount, name: string): Promise<void> => {
    await roots.remove(mount, name)
    await state.deleteAll(`${mount.id}/grant/${name}/`)
  }
  const expiry = async (mount: Mount, name: string): Promise<Expiry> => {
    const record = await records.get(mount.id, name)
    if (!record) throw new BrokerError('not_found', '')
    return expiryOf(name, record, await roots.of(mount, name, record, 0).read(), world.now())
  }

  const upstreams = openUpstreams({ monotonic: world.monotonic })
  const outbound = (mount: Mount, name: string, ca: string) => upstreams.of(`${mount.id}/${name}/rotation`, name, ca)
  const rotation = openRotation({ world, state, audit, settings, roots, rsaSigner: parts.rsaSigner, outbound })
  const names = (mount: Mount) => records.list(mount.id)
  const sweep = async (mount: Mount) => {
    await tasks.sweep(mount)
    await parts.work.sweep(mount)
  }
  const upkeep = openUpkeep({ world, metrics, mounts, own: parts.own, rotation, names, expiry, sweep })
  return {
    settings,
    roots,
    managed,
    rotation,
    upkeep,
    admit: async (mount, name, asker, action, { txn, path }) => {
      const record = await records.get(mount.id, name)
      const why = await objectionTo(mount, name, record, asker)
      if (record && why === undefined)
        return accept(await sourceOf(mount, name, record, record.read_actions.includes(action) ? record.max_stale : 0))
      // a simulation is no request of an agent
      if (txn === '') return reject('INTEGRATION', NOT_HERE)
      const fields = {
        code: plain('INTEGRATION'),
        integration: plain(name),
        why: plain(why ?? ''),
        org: plain(asker.context.org),
        task: plain(asker.context.task),
      }
      audit.appendLazy({ type: 'refusal', txn, operation: 'update', mount: mount.path, path, fields })
      return reject('INTEGRATION', NOT_HERE)
    },
    source: async (mount, name) => {
      const record = await records.get(mount.id, name)
      return record && sourceOf(mount, name, record, 0)
    },
    write: async (mount, name, given, secrets, who) => {
      const kept = await records.fresh(mount.id, name)
      if (kept && !mayManage(kept, who)) throw new BrokerError('permission_denied', 'permission denied')
      const now = Math.floor(world.now() / 1000)
      const made = kept ? {} : { creator: creatorOf(who), private: isAgent(who), created_at: now, rotated_at: now }
      if (kept && given.type !== undefined && given.type !== kept.type)
        throw new BrokerError('bad_request', 'type: an integration keeps its type: delete it and make it anew')
      // what a half-done deletion left behind is nobody's
      if (!kept) await forget(mount, name)
      if (isAgent(who)) refuseBeyondAgents(settings, kept, { ...given, ...made })
      const record = await records.write(mount.id, name, { ...given, ...made })
      if (secrets) {
        await roots.write(mount, name, record, secrets).catch(async (error: unknown) => {
          if (!kept) await records.delete(mount.id, name)
          throw error
        })
        await records.write(mount.id, name, { rotated_at: now })
      }
      if (kept?.store === 'vault' && record.store !== 'vault') await roots.remove(mount, name)
      return secrets ? [] : warningsOf(await expiry(mount, name).catch(unreadable))
    },
    read: async (mount, name, who) => {
      const record = await seen(mount, name, who)
      const found = await expiry(mount, name).catch(unreadable)
      const { creator, private: own, ...rest } = record
      const about = { creator, private: own, secrets: found.fields, root_expires_at: found.expiresAt, root_state: found.state }
      return { data: { name, ...rest, ...about }, warnings: warningsOf(found) }
    },
    list: async (mount, who) => {
      const names = await records.list(mount.id)
      if (!isAgent(who)) return names
      const own = await Promise.all(
        names.map(name =>
          seen(mount, name, who).then(
            () => [name],
            () => [],
          ),
        ),
      )
      return own.flat()
    },
    delete: async (mount, name, who) => {
      await managed(mount, name, who)
      await forget(mount, name)
      await records.delete(mount.id, name)
    },
    grant: async (mount, name, entity, given, who) => {
      await managed(mount, name, who)
      await settings.grant(name).write(mount.id, entity, { ...given, granted_by: creatorOf(who) })
    },
    revokeGrant: async (mount, name, entity, who) => {
      await managed(mount, name, who)
      await settings.grant(name).delete(mount.id, entity)
    },
    grants: async (mount, name, who) => {
      await managed(mount, name, who)
      return settings.grant(name).list(mount.id)
    },
    readGrant: async (mount, name, entity, who) => {
      await managed(mount, name, who)
      const grant = await settings.grant(name).get(mount.id, entity)
      if (!grant) throw new BrokerError('not_found', '')
      return { entity, ...grant }
    },
    writeStore: async (mount, name, given, secrets) => {
      if (name === 'vault') throw new BrokerError('bad_request', 'the store vault is always there and has no settings')
      const kept = await settings.store.fresh(mount.id, name)
      const moved = kept && (differs(given.settings, kept.settings) || differs(given.type, kept.type))
      // the settings say where they are sent: whoever changes those has to know them
      if (moved && !secrets) throw new BrokerError('bad_request', 'secrets: wanted anew, as the settings change')
      await settings.store.write(mount.id, name, given)
      if (moved) await roots.removeStore(mount, name)
      if (secrets) await roots.writeStore(mount, name, secrets)
    },
    readStore: async (mount, name) => {
      const record = await settings.store.get(mount.id, name)
      if (!record) throw new BrokerError('not_found', '')
      return { name, ...record, secrets: Object.keys(stores[record.type]?.secrets ?? {}) }
    },
    deleteStore: async (mount, name) => {
      const names = await records.list(mount.id)
      const using = await Promise.all(names.map(async one => ((await records.fresh(mount.id, one))?.store === name ? [one] : [])))
      if (using.flat().length > 0)
        throw new BrokerError(
          'bad_request',
          `the store is in use by ${using.flat().slice(0, 5).join(', ')}: point them elsewhere first`,
        )
      await settings.store.delete(mount.id, name)
      await roots.removeStore(mount, name)
    },
    drop: async mount => {
      await parts.signer.destroy(rootKey(mount.id)).catch(() => undefined)
    },
    close: async () => {
      upkeep.stop()
      await Promise.all([roots.close(), upstreams.close()])
    },
  }
}

const differs = (given: unknown, kept: unknown) => given !== undefined && JSON.stringify(given) !== JSON.stringify(kept)

/** @throws BrokerError bad_request */
function refuseBeyondAgents(
  { integration }: IntegrationSettings,
  kept: IntegrationRecord | undefined,
  given: Partial<IntegrationRecord>,
): void {
  const defaults = Object.fromEntries(Object.entries(integration.fields).map(([name, { fallback }]) => [name, fallback]))
  const record = { ...defaults, ...kept, ...given } as IntegrationRecord
  const why = beyondAgents(record, settingsOf(record))
  if (why !== undefined) throw new BrokerError('bad_request', why)
}

function integrationOf(name: string, record: IntegrationRecord, kind: string): Integration {
  const { type, org, tasks, ref } = record
  return { name, type, org, tasks, settings: settingsOf(record), store: { kind, ref } }
}

/** A root credential that cannot be read is told, not thrown: its integration can be configured all the same. */
function unreadable(error: unknown): Expiry {
  if (!(error instanceof BrokerError)) throw error
  return { state: 'unreadable', fields: [], expiresAt: '', warning: error.message }
}

const warningsOf = ({ warning }: Expiry): readonly string[] => (warning === undefined ? [] : [warning])
