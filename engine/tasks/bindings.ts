import { type Collection, openCollection } from '../collection.ts'
import { list, required, text } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { TaskContext } from './context.ts'

export const bindingFields = {
  org: required(text('Organisation that the entity works for.', { form: [/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/, 'a name'] })),
  task: text('Task that it is set up for. Any when empty.', { fallback: '', max: 256 }),
  integrations: list('Integrations that it may use. Whatever its organisation has when empty.', { max: 128 }),
}

/** What an operator says of an identity entity of Vault: for agents whose orchestrator signs nothing, and a bound on what one may sign. */
export type Bindings = {
  readonly records: Collection<typeof bindingFields>
  readonly of: (mount: Mount, entityId: string) => Promise<TaskContext | undefined>
}

export const NO_CONTEXT: TaskContext = { org: '', task: '', session: '', user: '', txn: '', actors: [], integrations: undefined }

/** Why a task is not within what an operator bound the agent to; undefined when it is, or nobody is bound. */
export function beyond(bound: TaskContext | undefined, { org, task }: Pick<TaskContext, 'org' | 'task'>): string | undefined {
  if (bound && bound.org !== org) return 'the agent is bound to another organisation'
  return bound && bound.task !== '' && bound.task !== task ? 'the agent is bound to another task' : undefined
}

/** Of two lists of integrations what is on both counts. */
export function narrowed(context: TaskContext, bound: TaskContext | undefined): TaskContext {
  if (!bound?.integrations) return context
  const integrations = context.integrations?.filter(name => bound.integrations?.includes(name)) ?? bound.integrations
  return { ...context, integrations }
}

export function openBindings(state: Store): Bindings {
  const records = openCollection(state, 'binding', bindingFields)
  return {
    records,
    of: async (mount, entityId) => {
      const bound = entityId === '' ? undefined : await records.get(mount.id, entityId)
      if (!bound) return undefined
      const integrations = bound.integrations.length > 0 ? bound.integrations : undefined
      return { ...NO_CONTEXT, org: bound.org, task: bound.task, integrations }
    },
  }
}
