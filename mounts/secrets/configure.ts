import type { Broker } from '#engine'
import { collection, single } from '../records.ts'
import { type Path, path } from '../table.ts'

export const config = ({ issue }: Broker): Path =>
  single(
    'config',
    issue.settings.config,
    { one: 'configuration of the mount', description: 'The issuer URL and the actions that policies and roles may name.' },
    mount => issue.configOf(mount),
    { changed: mount => issue.policies.changed(mount), remarks: mount => issue.authoring.ofConfig(mount) },
  )

export const schema = ({ issue }: Broker): Path =>
  path({
    pattern: 'schema',
    help: {
      synopsis: 'Read what policies can speak about.',
      description:
        'The Cedar schema of the mount, with what each attribute means: policies are checked against it when they are written.',
    },
    fields: {},
    operations: {
      read: {
        summary: 'Read the schema.',
        run: async ({ mount }) => ({ data: { schema: await issue.authoring.schema(mount) } }),
      },
    },
  })

export const policy = ({ issue, revocations }: Broker): readonly Path[] =>
  collection(
    'policy',
    issue.settings.policy,
    {
      one: 'policy',
      many: 'policies',
      description:
        'Cedar policies over Agent, Action and Plugin. They are checked against the schema of the mount when they are written; what no policy permits is denied, and a policy that cannot be evaluated denies everything.',
    },
    {
      changed: async mount => {
        issue.policies.changed(mount)
        // what was sealed under other policies ends: who may still have it asks again
        await revocations.raise({ tenant: mount.id })
      },
      remarks: (mount, name) => issue.authoring.ofPolicy(mount, name),
    },
  )

export const role = ({ issue }: Broker): readonly Path[] =>
  collection('role', issue.settings.role, {
    one: 'role',
    many: 'roles',
    description:
      'The ceiling of what can be asked at creds/:name: plugins, actions, scopes, audiences, life. The policy decides within it.',
  })
