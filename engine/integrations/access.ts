import { BrokerError } from '../errors.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { IntegrationRecord } from './settings.ts'

/** Who made an integration: the identity entity where there is one, else the token itself.
 *  @throws BrokerError bad_request for a batch token without an entity: nothing tells it from others */
export function creatorOf(facts: TokenFacts): string {
  if (isNobody(facts)) throw new BrokerError('bad_request', 'a batch token without an entity can own nothing: use another token')
  if (facts.entityId !== '') return `entity:${facts.entityId}`
  return isRoot(facts) ? 'root' : `accessor:${facts.accessor}`
}

const isNobody = ({ entityId, accessor }: TokenFacts) => entityId === '' && accessor === ''

/** Its creator may change it and hand it on; so may a root token, which may do everything anyway. */
export function mayManage({ creator }: Pick<IntegrationRecord, 'creator'>, facts: TokenFacts): boolean {
  return isRoot(facts) || (!isNobody(facts) && creator === creatorOf(facts))
}

export const isRoot = ({ policies }: TokenFacts) => policies.includes('root')

type Settings = Readonly<Record<string, unknown>>

/** Types of integrations that stand on nothing but a secret that their maker brings. All others sign with keys of the mount or of an operator, and would
 *  let whoever chooses their settings have assertions made in the name of somebody else. */
const ownSecretOnly: Readonly<Record<string, (settings: Settings) => boolean>> = {
  static: () => true,
  oauth2: ({ grant, client_auth }) =>
    ['client_credentials', 'refresh_token'].includes(String(grant)) && client_auth !== 'private_key_jwt',
  aws_sts: ({ auth }) => auth === 'access_key',
  azure: ({ auth }) => auth === 'secret' || auth === 'refresh_token',
  gcp: ({ auth }) => auth === 'key',
}

/** Why an agent may not make this; undefined when it may. What is an operator's (stores, keys, schedules) is not there for an agent. */
export function beyondAgents(record: IntegrationRecord, settings: Settings): string | undefined {
  if (record.store !== 'vault') return 'store: an agent keeps its root credentials in vault'
  if (record.rotate_every > 0) return 'rotate_every: an agent orders rotations itself'
  return ownSecretOnly[record.type]?.(settings)
    ? undefined
    : 'type, settings: an agent makes what stands on a secret of its own alone'
}

/** Why this agent may not use it for this task; undefined when it may. For the audit log: who asked hears one and the same answer.
 *  @param granted the creator let this agent use it */
export function objection(
  name: string,
  record: IntegrationRecord,
  context: TaskContext,
  entityId: string,
  granted: boolean,
): string | undefined {
  if (record.org !== '' && record.org !== context.org) return 'it belongs to another organisation'
  if (record.tasks.length > 0 && !record.tasks.includes(context.task)) return 'it is not for this task'
  if (context.integrations && !context.integrations.includes(name)) return 'the task is not authorised for it'
  if (record.private && !granted && (entityId === '' || record.creator !== `entity:${entityId}`))
    return 'it belongs to another agent, which did not grant it'
  return undefined
}
