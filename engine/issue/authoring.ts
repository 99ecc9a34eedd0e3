import type { Mount } from '../mount_table.ts'
import { checkPolicy, schemaFor, shortOf } from '../policy/index.ts'
import type { Policies } from './policies.ts'
import { CONFIG, type IssueSettings } from './settings.ts'

/** What is said to who writes policies, beside what is refused. */
export type Authoring = {
  /** everything that policies of the mount can speak about, as a Cedar schema with comments */
  readonly schema: (mount: Mount) => Promise<string>
  /** of a policy that was written: what of it never applies, or reads otherwise than it is */
  readonly ofPolicy: (mount: Mount, name: string) => Promise<readonly string[]>
  /** of a config that was written: what does not fit its actions any more */
  readonly ofConfig: (mount: Mount) => Promise<readonly string[]>
}

const MOST = 20

export function openAuthoring(settings: Pick<IssueSettings, 'config' | 'policy' | 'role'>, policies: Policies): Authoring {
  const actionsOf = async ({ id }: Mount) => (await settings.config.fresh(id, CONFIG))?.actions ?? []
  const strayRoles = async ({ id }: Mount, known: readonly string[]): Promise<readonly string[]> => {
    const names = await settings.role.list(id)
    const records = await Promise.all(names.map(async name => ({ name, record: await settings.role.fresh(id, name) })))
    return records.flatMap(({ name, record }) => {
      const stray = record?.actions.find(action => !known.includes(action))
      return stray === undefined ? [] : [`the role ${name} serves the action ${stray}, which is none now: nobody gets it`]
    })
  }
  return {
    schema: async mount => schemaFor(await actionsOf(mount)),
    ofPolicy: async (mount, name) => {
      const [record, actions] = await Promise.all([settings.policy.fresh(mount.id, name), actionsOf(mount)])
      const checked = checkPolicy(name, record?.policy ?? '', actions)
      return checked.ok ? checked.warnings.map(shortOf) : []
    },
    ofConfig: async mount => {
      const { problems, actions } = await policies.of(mount)
      const broken = problems.map(problem => `nothing is permitted until the policies fit the actions again: ${problem}`)
      return [...broken, ...(await strayRoles(mount, [...actions]))].slice(0, MOST)
    },
  }
}
