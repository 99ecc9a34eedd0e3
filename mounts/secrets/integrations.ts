import {
  type Broker,
  type Caller,
  grantFields,
  type Identified,
  integrationFields,
  map,
  optional,
  required,
  secretsField,
  storeFields,
  text,
  transitKeysIn,
} from '#engine'
import { type Path, path, type Request } from '../table.ts'
import { present } from './creds.ts'

const named = { name: required(text('Name of the integration.', { max: 128 })) }
const entity = { entity: required(text('Id of the identity entity in Vault that it is for.', { max: 128 })) }
const DESCRIPTION =
  'Where credentials come from: what an issuer needs to know, where its root credential is kept, who owns it and which tasks may use it. Secrets are write-only. Only who made it may change it, and let others use it.'

/** What is awaited before anything is looked up or changed: who asks, after Vault has said that they may. */
async function asker({ identified }: Pick<Request<never>, 'identified'>): Promise<Identified['facts']> {
  const { facts, permitted } = present(identified)
  await permitted
  return facts
}

/** Whoever names a key of the operators says what is signed with it, and where that is sent. */
async function mayName(broker: Broker, caller: Caller, settings: Readonly<Record<string, unknown>> = {}): Promise<void> {
  for (const key of transitKeysIn(settings)) await broker.maySign(caller, key)
}

export const integration = (broker: Broker): readonly Path[] => {
  const { integrations, leases } = broker
  return [
    path({
      pattern: 'integration',
      help: { synopsis: 'List the integrations.', description: DESCRIPTION },
      identify: true,
      fields: {},
      operations: {
        list: {
          summary: 'List the names of the integrations; an agent sees those that concern it.',
          run: async request => ({ data: { keys: await integrations.list(request.mount, await asker(request)) } }),
        },
      },
    }),
    path({
      pattern: 'integration/:name',
      help: { synopsis: 'Manage one integration.', description: DESCRIPTION },
      identify: true,
      fields: { ...optional(integrationFields), secrets: secretsField, ...named },
      operations: {
        read: {
          summary: 'Read the integration; of its secrets the names.',
          run: async request => integrations.read(request.mount, request.values.name, await asker(request)),
        },
        update: {
          summary: 'Write the integration: what is given replaces what is there.',
          run: async request => {
            const who = await asker(request)
            const { name: _, secrets, ...given } = request.given
            await mayName(broker, request.caller, given.settings)
            const warnings = await integrations.write(request.mount, request.values.name, given, secrets, who)
            return warnings.length > 0 ? { data: {}, warnings } : undefined
          },
        },
        delete: {
          summary:
            'Delete the integration, its root credential in Vault and its grants; a warning says how many live leases it leaves.',
          run: async request => {
            const { mount, values } = request
            const who = await asker(request)
            await integrations.managed(mount, values.name, who)
            const { found, all } = await leases.through(mount, values.name)
            await integrations.delete(mount, values.name, who)
            return found === 0 && all ? undefined : { data: {}, warnings: [orphaned(`${found}${all ? '' : ' or more'}`)] }
          },
        },
      },
    }),
  ]
}

const orphaned = (count: string) =>
  `live leases that were issued through it: ${count}. Nothing can revoke them any more: each ends at its provider by itself, and stays in sys/leases?type=irrevocable until it is dropped`

export const grant = ({ integrations }: Broker): readonly Path[] => [
  path({
    pattern: 'integration/:name/grant',
    help: { synopsis: 'List the grants of an integration.', description: DESCRIPTION },
    identify: true,
    fields: named,
    operations: {
      list: {
        summary: 'List the entities that may use it.',
        run: async request => ({
          data: { keys: await integrations.grants(request.mount, request.values.name, await asker(request)) },
        }),
      },
    },
  }),
  path({
    pattern: 'integration/:name/grant/:entity',
    help: { synopsis: 'Let another agent use an integration.', description: DESCRIPTION },
    identify: true,
    fields: { expires_at: grantFields.expires_at, ...named, ...entity },
    operations: {
      read: {
        summary: 'Read the grant.',
        run: async request => {
          const { name, entity: id } = request.values
          return { data: await integrations.readGrant(request.mount, name, id, await asker(request)) }
        },
      },
      update: {
        summary: 'Grant it.',
        run: async request => {
          const who = await asker(request)
          const { name, entity: id, expires_at } = request.values
          await integrations.grant(request.mount, name, id, { expires_at }, who)
          return undefined
        },
      },
      delete: {
        summary: 'Take it back.',
        run: async request => {
          const { name, entity: id } = request.values
          await integrations.revokeGrant(request.mount, name, id, await asker(request))
          return undefined
        },
      },
    },
  }),
]

export const rotate = (broker: Broker): Path => {
  const { integrations, vault } = broker
  return path({
    pattern: 'integration/:name/rotate',
    help: {
      synopsis: 'Replace the root credential of an integration.',
      description:
        'The next one is made, proved and stored; the one before stays good until then and for a minute more, and is then ended at its provider. Where the provider cannot make it, it comes with the order.',
    },
    identify: true,
    fields: {
      settings: map('The next settings, where the next credential is named there.'),
      secrets: secretsField,
      ...named,
    },
    operations: {
      read: {
        summary: 'See how far the last rotation got.',
        run: async request => {
          await integrations.managed(request.mount, request.values.name, await asker(request))
          return { data: await integrations.rotation.state(request.mount, request.values.name) }
        },
      },
      update: {
        summary: 'Rotate now.',
        run: async request => {
          const { name, settings, secrets = {} } = request.values
          const who = await asker(request)
          await integrations.managed(request.mount, name, who)
          await mayName(broker, request.caller, settings)
          const as = request.caller.token
          const vaultWrite = async (target: string) => void (await vault.write(target, {}, { as }))
          const order = { txn: request.txn, by: byOf(who), supplied: { secrets, settings }, vaultWrite }
          return { data: await integrations.rotation.rotate(request.mount, name, order) }
        },
      },
    },
  })
}

export const store = ({ integrations }: Broker): readonly Path[] => {
  const description =
    'Stores of root credentials beside the own path in Vault. What lets the broker in there is write-only, and kept encrypted in Vault.'
  const name = { name: required(text('Name of the store.', { max: 128 })) }
  return [
    path({
      pattern: 'store',
      help: { synopsis: 'List the stores.', description },
      fields: {},
      operations: {
        list: {
          summary: 'List the names of the stores; `vault` is always there.',
          run: async ({ mount }) => ({ data: { keys: ['vault', ...(await integrations.settings.store.list(mount.id))] } }),
        },
      },
    }),
    path({
      pattern: 'store/:name',
      help: { synopsis: 'Manage one store.', description },
      fields: { ...optional(storeFields), secrets: secretsField, ...name },
      exists: async ({ mount, values }) => (await integrations.settings.store.fresh(mount.id, values.name)) !== undefined,
      operations: {
        read: {
          summary: 'Read the store; of what lets the broker in the names.',
          run: async ({ mount, values }) => ({ data: await integrations.readStore(mount, values.name) }),
        },
        update: {
          summary: 'Write the store: what is given replaces what is there.',
          run: async ({ mount, values, given: all }) => {
            const { name: _, secrets, ...given } = all
            await integrations.writeStore(mount, values.name, given, secrets)
            return undefined
          },
        },
        delete: {
          summary: 'Delete the store; not while an integration uses it.',
          run: async ({ mount, values }) => {
            await integrations.deleteStore(mount, values.name)
            return undefined
          },
        },
      },
    }),
  ]
}

/** For the audit log, which knows a token without an entity by its request. */
const byOf = ({ entityId, policies }: Identified['facts']) =>
  entityId || (policies.includes('root') ? 'root' : 'a token without an entity')
