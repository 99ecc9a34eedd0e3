import { BrokerError } from '../errors.ts'
import type { Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { TokenFacts } from '../vault/authority.ts'
import { creatorOf } from './access.ts'
import type { grantFields, IntegrationSettings } from './settings.ts'
import type { Sight } from './sight.ts'

/** Who else may use an integration that an agent made: its creator says so, and nobody else. */
export type Sharing = {
  readonly grant: (
    mount: Mount,
    name: string,
    entity: string,
    given: Partial<Values<typeof grantFields>>,
    who: TokenFacts,
  ) => Promise<void>
  readonly revokeGrant: (mount: Mount, name: string, entity: string, who: TokenFacts) => Promise<void>
  readonly grants: (mount: Mount, name: string, who: TokenFacts) => Promise<readonly string[]>
  /** @throws BrokerError not_found */
  readonly readGrant: (mount: Mount, name: string, entity: string, who: TokenFacts) => Promise<object>
}

export function openSharing(settings: IntegrationSettings, { managed }: Pick<Sight, 'managed'>): Sharing {
  return {
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
  }
}
