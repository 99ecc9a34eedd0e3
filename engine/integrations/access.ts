import type { TaskContext } from '../tasks/context.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { IntegrationRecord } from './settings.ts'

/** Who made an integration: the identity entity where there is one, else the token itself. */
export function creatorOf(facts: TokenFacts): string {
  if (facts.entityId !== '') return `entity:${facts.entityId}`
  return isRoot(facts) ? 'root' : `accessor:${facts.accessor}`
}

/** Its creator may change it and hand it on; so may a root token, which may do everything anyway. */
export function mayManage({ creator }: Pick<IntegrationRecord, 'creator'>, facts: TokenFacts): boolean {
  return isRoot(facts) || creator === creatorOf(facts)
}

const isRoot = ({ policies }: TokenFacts) => policies.includes('root')

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
