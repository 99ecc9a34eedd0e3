import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import { ask, auditOf, done, openWorld, type World } from './world.ts'

// The same policies on a path of ours and on one of Vault's transit engine: who may do what has to come out alike.

let world: World
beforeAll(async () => {
  world = await openWorld()
  await done(world.api('POST', 'sys/mounts/broker', { type: 'broker' }))
  await done(world.api('POST', 'sys/mounts/transit2', { type: 'kv' }))
  await done(world.api('POST', 'broker/config', { actions: 'deploy' }))
  await done(world.api('POST', 'broker/role/there', ROLE))
  await done(world.api('POST', 'transit2/role/there', { value: 1 }))
})
afterAll(() => world[Symbol.asyncDispose]())

const ROLE = { plugins: 'p', actions: 'deploy', audiences: 'a' }
const VERBS = ['read', 'list', 'create', 'update', 'delete'] as const
type Verb = (typeof VERBS)[number]

/** What the verb is on a mount, and how to undo it. */
const requests: Readonly<Record<Verb, { method: string; path: string; body?: object }>> = {
  read: { method: 'GET', path: 'role/there' },
  list: { method: 'LIST', path: 'role' },
  create: { method: 'POST', path: 'role/fresh', body: ROLE },
  update: { method: 'POST', path: 'role/there', body: ROLE },
  delete: { method: 'DELETE', path: 'role/there' },
}

const policies: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ...[...VERBS, 'sudo', 'deny'].map(one => [one, `path "MOUNT/role/*" { capabilities = ["${one}"] }`] as const),
  ['list of the folder', 'path "MOUNT/role" { capabilities = ["list"] }'],
  ['list of the folder with its slash', 'path "MOUNT/role/" { capabilities = ["list"] }'],
  ['all', 'path "MOUNT/*" { capabilities = ["create", "read", "update", "delete", "list"] }'],
  [
    'all but one name',
    'path "MOUNT/*" { capabilities = ["create", "read", "update", "delete", "list"] }\npath "MOUNT/role/there" { capabilities = ["deny"] }',
  ],
  ['deny in a list of capabilities', 'path "MOUNT/role/*" { capabilities = ["read", "deny"] }'],
  ['one segment', 'path "MOUNT/+/there" { capabilities = ["read", "update"] }'],
  ['the exact path', 'path "MOUNT/role/there" { capabilities = ["read", "update"] }'],
  ['another name', 'path "MOUNT/role/other" { capabilities = ["read", "update", "delete"] }'],
  ['another mount', 'path "secret/*" { capabilities = ["create", "read", "update", "delete", "list"] }'],
  ['the mount without its slash', 'path "MOUNT" { capabilities = ["read", "list", "update"] }'],
  ['a prefix that ends in a name', 'path "MOUNT/role/th*" { capabilities = ["read"] }'],
]

const token = async (policy: string, options: object = {}): Promise<string> => {
  const name = `acl-${Math.random().toString(36).slice(2)}`
  await done(
    world.vault.api('PUT', `sys/policies/acl/${name}`, { policy: policy || 'path "nowhere" { capabilities = ["read"] }' }),
  )
  const reply = await world.vault.api('POST', 'auth/token/create', { policies: [name], ...options })
  return reply.body.auth.client_token as string
}

/** Asks all verbs and says which were let in; puts back what they changed. */
async function allowed(mount: string, as: string): Promise<Record<string, boolean>> {
  const found: Record<string, boolean> = {}
  for (const verb of VERBS) {
    const { method, path, body } = requests[verb]
    const { status } = await ask(world.door.address, method, `${mount}/${path}`, { token: as, ...(body ? { body } : {}) })
    found[verb] = status !== 403
    if (status !== 403) await restore(mount)
  }
  return found
}

async function restore(mount: string): Promise<void> {
  await world.api('DELETE', `${mount}/role/fresh`)
  await done(world.api('POST', `${mount}/role/there`, ROLE))
}

describe('the same policy lets the same requests in, on our mount as on one of Vault’s:', () => {
  test.each(policies)('%s', async (_, policy) => {
    const on = async (mount: string) => allowed(mount, await token(policy.replaceAll('MOUNT', mount)))
    expect(await on('broker')).toEqual(await on('transit2'))
  })

  test('root', async () => {
    expect(await allowed('broker', world.vault.rootToken)).toEqual({
      read: true,
      list: true,
      create: true,
      update: true,
      delete: true,
    })
  })

  test('none, a wrong one, one that was revoked', async () => {
    const revoked = await token('path "broker/*" { capabilities = ["read"] }')
    await world.vault.api('POST', 'auth/token/revoke', { token: revoked })
    for (const one of ['', 'hvs.wrong', revoked]) {
      expect(Object.values(await allowed('broker', one))).toEqual([false, false, false, false, false])
      expect(Object.values(await allowed('transit2', one))).toEqual([false, false, false, false, false])
    }
  })

  test('a policy that was changed counts from the next request', async () => {
    const as = await token('')
    const { body } = await world.vault.api('POST', 'auth/token/lookup', { token: as })
    const name = (body.data.policies as string[]).find(one => one.startsWith('acl-')) ?? ''
    const read = async () => (await ask(world.door.address, 'GET', 'broker/role/there', { token: as })).status
    expect(await read()).toBe(403)
    await world.vault.api('PUT', `sys/policies/acl/${name}`, { policy: 'path "broker/*" { capabilities = ["read"] }' })
    expect(await read()).toBe(200)
    await world.vault.api('PUT', `sys/policies/acl/${name}`, { policy: 'path "broker/*" { capabilities = ["deny"] }' })
    expect(await read()).toBe(403)
  })
})

describe('what else binds a token', () => {
  const READ = 'path "MOUNT/*" { capabilities = ["read"] }'
  const statuses = async (mount: string, as: string, times: number) => {
    const replies = []
    for (let count = 0; count < times; count++)
      replies.push((await ask(world.door.address, 'GET', `${mount}/role/there`, { token: as })).status)
    return replies
  }

  test.each([1, 2, 3])('a limit of %j uses: each request takes one', async uses => {
    const on = async (mount: string) =>
      statuses(mount, await token(READ.replaceAll('MOUNT', mount), { num_uses: uses }), uses + 1)
    expect(await on('broker')).toEqual([...Array<number>(uses).fill(200), 403])
    expect(await on('transit2')).toEqual([...Array<number>(uses).fill(200), 403])
  })

  test('of ten requests at once with three uses three are let in', async () => {
    const as = await token(READ.replaceAll('MOUNT', 'broker'), { num_uses: 3 })
    const all = await Promise.all(
      Array.from({ length: 10 }, () => ask(world.door.address, 'GET', 'broker/role/there', { token: as })),
    )
    expect(all.filter(({ status }) => status === 200)).toHaveLength(3)
  })

  test('a request that is denied takes a use too', async () => {
    for (const mount of ['broker', 'transit2']) {
      const as = await token(READ.replaceAll('MOUNT', mount), { num_uses: 2 })
      const denied = await ask(world.door.address, 'DELETE', `${mount}/role/there`, { token: as })
      expect(denied.status).toBe(403)
      expect(await statuses(mount, as, 2)).toEqual([200, 403])
    }
  })

  test('addresses that it may come from', async () => {
    const cidrs = ['10.1.2.0/24']
    await done(world.vault.api('POST', 'auth/token/roles/elsewhere', { token_bound_cidrs: cidrs }))
    await done(
      world.vault.api('PUT', 'sys/policies/acl/both', {
        policy: ['broker', 'transit2'].map(one => READ.replaceAll('MOUNT', one)).join('\n'),
      }),
    )
    for (const options of [{}, { num_uses: 3 }]) {
      const reply = await world.vault.api('POST', 'auth/token/create/elsewhere', { policies: ['both'], ...options })
      const as = reply.body.auth.client_token as string
      expect(await statuses('broker', as, 1)).toEqual([403])
      expect(await statuses('transit2', as, 1)).toEqual([403])
    }
  })

  test.each([{}, { token_num_uses: 3 }, { token_type: 'batch' }])('an entity that was disabled meanwhile: %j', async options => {
    const name = `user-${Math.random().toString(36).slice(2)}`
    await done(
      world.vault.api('PUT', 'sys/policies/acl/people', {
        policy: ['broker', 'transit2'].map(one => READ.replaceAll('MOUNT', one)).join('\n'),
      }),
    )
    await done(world.vault.api('POST', `sys/auth/${name}`, { type: 'userpass' }))
    await done(world.vault.api('POST', `auth/${name}/users/u`, { password: 'p', token_policies: ['people'], ...options }))
    const { body } = await world.vault.api('POST', `auth/${name}/login/u`, { password: 'p' })
    const { client_token: as, entity_id: entity } = body.auth as { client_token: string; entity_id: string }
    expect(await statuses('broker', as, 1)).toEqual([200])
    await done(world.vault.api('POST', `identity/entity/id/${entity}`, { disabled: true }))
    for (const mount of ['broker', 'transit2']) expect(await statuses(mount, as, 1)).toEqual([403])
  })

  test('another namespace: ours are in the root only', async () => {
    const headers = { 'X-Vault-Namespace': 'team' }
    const reply = await ask(world.door.address, 'GET', 'broker/role/there', { token: world.vault.rootToken, headers })
    const native = await ask(world.vault.address, 'GET', 'broker/role/there', { token: world.vault.rootToken, headers })
    expect(reply).toEqual(native)
    expect(reply.status).not.toBe(200)
  })

  test('the lack of the default policy: such a token is told what it lacks', async () => {
    const as = await token(READ.replaceAll('MOUNT', 'broker'), { no_default_policy: true })
    const { status, body } = await ask(world.door.address, 'GET', 'broker/role/there', { token: as })
    expect({ status, errors: body.errors as unknown }).toEqual({
      status: 403,
      errors: [
        'permission denied: the token may not use sys/capabilities-self, which the default policy allows, or its entity is disabled',
      ],
    })
    const may = `${READ.replaceAll('MOUNT', 'broker')}\npath "sys/capabilities-self" { capabilities = ["update"] }`
    const with_ = await token(may, { no_default_policy: true })
    expect(await statuses('broker', with_, 1)).toEqual([200])
  })
})

test('who is denied changes nothing, and is in the audit log', async () => {
  const as = await token('path "broker/role/*" { capabilities = ["read"] }')
  const { body: before } = await world.api('GET', 'broker/role/there')
  const denied = [
    ['POST', 'broker/role/there', { ...ROLE, ttl: '1m' }],
    ['POST', 'broker/role/new', ROLE],
    ['DELETE', 'broker/role/there', undefined],
    ['POST', 'broker/keys/rotate', {}],
    ['POST', 'sys/mounts/broker/tune', { description: 'mine' }],
    ['DELETE', 'sys/mounts/broker', undefined],
    ['POST', 'sys/remount', { from: 'broker', to: 'mine' }],
    ['POST', 'sys/mounts/mine', { type: 'broker' }],
    ['PUT', 'sys/leases/revoke-prefix/broker', {}],
  ] as const
  for (const [method, path, body] of denied) {
    const reply = await fetch(`${world.door.address}/v1/${path}`, {
      method,
      headers: { 'X-Vault-Token': as, 'Content-Type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    expect({ path, status: reply.status, body: await reply.json() }).toEqual({
      path,
      status: 403,
      body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] },
    })
    const id = reply.headers.get('x-correlation-id')
    await until(`the refusal of ${method} ${path} in the audit log`, async () =>
      (await auditOf(world.door.auditFile)).some(
        one => one['txn'] === id && one['type'] === 'refusal' && one['code'] === 'permission_denied',
      ),
    )
  }
  const { body: after } = await world.api('GET', 'broker/role/there')
  expect(after.data).toEqual(before.data)
  expect((await world.api('LIST', 'broker/role')).body.data.keys).toEqual(['there'])
  expect((await world.api('GET', 'sys/mounts/broker')).body.data).toMatchObject({ description: '' })
})
