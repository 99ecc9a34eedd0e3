import { accept, reject } from '#attestation'
import { type Audit, plain } from '../audit/index.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { World } from '../world.ts'
import { objection } from './access.ts'
import { expiryOf } from './expiry.ts'
import type { Integration, Root, RootCredential } from './port.ts'
import type { Roots } from './roots.ts'
import { type IntegrationRecord, type IntegrationSettings, madeOf, settingsOf } from './settings.ts'

/** Who asks for a credential, as far as integrations look at them. */
export type Asker = { readonly entityId: string; readonly context: TaskContext }

/** An integration that may be used, and what is noted while it is. */
export type Source = {
  readonly integration: Integration
  readonly root: Root
  /** grows as the root credential is read */
  readonly notes: { stale: boolean; warning: string | undefined }
}

/** Integrations for those who use them. */
export type Sources = {
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
}

/** Why this asker may not use it; undefined when they may. */
export type Objection = (
  mount: Mount,
  name: string,
  record: IntegrationRecord | undefined,
  asker: Asker,
) => Promise<string | undefined>

/** One sentence for all reasons: who asks does not learn which. */
const NOT_HERE = 'the role names no integration that may be used here'

export function openObjections(settings: IntegrationSettings, { now }: Pick<World, 'now'>): Objection {
  const granted = async (mount: Mount, name: string, entityId: string): Promise<boolean> => {
    if (entityId === '') return false
    const grant = await settings.grant(name).get(mount.id, entityId)
    return grant !== undefined && (grant.expires_at === '' || Date.parse(grant.expires_at) > now())
  }
  return async (mount, name, record, { entityId, context }) => {
    const grant = await granted(mount, name, entityId)
    return record ? objection(name, record, context, entityId, grant) : 'there is none of this name'
  }
}

export type SourcesParts = {
  readonly world: Pick<World, 'now'>
  readonly audit: Audit
  readonly settings: IntegrationSettings
  readonly roots: Roots
  readonly objectionTo: Objection
}

export function openSources({ world, audit, settings, roots, objectionTo }: SourcesParts): Sources {
  const { integration: records } = settings
  const sourceOf = async (mount: Mount, name: string, record: IntegrationRecord, maxStale: number): Promise<Source> => {
    const notes: Source['notes'] = { stale: false, warning: undefined }
    const noted = (read: RootCredential) => {
      notes.stale = read.stale
      notes.warning = expiryOf(name, record, read, world.now()).warning
    }
    const kind = record.store === 'vault' ? 'vault' : (await settings.store.get(mount.id, record.store))?.type
    return { integration: integrationOf(name, record, kind ?? ''), root: roots.of(mount, name, record, maxStale, noted), notes }
  }
  return {
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
  }
}

function integrationOf(name: string, record: IntegrationRecord, kind: string): Integration {
  const { type, org, tasks, ref } = record
  return { name, made: madeOf(record), type, org, tasks, settings: settingsOf(record), store: { kind, ref } }
}
