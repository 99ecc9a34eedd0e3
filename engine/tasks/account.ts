import { type AuditFields, plain } from '../audit/index.ts'
import type { TaskContext } from './context.ts'

/** What the audit log has of a task: what nobody said is not there. */
export function taskFields(task: TaskContext | undefined): AuditFields {
  if (!task) return {}
  const { org, task: name, session, user, actors, txn } = task
  const said = { task: name, session, user, task_txn: txn }
  const texts = Object.entries(said).filter(([, value]) => value !== '')
  return {
    org: plain(org),
    ...Object.fromEntries(texts.map(([field, value]) => [field, plain(value)])),
    ...(actors.length > 0 ? { actors: plain(actors) } : {}),
  }
}
