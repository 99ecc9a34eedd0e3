import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startAssay } from '../harness/assay.ts'
import { until } from '../harness/process.ts'
import { ask, openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Ends with this code and says this. */
async function refused(args: readonly string[], code: number, words: RegExp, input?: string): Promise<void> {
  const ran = await world.door.vault(args, input === undefined ? {} : { input })
  expect({ code: ran.code, said: ran.stderr }).toEqual({ code, said: expect.stringMatching(words) })
}

const listed = async (kind: 'auth' | 'secrets') =>
  JSON.parse(await world.operator([kind, 'list', '-format=json'])) as Record<
    string,
    { type: string; accessor: string; uuid: string }
  >

test('auth methods at any path: enabled, listed beside native ones, disabled', async () => {
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['auth', 'enable', '-path=machines/tpm', '-description=racks', 'tpm-quote'])
  await world.operator(['auth', 'enable', 'userpass'])
  const mounts = await listed('auth')
  expect(Object.entries(mounts).map(([path, { type }]) => [path, type])).toEqual([
    ['approle/', 'approle'],
    ['machines/tpm/', 'tpm-quote'],
    ['token/', 'token'],
    ['tpm-quote/', 'tpm-quote'],
    ['userpass/', 'userpass'],
  ])
  expect(mounts['machines/tpm/']).toMatchObject({ description: 'racks' })
  expect(await world.operator(['auth', 'list'])).toMatch(/^machines\/tpm\/ +tpm-quote +auth_jwt_\S+ +racks/m)
  expect(await world.operator(['auth', 'list', '-detailed'])).toContain('tpm-quote/')
  await world.operator(['auth', 'disable', 'machines/tpm'])
  expect(Object.keys(await listed('auth'))).not.toContain('machines/tpm/')
  await refused(['read', 'auth/machines/tpm/config'], 2, /^No value found at/)
})

test('secrets engines at any path: enabled, listed beside native ones, disabled', async () => {
  await world.operator(['secrets', 'enable', 'broker'])
  await world.operator(['secrets', 'enable', '-path=teams/blue', '-description=the blue team', '-max-lease-ttl=30m', 'broker'])
  const mounts = await listed('secrets')
  expect(mounts).toMatchObject({
    'broker/': { type: 'broker', description: '' },
    'teams/blue/': { type: 'broker', description: 'the blue team', config: { max_lease_ttl: 1800 } },
    'secret/': { type: 'kv' },
  })
  expect(mounts['broker/']?.accessor).not.toBe(mounts['teams/blue/']?.accessor)
  expect(await world.operator(['secrets', 'list'])).toMatch(/^teams\/blue\/ +broker +broker_\S+ +the blue team/m)
  expect(await world.operator(['secrets', 'list', '-detailed'])).toContain('teams/blue/')
  await world.operator(['secrets', 'disable', 'teams/blue'])
  expect(Object.keys(await listed('secrets'))).not.toContain('teams/blue/')
  await refused(['read', 'teams/blue/config'], 2, /^No value found at/)
})

test('sys/mounts and sys/auth have their rows in data and at the top level, in the shape of Vault’s', async () => {
  for (const [path, ours, native] of [
    ['sys/mounts', 'broker/', 'secret/'],
    ['sys/auth', 'tpm-quote/', 'userpass/'],
  ] as const) {
    const { status, body } = await world.api('GET', path)
    expect(status).toBe(200)
    expect(body[ours]).toEqual(body.data[ours])
    expect(Object.keys(body.data).every(name => name in body)).toBe(true)
    expect(Object.keys(body.data[ours]).toSorted()).toEqual(Object.keys(body.data[native]).toSorted())
  }
  const one = await world.api('GET', 'sys/mounts/broker')
  expect(one.body).toMatchObject({ type: 'broker', data: { type: 'broker' } })
  expect((await world.api('GET', 'sys/auth/tpm-quote')).body).toMatchObject({ type: 'tpm-quote', data: { type: 'tpm-quote' } })
  expect((await world.api('GET', 'sys/mounts/broker/tune')).body).toMatchObject({
    data: { default_lease_ttl: 900, max_lease_ttl: 3600 },
  })
})

test('only who may read the mounts sees ours', async () => {
  const { stdout } = await world.vault.cli(['token', 'create', '-policy=default', '-field=token'])
  for (const path of ['sys/mounts', 'sys/auth', 'sys/mounts/broker', 'sys/auth/tpm-quote'])
    expect({ path, ...(await ask(world.door.address, 'GET', path, { token: stdout.trim() })) }).toMatchObject({
      path,
      status: 403,
    })
  const enable = ask(world.door.address, 'POST', 'sys/mounts/mine', { token: stdout.trim(), body: { type: 'broker' } })
  expect(await enable).toMatchObject({ status: 403 })
  const disable = ask(world.door.address, 'DELETE', 'sys/mounts/broker', { token: stdout.trim() })
  expect(await disable).toMatchObject({ status: 403 })
  expect(await listed('secrets')).toHaveProperty('broker/')
})

test('a path that is in use is refused, whoever has it', async () => {
  await refused(['auth', 'enable', 'tpm-quote'], 2, /path is already in use at tpm-quote\//)
  await refused(['auth', 'enable', '-path=userpass', 'tpm-quote'], 2, /path is already in use at userpass\//)
  await refused(['auth', 'enable', '-path=tpm-quote', 'userpass'], 2, /path is already in use at tpm-quote\//)
  await refused(['secrets', 'enable', 'broker'], 2, /path is already in use at broker\//)
  await refused(['secrets', 'enable', '-path=secret', 'broker'], 2, /path is already in use at secret\//)
  await refused(['secrets', 'enable', '-path=secret/deeper', 'broker'], 2, /path is already in use at secret\//)
  await refused(['secrets', 'enable', '-path=broker/deeper', 'broker'], 2, /path is already in use at broker\//)
  await refused(['secrets', 'enable', '-path=sys/mine', 'broker'], 2, /in use|sys/)
  await refused(['secrets', 'enable', '-path=auth/mine', 'broker'], 2, /in use|auth/)
  await refused(['secrets', 'enable', '-path=broker', 'kv'], 2, /path is already in use at broker\//)
  await refused(['secrets', 'enable', '-path=broker/kv', 'kv'], 2, /path is already in use at broker\//)
  await refused(['secrets', 'move', 'secret', 'broker'], 2, /path already in use at "broker\/"/)
  await refused(['secrets', 'move', 'broker', 'secret'], 2, /path already in use at "secret\/"/)
  await refused(['secrets', 'move', 'broker', 'auth/mine'], 2, /cannot remount to destination auth\/mine\//)
  expect((await world.vault.api('GET', 'sys/mounts')).body.data).not.toHaveProperty('broker/')
})

test('disabling removes state and keys', async () => {
  await world.operator(['auth', 'enable', '-path=gone', 'tpm-quote'])
  await world.operator(['secrets', 'enable', '-path=leaving', 'broker'])
  const { uuid: authId = '' } = (await listed('auth'))['gone/'] ?? {}
  const { uuid: brokerId = '' } = (await listed('secrets'))['leaving/'] ?? {}
  await world.operator(['write', 'auth/gone/reference/one', '-'], JSON.stringify({ pcrs: { sha256: { 0: '33'.repeat(32) } } }))
  await world.operator(['write', 'leaving/config', 'actions=deploy'])
  const kept = async () => ({
    state: ((await world.vault.api('LIST', 'assay/metadata/')).body.data?.keys ?? []) as string[],
    keys: (await world.vault.api('LIST', 'transit/keys')).body.data.keys as string[],
  })
  const keys = [`assay-login-${authId}`, `assay-issue-${brokerId}`]
  expect(await kept()).toEqual({
    state: expect.arrayContaining([`${authId}/`, `${brokerId}/`]) as string[],
    keys: expect.arrayContaining(keys) as string[],
  })
  await world.operator(['auth', 'disable', 'gone'])
  await world.operator(['secrets', 'disable', 'leaving'])
  const after = await kept()
  expect(after.state).not.toContain(`${authId}/`)
  expect(after.state).not.toContain(`${brokerId}/`)
  for (const key of keys) expect(after.keys).not.toContain(key)
  await world.operator(['secrets', 'enable', '-path=leaving', 'broker'])
  expect((await world.api('GET', 'leaving/config')).body.data.actions).toEqual([])
})

test('what was enabled and written is there after a restart of the front door', async () => {
  await world.operator(['write', 'broker/config', 'actions=deploy'])
  const said = [
    '-description=some words',
    '-default-lease-ttl=10m',
    '-max-lease-ttl=20m',
    '-options=team=blue',
    '-listing-visibility=unauth',
  ]
  await world.operator(['secrets', 'enable', '-path=told', ...said, 'broker'])
  await world.operator(['auth', 'enable', '-path=told', ...said.filter(one => !one.startsWith('-options')), 'tpm-quote'])
  await world.operator(['secrets', 'enable', '-path=untold', 'broker'])
  await world.operator(['secrets', 'tune', ...said, 'untold'])
  const { keys } = (await world.api('GET', 'broker/.well-known/jwks.json')).body
  await using other = await startAssay(world.vault)
  const asked = (path: string) => ask(other.address, 'GET', path, { token: world.vault.rootToken })
  for (const path of [
    'sys/mounts',
    'sys/auth',
    'sys/mounts/told/tune',
    'sys/mounts/untold/tune',
    'sys/auth/told/tune',
    'sys/internal/ui/mounts',
  ])
    expect((await asked(path)).body.data, path).toEqual((await world.api('GET', path)).body.data)
  expect((await asked('sys/mounts')).body.data['told/']).toMatchObject({
    description: 'some words',
    options: { team: 'blue' },
    config: { default_lease_ttl: 600, max_lease_ttl: 1200, listing_visibility: 'unauth' },
  })
  expect((await asked('broker/config')).body.data.actions).toEqual(['deploy'])
  expect((await asked('broker/.well-known/jwks.json')).body.keys).toEqual(keys)
})

test('an auth method can be moved: its records, its keys and its roles go with it', async () => {
  await world.operator(['auth', 'enable', '-path=before', 'tpm-quote'])
  await world.operator(['write', 'auth/before/config', 'enrollment=any'])
  await world.operator(['auth', 'move', 'auth/before/', 'auth/behind/'])
  expect((await world.api('GET', 'auth/behind/config')).body.data.enrollment).toBe('any')
  expect((await world.api('GET', 'auth/before/config')).status).toBe(404)
})

test('an auth method that is disabled at Vault itself is gone here within seconds', async () => {
  await world.operator(['auth', 'enable', '-path=elsewhere', 'tpm-quote'])
  expect((await world.api('GET', 'auth/elsewhere/config')).status).toBe(200)
  await world.vault.cli(['auth', 'disable', 'elsewhere'])
  expect(Object.keys(await listed('auth'))).not.toContain('elsewhere/')
  await until('the mount to be gone', async () => (await world.api('GET', 'auth/elsewhere/config')).status === 404)
})

test('to tune an auth method costs one use of a token, as with one of Vault’s', async () => {
  await world.operator(['auth', 'enable', '-path=counted', 'tpm-quote'])
  await world.operator(['auth', 'enable', '-path=counted-native', 'userpass'])
  await world.vault.api('PUT', 'sys/policies/acl/tuner', { policy: 'path "sys/*" { capabilities = ["update", "sudo"] }' })
  for (const path of ['counted', 'counted-native']) {
    const { body } = await world.vault.api('POST', 'auth/token/create', { policies: ['tuner'], num_uses: 1 })
    const token = body.auth.client_token as string
    const tune = (options: object) => ask(world.door.address, 'POST', `sys/auth/${path}/tune`, { token, body: { options } })
    expect({ path, status: (await tune({ colour: 'blue' })).status }).toEqual({ path, status: 204 })
    expect((await tune({ colour: 'red' })).status).toBe(403)
    await world.operator(['auth', 'disable', path])
  }
})

test('what another front door has mounted just now is known to who changes mounts', async () => {
  await using other = await startAssay(world.vault)
  const there = (method: string, path: string, body?: object) =>
    ask(other.address, method, path, { token: world.vault.rootToken, ...(body ? { body } : {}) })
  await world.operator(['secrets', 'enable', '-path=fresh', 'broker'])
  expect(await there('POST', 'sys/mounts/fresh', { type: 'kv' })).toMatchObject({ status: 400 })
  await world.operator(['secrets', 'enable', '-path=fresh-two', 'broker'])
  expect(await there('POST', 'sys/mounts/fresh-two/tune', { description: 'blue' })).toMatchObject({ status: 204 })
  await world.operator(['secrets', 'enable', '-path=fresh-three', 'broker'])
  expect(await there('DELETE', 'sys/mounts/fresh-three')).toMatchObject({ status: 204 })
  expect(Object.keys(await listed('secrets'))).toEqual(expect.arrayContaining(['fresh/', 'fresh-two/']))
  await until('the first to see it', async () => !('fresh-three/' in (await listed('secrets'))))
  for (const path of ['fresh', 'fresh-two']) await world.operator(['secrets', 'disable', path])
})

describe('a secrets mount', () => {
  const tuning = async (path: string) => (await world.api('GET', `sys/mounts/${path}/tune`)).body.data as Record<string, unknown>

  test('is tuned as Vault’s own are, and its lives count', async () => {
    await world.operator(['secrets', 'enable', '-path=tuned', '-default-lease-ttl=10m', '-max-lease-ttl=20m', 'broker'])
    await world.operator(['secrets', 'enable', '-path=native', '-default-lease-ttl=10m', '-max-lease-ttl=20m', 'kv'])
    const both = async () => {
      const [{ options: _, ...ours }, { options: __, ...vaults }] = await Promise.all([tuning('tuned'), tuning('native')])
      expect(ours).toEqual(vaults)
      return ours
    }
    expect(await both()).toMatchObject({ default_lease_ttl: 600, max_lease_ttl: 1200 })
    for (const path of ['tuned', 'native']) {
      const options = ['-default-lease-ttl=5m', '-description=the blue team', '-listing-visibility=unauth']
      await world.operator(['secrets', 'tune', ...options, path])
    }
    expect(await both()).toMatchObject({ default_lease_ttl: 300, max_lease_ttl: 1200, listing_visibility: 'unauth' })
    for (const path of ['tuned', 'native'])
      await refused(
        ['secrets', 'tune', '-default-lease-ttl=30m', path],
        2,
        /max lease TTL of 1200 would be less than backend default/,
      )
    await refused(['secrets', 'tune', '-listing-visibility=nobody', 'tuned'], 2, /invalid listing_visibility nobody/)
    await world.operator(['write', 'tuned/config', 'actions=deploy'])
    await world.operator(['write', 'tuned/role/one', 'plugins=p', 'actions=deploy', 'audiences=a', 'bind_key=optional'])
    await world.operator(['secrets', 'tune', '-options=team=blue', 'tuned'])
    const { body } = await world.api('GET', 'sys/mounts/tuned')
    expect(body.data).toMatchObject({
      description: 'the blue team',
      options: { team: 'blue' },
      config: { default_lease_ttl: 300, max_lease_ttl: 1200, listing_visibility: 'unauth' },
    })
    const unknown = await world.api('POST', 'sys/mounts/tuned/tune', { colour: 'blue' })
    expect(unknown.body.warnings).toEqual(['Endpoint ignored these unrecognized parameters: [colour]'])
    const long = await world.api('POST', 'sys/mounts/tuned/tune', { max_lease_ttl: '48h' })
    expect(long.body.warnings).toEqual([expect.stringMatching(/lives for longer than 3600 seconds/)])
    const { body: counts } = await world.api('GET', 'sys/mounts/tuned/tune')
    expect(counts.data).toMatchObject({ max_lease_ttl: 3600 })
    await refused(
      ['secrets', 'enable', '-path=wrong', '-default-lease-ttl=2h', '-max-lease-ttl=1h', 'broker'],
      2,
      /given default lease TTL greater/,
    )
    await world.operator(['secrets', 'disable', 'native'])
  })

  test('keeps the options that a tuning does not name, and drops those that it names with nothing', async () => {
    for (const [path, type] of [
      ['optioned', 'broker'],
      ['optioned-native', 'transit'],
    ])
      await world.operator(['secrets', 'enable', `-path=${path}`, '-options=a=1', type ?? ''])
    for (const options of [{ b: '2' }, { a: '3', c: '4' }, {}, { a: '' }, { b: '', c: '' }]) {
      for (const path of ['optioned', 'optioned-native']) await world.api('POST', `sys/mounts/${path}/tune`, { options })
      const [ours, vaults] = [await tuning('optioned'), await tuning('optioned-native')]
      expect({ options, left: ours['options'] }).toEqual({ options, left: vaults['options'] })
    }
    for (const path of ['optioned', 'optioned-native']) await world.operator(['secrets', 'disable', path])
  })

  test('cannot be where a tuning is asked for', async () => {
    const [ours, vaults] = await Promise.all(['broker', 'kv'].map(type => world.api('POST', 'sys/mounts/nowhere/tune', { type })))
    expect(ours).toEqual(vaults)
    expect(Object.keys(await listed('secrets'))).not.toContain('nowhere/tune/')
  })

  test('is moved with its records and keys; the CLI hears when it has', async () => {
    await world.operator(['secrets', 'enable', '-path=here', 'broker'])
    await world.operator(['write', 'here/config', 'actions=deploy'])
    const { keys } = (await world.api('GET', 'here/.well-known/jwks.json')).body
    const { accessor, uuid } = (await listed('secrets'))['here/'] ?? {}
    expect(await world.operator(['secrets', 'move', 'here', 'teams/there'])).toContain(
      'Finished moving secrets engine here/ to teams/there/',
    )
    expect((await listed('secrets'))['teams/there/']).toMatchObject({ accessor, uuid })
    expect((await world.api('GET', 'teams/there/config')).body.data.actions).toEqual(['deploy'])
    expect((await world.api('GET', 'teams/there/.well-known/jwks.json')).body.keys).toEqual(keys)
    expect((await world.api('GET', 'here/config')).status).toBe(404)
    await using other = await startAssay(world.vault)
    expect((await ask(other.address, 'GET', 'teams/there/config', { token: world.vault.rootToken })).status).toBe(200)
    const { stdout } = await world.vault.cli(['token', 'create', '-policy=default', '-field=token'])
    const denied = ask(world.door.address, 'POST', 'sys/remount', {
      token: stdout.trim(),
      body: { from: 'teams/there', to: 'x' },
    })
    expect(await denied).toMatchObject({ status: 403 })
  })
})
