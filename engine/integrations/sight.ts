import { BrokerError } from '../errors.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import { NO_CONTEXT } from '../tasks/bindings.ts'
import type { Tasks } from '../tasks/service.ts'
import type { TokenFacts } from '../vault/authority.ts'
import { isRoot, mayManage } from './access.ts'
import type { IntegrationRecord, IntegrationSettings } from './settings.ts'
import type { Objection } from './sources.ts'

/** What a token gets to see of integrations. */
export type Sight = {
  readonly isAgent: (who: TokenFacts) => boolean
  /** What an agent may know of; to it everything else is not there. @throws BrokerError not_found */
  readonly seen: (mount: Mount, name: string, who: TokenFacts) => Promise<IntegrationRecord>
  /** The integration, when this token may manage it. @throws BrokerError not_found, permission_denied */
  readonly managed: (mount: Mount, name: string, who: TokenFacts) => Promise<IntegrationRecord>
}

export type SightParts = {
  readonly settings: IntegrationSettings
  readonly mounts: Pick<MountTable, 'find'>
  readonly tasks: Pick<Tasks, 'bindings'>
  readonly objectionTo: Objection
}

export function openSight({ settings, mounts, tasks, objectionTo }: SightParts): Sight {
  // a token that a token made has the entity of that one; whose login it came from Vault does not say
  const isAgent = (who: TokenFacts) =>
    mounts.find(who.path)?.type === 'tpm-quote' || (who.path.startsWith('auth/token/') && who.entityId !== '' && !isRoot(who))
  const look = async (record: IntegrationRecord | undefined, mount: Mount, name: string, who: TokenFacts) => {
    const context = isAgent(who) ? ((await tasks.bindings.of(mount, who.entityId)) ?? NO_CONTEXT) : undefined
    const foreign =
      record &&
      context &&
      !mayManage(record, who) &&
      (await objectionTo(mount, name, { ...record, tasks: [] }, { entityId: who.entityId, context }))
    if (!record || foreign) throw new BrokerError('not_found', '')
    return record
  }
  return {
    isAgent,
    seen: async (mount, name, who) => look(await settings.integration.get(mount.id, name), mount, name, who),
    // not what is remembered: somebody else may have the name by now
    managed: async (mount, name, who) => {
      const record = await look(await settings.integration.fresh(mount.id, name), mount, name, who)
      if (!mayManage(record, who)) throw new BrokerError('permission_denied', 'only who made the integration may do this')
      return record
    },
  }
}
