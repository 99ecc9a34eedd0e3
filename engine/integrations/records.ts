import { BrokerError } from '../errors.ts'
import type { Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { Secret } from '../secret.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { beyondAgents, creatorOf, mayManage } from './access.ts'
import { type Expiry, expiryOf } from './expiry.ts'
import { openLocks } from './locks.ts'
import type { RootCredential } from './port.ts'
import { checkGiven, Expired, type Roots, wantedOf } from './roots.ts'
import { type IntegrationRecord, type IntegrationSettings, type integrationFields, settingsOf } from './settings.ts'
import type { Sight } from './sight.ts'

/** Integrations for those who make them. */
export type Records = {
  /** What is given replaces what is there. @throws BrokerError permission_denied for all but its creator. @returns warnings */
  readonly write: (
    mount: Mount,
    name: string,
    given: Partial<Values<typeof integrationFields>>,
    secrets: Readonly<Record<string, Secret>> | undefined,
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
}

export type RecordsParts = {
  readonly world: World
  readonly state: Store
  readonly settings: IntegrationSettings
  readonly roots: Roots
  readonly sight: Sight
  readonly expiry: ReadExpiry
}

/** How long the root credential of an integration still serves. @throws BrokerError not_found, unavailable */
export type ReadExpiry = (mount: Mount, name: string) => Promise<Expiry>

export function openExpiry(settings: IntegrationSettings, roots: Roots, { now }: Pick<World, 'now'>): ReadExpiry {
  return async (mount, name) => {
    const record = await settings.integration.get(mount.id, name)
    if (!record) throw new BrokerError('not_found', '')
    const root = await roots.of(mount, name, record, 0).read().catch(expired)
    return expiryOf(name, record, root, now())
  }
}

export function openRecords({ world, state, settings, roots, sight, expiry }: RecordsParts): Records {
  const { integration: records } = settings
  const { isAgent, seen, managed } = sight
  const locks = openLocks(state, world)
  /** Before the record goes, and before a new one of this name comes: no root credential is ever there for whoever takes the name next. */
  const forget = async (mount: Mount, name: string, record?: IntegrationRecord): Promise<void> => {
    await roots.remove(mount, name, record)
    await state.deleteAll(`${mount.id}/grant/${name}/`)
    await state.deleteAll(`${mount.id}/consented/${name}/`)
    await state.delete(`${mount.id}/rotation/${name}`)
  }
  /** Of those who want a free name one takes it at a time: who comes too late takes nothing away from who was first. A name is given up under the same lock. */
  const taking = <T>(mount: Mount, name: string, take: () => Promise<T>): Promise<T> =>
    locks.alone(lockOf(mount, name), async () => {
      // what a half-done deletion left behind is nobody's
      if (!(await records.fresh(mount.id, name))) await forget(mount, name)
      return take()
    })
  return {
    write: async (mount, name, given, secrets, who) => {
      const kept = await records.fresh(mount.id, name)
      if (kept && !mayManage(kept, who)) throw new BrokerError('permission_denied', 'permission denied')
      const now = Math.floor(world.now() / 1000)
      let before: IntegrationRecord | undefined
      const replaced = (there: IntegrationRecord | undefined) => {
        // decided on the very record that is replaced: somebody else may have been first
        before = there
        if (there && !mayManage(there, who)) throw new BrokerError('permission_denied', 'permission denied')
        const made = there ? {} : { creator: creatorOf(who), private: isAgent(who), created_at: now, rotated_at: now }
        if (there && given.type !== undefined && given.type !== there.type)
          throw new BrokerError('bad_request', 'type: an integration keeps its type: delete it and make it anew')
        if (isAgent(who)) refuseBeyondAgents(settings, there, { ...given, ...made })
        refuseTasksOfAnybody({ ...there, ...given })
        return { ...given, ...made }
      }
      const type = given.type ?? kept?.type
      if (type !== undefined && secrets) checkGiven(secrets, wantedOf(type), kept !== undefined)
      // a write that is refused leaves nothing behind, not even a lock
      if (!kept) await records.check(mount.id, name, replaced)
      const put = () => records.write(mount.id, name, replaced)
      const record = await (kept ? put() : taking(mount, name, put))
      if (secrets) {
        await roots.write(mount, name, record, secrets).catch(async (error: unknown) => {
          // what is there is not for the next address
          await (before ? records.write(mount.id, name, before) : records.delete(mount.id, name))
          throw error
        })
        // the end that was written before was that of the one before
        await records.write(mount.id, name, { rotated_at: now, expires_at: given.expires_at ?? '' })
      }
      const found = await expiry(mount, name).catch(unreadable)
      // the one in Vault may be the only one, until the one that is to take its place can be read
      if (record.store !== 'vault' && found.state !== 'unreadable') await roots.remove(mount, name, record)
      return warningsOf(found)
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
      const own = names.map(name =>
        seen(mount, name, who).then(
          () => [name],
          (error: unknown) => {
            if (error instanceof BrokerError && error.code === 'not_found') return []
            throw error
          },
        ),
      )
      return (await Promise.all(own)).flat()
    },
    delete: async (mount, name, who) => {
      // who may not does not learn whether anybody else is at it
      await managed(mount, name, who)
      await locks.alone(lockOf(mount, name), async () => {
        // whoever waited here may find the integration of somebody else, or none
        await forget(mount, name, await managed(mount, name, who))
        await records.delete(mount.id, name)
      })
    },
  }
}

const lockOf = (mount: Mount, name: string) => `${mount.id}/lock/${name}`

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

/** Not where the broker itself writes: a rotation cannot say what an operator left out. @throws BrokerError bad_request */
function refuseTasksOfAnybody({ org = '', tasks = [] }: Partial<IntegrationRecord>): void {
  if (tasks.length > 0 && org === '')
    throw new BrokerError('bad_request', 'tasks: wanted org too, as each organisation may have a task of that name')
}

function expired(error: unknown): RootCredential {
  if (error instanceof Expired) return error.root
  throw error
}

/** A root credential that cannot be read is told, not thrown: its integration can be configured all the same. */
function unreadable(error: unknown): Expiry {
  if (!(error instanceof BrokerError)) throw error
  return { state: 'unreadable', fields: [], expiresAt: '', warning: error.message }
}

const warningsOf = ({ warning }: Expiry): readonly string[] => (warning === undefined ? [] : [warning])
