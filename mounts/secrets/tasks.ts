import type { Broker } from '#engine'
import { collection } from '../records.ts'
import type { Path } from '../table.ts'

export const orchestrator = ({ tasks }: Broker): readonly Path[] =>
  collection(
    'orchestrator',
    tasks.orchestrators,
    {
      one: 'orchestrator',
      many: 'orchestrators',
      description:
        'Who may say what a task is about: organisation, task, session, user. What it signs is taken from the agent that it names only.',
    },
    { changed: mount => tasks.changed(mount) },
  )

export const binding = ({ tasks }: Broker): readonly Path[] =>
  collection('binding', tasks.bindings.records, {
    one: 'binding',
    many: 'bindings',
    description:
      'What an identity entity of Vault works for, by its id: for agents whose orchestrator signs nothing, and a bound on what one may sign for them.',
  })
