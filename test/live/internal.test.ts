import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Reply } from '../harness/vault.ts'
import { ask, openWorld, type World } from './world.ts'

// sys/internal/ui/mounts and sys/internal/specs/openapi: Vault's own answers, with our mounts in them for who may know of them.

let world: World
const tokens: Record<string, string> = {}
const POLICIES = {
  issuer: 'path "broker/creds/deploy" { capabilities = ["update"] }',
  pattern: 'path "+/creds/*" { capabilities = ["update"] }',
  stranger: 'path "secret/data/*" { capabilities = ["read"] }',
  denied: 'path "*" { capabilities = ["read"] }\npath "broker/*" { capabilities = ["deny"] }',
}

beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', '-description=for deployments', 'broker'])
  tokens['root'] = world.vault.rootToken
  for (const [name, policy] of Object.entries(POLICIES)) {
    await world.vault.api('PUT', `sys/policies/acl/${name}`, { policy })
    const { body } = await world.vault.api('POST', 'auth/token/create', { policies: [name] })
    tokens[name] = body.auth.client_token
  }
})
afterAll(() => world[Symbol.asyncDispose]())

const at = (address: string, path: string, name: string | undefined) =>
  ask(address, 'GET', path, name === undefined ? {} : { token: tokens[name] ?? name })
const here = (path: string, name?: string) => at(world.door.address, path, name)
const there = (path: string, name?: string) => at(world.vault.address, path, name)

/** Whether Vault itself lets a token know of a mount of its own whose rules are the same. */
const SEE = { root: true, issuer: true, pattern: true, stranger: false, denied: false } as const

describe('sys/internal/ui/mounts', () => {
  test.each(Object.entries(SEE))('%s sees the secrets mount: %s, the rest is as Vault says it', async (name, sees) => {
    const [mine, native] = await Promise.all([here('sys/internal/ui/mounts', name), there('sys/internal/ui/mounts', name)])
    const { 'broker/': broker, ...secret } = mine.body.data.secret
    expect(broker !== undefined).toBe(sees)
    expect(secret).toEqual(native.body.data.secret)
    expect(Object.keys(mine.body.data.auth)).toEqual(Object.keys(native.body.data.auth))
    if (sees) expect(Object.keys(broker).toSorted()).toEqual(Object.keys(secret['secret/'] ?? broker).toSorted())
  })

  test('a mount that is to be shown to everybody is, as Vault shows its own, with the lives that count', async () => {
    const tuned = ['-default-lease-ttl=10m', '-max-lease-ttl=20m', '-description=shown', '-listing-visibility=unauth']
    for (const [path, type] of [
      ['ours-shown', 'broker'],
      ['vaults-shown', 'kv'],
    ] as const) {
      await world.operator(['secrets', 'enable', `-path=${path}`, type])
      await world.operator(['secrets', 'tune', ...tuned, path])
    }
    for (const name of [undefined, 'stranger', 'root']) {
      const { secret } = (await here('sys/internal/ui/mounts', name)).body.data as {
        secret: Record<string, Record<string, unknown>>
      }
      const { 'ours-shown/': ours, 'vaults-shown/': vaults } = secret
      if (name === undefined) expect(ours).toEqual({ type: 'broker', description: 'shown', options: null })
      else expect(ours).toMatchObject({ type: 'broker', config: vaults?.['config'] })
      expect(Object.keys(ours ?? {}).toSorted()).toEqual(Object.keys(vaults ?? {}).toSorted())
    }
    for (const path of ['ours-shown', 'vaults-shown']) await world.operator(['secrets', 'disable', path])
  })

  test('an auth mount of ours has our type', async () => {
    expect((await here('sys/internal/ui/mounts', 'root')).body.data.auth['tpm-quote/'].type).toBe('tpm-quote')
    expect((await here('sys/internal/ui/mounts/auth/tpm-quote', 'root')).body.data.type).toBe('tpm-quote')
  })

  test('without a token, and with one that is none, it is Vault that answers', async () => {
    for (const name of [undefined, 'hvs.nobody']) {
      const [mine, native] = await Promise.all([here('sys/internal/ui/mounts', name), there('sys/internal/ui/mounts', name)])
      expect({ ...mine.body, request_id: '' }).toEqual({ ...native.body, request_id: '' })
      expect(mine.status).toBe(native.status)
    }
  })

  test('the mount of a path: who may know of it is told, for who may not it is as if nothing were there', async () => {
    for (const [name, sees] of Object.entries(SEE)) {
      const { status, body } = await here('sys/internal/ui/mounts/broker/creds/deploy', name)
      if (sees) expect({ status, data: body.data }).toMatchObject({ status: 200, data: { path: 'broker/', type: 'broker' } })
      else {
        const nothing = await here('sys/internal/ui/mounts/nothing/creds/deploy', name)
        expect(status).toBe(403)
        expect({ status, body }).toEqual(JSON.parse(JSON.stringify(nothing).replace('nothing/', 'broker/')))
      }
    }
  })

  test('`vault kv` asks here first, and reads a mount that is none of its own like one of version 1', async () => {
    const { code, stdout } = await world.door.vault(['kv', 'get', 'broker/config'])
    expect(code).toBe(0)
    expect(stdout).toContain('actions')
  })
})

describe('sys/internal/specs/openapi', () => {
  const ours = (body: { paths: object }) => Object.keys(body.paths).filter(path => /^\/(?:broker|auth\/tpm-quote)\//.test(path))

  test('has our paths for who may know of the mount, and all of Vault’s', async () => {
    const [mine, native] = await Promise.all([
      here('sys/internal/specs/openapi', 'root'),
      there('sys/internal/specs/openapi', 'root'),
    ])
    expect(ours(mine.body)).toEqual(expect.arrayContaining(['/broker/creds/{role}', '/broker/role/', '/auth/tpm-quote/login']))
    expect(mine.body).toMatchObject({ openapi: native.body.openapi, info: native.body.info })
    const theirs = Object.keys(native.body.paths).filter(path => !path.startsWith('/auth/tpm-quote/'))
    for (const path of theirs) expect(mine.body.paths[path]).toEqual(native.body.paths[path])
    expect(Object.keys(mine.body.components.schemas)).toEqual(expect.arrayContaining(Object.keys(native.body.components.schemas)))
  })

  test('has what belongs to a caller’s mounts, and nothing for who has no token', async () => {
    for (const [name, sees] of Object.entries(SEE))
      expect(ours((await here('sys/internal/specs/openapi', name)).body).some(path => path.startsWith('/broker/'))).toBe(sees)
    expect((await here('sys/internal/specs/openapi')).body).toEqual((await there('sys/internal/specs/openapi')).body)
  })

  test('with names for the places of mounts, as Vault makes them of their paths', async () => {
    await world.operator(['auth', 'enable', '-path=of-a/team', 'tpm-quote'])
    const generic = async (asked: Promise<Reply>) => Object.keys((await asked).body.paths)
    const post = (body: object) =>
      ask(world.door.address, 'POST', 'sys/internal/specs/openapi', { token: world.vault.rootToken, body })
    const named = await generic(here('sys/internal/specs/openapi?generic_mount_paths=1', 'root'))
    expect(named).toEqual(
      expect.arrayContaining([
        '/{broker_mount_path}/creds/{role}',
        '/auth/{tpm_quote_mount_path}/login',
        '/auth/{of_a/team_mount_path}/login',
        '/auth/{approle_mount_path}/login',
      ]),
    )
    // what the mount behind ours would have is not served
    expect(named.filter(path => path.includes('/oidc/auth_url'))).toEqual([])
    expect(await generic(post({ generic_mount_paths: true }))).toEqual(named)
    expect(await generic(post({}))).toEqual(await generic(here('sys/internal/specs/openapi', 'root')))
    await world.operator(['auth', 'disable', 'of-a/team'])
  })

  test('two mounts of a type have the same operations, as Vault has it for its own', async () => {
    for (const [type, path] of [
      ['broker', 'role/{name}'],
      ['transit', 'keys/{name}'],
    ] as const) {
      for (const place of ['one', 'two']) await world.operator(['secrets', 'enable', `-path=${type}-${place}`, type])
      const { paths } = (await here('sys/internal/specs/openapi', 'root')).body
      const [one, two] = ['one', 'two'].map(place => paths[`/${type}-${place}/${path}`] as { get?: { operationId?: string } })
      expect(one?.get?.operationId).toMatch(new RegExp(`^${type}-read-`))
      expect(two).toEqual(one)
      for (const place of ['one', 'two']) await world.operator(['secrets', 'disable', `${type}-${place}`])
    }
  })

  test('every path of it that can be read without a parameter is there', async () => {
    const { body } = await here('sys/internal/specs/openapi', 'root')
    for (const path of ours(body).filter(one => !one.includes('{') && body.paths[one].get && !one.endsWith('/')))
      expect([200, 204, 404], path).toContain((await here(path.slice(1), 'root')).status)
  })
})

describe('path-help', () => {
  test('of every path, as text and as a document', async () => {
    const { body } = await here('sys/internal/specs/openapi', 'root')
    const paths = Object.keys(body.paths).filter(path => /^\/(?:broker|auth\/tpm-quote)\//.test(path))
    expect(paths.length).toBeGreaterThan(20)
    for (const path of paths) {
      const asked = path
        .slice(1)
        .replaceAll(/\{\w+\}/g, 'a')
        .replace(/\/$/, '')
      const help = await here(`${asked}?help=1`, 'stranger')
      expect(help, path).toMatchObject({
        status: 200,
        body: { help: expect.stringContaining('## OPERATIONS') as string, openapi: { openapi: '3.0.2' } },
      })
    }
    expect(JSON.parse(await world.operator(['path-help', '-format=json', 'broker/creds/deploy']))).toMatchObject({ paths: {} })
  })
})
