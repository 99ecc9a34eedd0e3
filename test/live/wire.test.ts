import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run } from '../harness/process.ts'
import { dial } from '../mounts/hosts/wire.ts'
import { ask, openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', 'broker'])
  await world.operator(['write', 'broker/config', 'actions=deploy'])
  await world.operator(['write', 'broker/role/deploy', 'plugins=a', 'actions=deploy', 'audiences=b'])
})
afterAll(() => world[Symbol.asyncDispose]())

/** A request without a header that was not asked for: `fetch` adds its own. */
function raw(
  method: string,
  path: string,
  headers: Record<string, string>,
  body = '',
): Promise<{ status: number; text: string; type: string | undefined; cache: string | undefined }> {
  return new Promise((resolve, reject) => {
    const { hostname: host, port } = new URL(world.door.address)
    const at = { host, port } // given as they are: a URL would be normalised
    const length = body ? { 'Content-Length': String(Buffer.byteLength(body)) } : {}
    const sent = request({ ...at, method, path: `/v1/${path}`, headers: { ...length, ...headers } }, reply => {
      const chunks: Buffer[] = []
      reply.on('data', (chunk: Buffer) => chunks.push(chunk))
      reply.on('end', () => {
        const { 'content-type': type, 'cache-control': cache } = reply.headers
        resolve({ status: reply.statusCode ?? 0, text: Buffer.concat(chunks).toString(), type, cache })
      })
    })
    sent.on('error', reject).end(body)
  })
}

const root = () => ({ 'X-Vault-Token': world.vault.rootToken })

describe('a list', () => {
  test('by the verb LIST, as curl sends it', async () => {
    const url = `${world.door.address}/v1/broker/role`
    const { stdout } = await run('curl', ['-s', '-i', '-X', 'LIST', '-H', `X-Vault-Token: ${world.vault.rootToken}`, url])
    expect(stdout).toMatch(/^HTTP\/1\.1 200 /)
    expect(stdout).toContain('"keys":["deploy"]')
  })

  test.each(['list=true', 'list=1', 'list=True', 'list=t'])('by ?%s', async query => {
    expect((await world.api('GET', `broker/role?${query}`)).body.data).toEqual({ keys: ['deploy'] })
    expect((await world.api('GET', `broker/role/?${query}`)).body.data).toEqual({ keys: ['deploy'] })
  })

  test('?list=perhaps is refused, ?list=false is a read, and so is ?list=', async () => {
    expect((await world.api('GET', 'broker/role?list=perhaps')).status).toBe(400)
    expect((await world.api('GET', 'broker/role?list=false')).status).toBe(405)
    expect((await world.api('GET', 'broker/role?list=')).status).toBe(405)
    expect((await world.api('GET', 'sys/mounts?list=')).body.data).toHaveProperty('broker/')
  })

  test('native lists pass, in both forms', async () => {
    expect((await world.api('LIST', 'sys/policies/acl')).body.data.keys).toContain('assay')
    expect((await world.api('GET', 'sys/policies/acl?list=true')).body.data.keys).toContain('assay')
  })
})

describe('?help=, whatever the verb', () => {
  test.each(['GET', 'POST', 'PUT', 'DELETE', 'LIST', 'PATCH', 'SCAN', 'SEARCH'])(
    '%s asks for help, and nothing else',
    async method => {
      for (const path of ['broker/role/deploy', 'sys/mounts/broker', 'sys/auth/tpm-quote']) {
        const { status, text } = await raw(method, `${path}?help=1`, root(), '{}')
        expect({ path, status, ...(JSON.parse(text) as object) }).toMatchObject({ path, status: 200, help: expect.any(String) })
      }
      expect((await world.api('GET', 'broker/role/deploy')).body.data).toMatchObject({ plugins: ['a'] })
      expect((await world.api('GET', 'sys/auth/tpm-quote')).status).toBe(200)
    },
  )
})

describe('the token', () => {
  test('as Authorization: Bearer', async () => {
    const headers = { Authorization: `Bearer ${world.vault.rootToken}` }
    expect((await raw('GET', 'broker/config', headers)).status).toBe(200)
  })

  test.each([
    ['none', {}],
    ['an unknown one', { 'X-Vault-Token': 'hvs.CAESIJ' }],
    ['another scheme', { Authorization: 'Basic cm9vdDpyb290' }],
    ['an empty one', { 'X-Vault-Token': '' }],
  ])('%s: 403, as Vault says it', async (_, headers) => {
    const { status, text } = await raw('GET', 'broker/config', headers)
    expect({ status, ...(JSON.parse(text) as object) }).toEqual({
      status: 403,
      errors: [
        expect.stringMatching(/^(?:permission denied$|2 errors occurred:\n\t\* permission denied\n\t\* invalid token\n\n$)/),
      ],
    })
  })

  test('X-Vault-Token comes before Authorization, unless it is empty', async () => {
    const headers = { Authorization: `Bearer ${world.vault.rootToken}`, 'X-Vault-Token': 'hvs.nobody' }
    expect((await raw('GET', 'broker/config', headers)).status).toBe(403)
    expect((await raw('GET', 'broker/config', { ...headers, 'X-Vault-Token': '' })).status).toBe(200)
  })
})

describe('the body', () => {
  const sent: readonly (readonly [string, string, Record<string, string>])[] = [
    ['JSON without a Content-Type', '{"actions":["deploy","one"]}', {}],
    [
      'JSON that calls itself a form, as curl -d sends it',
      '{"actions":"deploy,one"}',
      { 'Content-Type': 'application/x-www-form-urlencoded' },
    ],
    ['a form', 'actions=deploy%2Cone', { 'Content-Type': 'application/x-www-form-urlencoded' }],
    [
      'a form that names one twice',
      'actions=deploy&actions=one',
      { 'Content-Type': 'Application/X-WWW-Form-Urlencoded; charset=utf-8' },
    ],
  ]
  test.each(sent)('%s', async (_, body, headers) => {
    await world.api('POST', 'broker/config', { actions: 'deploy' })
    expect((await raw('POST', 'broker/config', { ...root(), ...headers }, body)).status).toBe(204)
    expect((await world.api('GET', 'broker/config')).body.data.actions).toEqual(['deploy', 'one'])
  })

  test.each(['actions=%zz', 'actions=deploy%', 'actions=deploy;actions=one'])('a form that is none: %s', async body => {
    const headers = { ...root(), 'Content-Type': 'application/x-www-form-urlencoded' }
    const [ours, vaults] = [await raw('POST', 'broker/config', headers, body), await raw('POST', 'cubbyhole/a', headers, body)]
    expect({ status: ours.status, text: ours.text }).toEqual({ status: 400, text: vaults.text })
  })

  test('PUT is POST; an empty body and null are no parameters', async () => {
    expect((await raw('PUT', 'broker/config', root(), '')).status).toBe(204)
    expect((await raw('PUT', 'broker/keys/rotate', root(), 'null')).status).toBe(200)
  })

  test.each([
    ['no JSON', '{"actions":', 400],
    ['a list', '["actions"]', 400],
    ['a number', '1', 400],
    ['too large', `{"issuer":"${'x'.repeat(2 ** 20)}"}`, 413],
  ])('%s: %i', async (_, body, status) => {
    const reply = await raw('POST', 'broker/config', root(), body)
    expect(reply.status).toBe(status)
    expect(JSON.parse(reply.text)).toEqual({ errors: [expect.any(String)] })
    expect(reply.text).not.toContain('xxx')
  })
})

describe('replies are shaped as Vault’s', () => {
  test('data in the envelope, with exact headers', async () => {
    const { text, type, cache } = await raw('GET', 'broker/config', root())
    expect([type, cache]).toEqual(['application/json', 'no-store'])
    const { body: native } = await world.api('GET', 'sys/policies/acl/assay')
    const own = JSON.parse(text) as Record<string, unknown>
    expect(own).toMatchObject({
      lease_id: '',
      renewable: false,
      lease_duration: 0,
      wrap_info: null,
      warnings: null,
      auth: null,
      mount_type: 'broker',
    })
    expect(own['request_id']).toMatch(/^[0-9a-f-]{36}$/)
    expect(Object.keys(own).toSorted()).toEqual(
      Object.keys(native)
        .filter(name => !['name', 'policy'].includes(name))
        .toSorted(),
    )
  })

  test('nothing there: 404 without a word', async () => {
    for (const path of ['broker/role/nobody', 'broker/policy/none', 'auth/tpm-quote/tpm/none', 'auth/tpm-quote/role/nobody'])
      expect({ path, ...(await world.api('GET', path)) }).toEqual({ path, status: 404, body: { errors: [] } })
  })

  test('no such path: 404 with a sentence', async () => {
    for (const path of ['broker', 'broker/rolls', 'broker/role/a/b', 'auth/tpm-quote/logout', 'auth/tpm-quote/oidc/auth_url'])
      expect({ path, ...(await world.api('GET', path)) }).toEqual({
        path,
        status: 404,
        body: { errors: ['1 error occurred:\n\t* unsupported path\n\n'] },
      })
  })

  test('an operation that a path does not have: 405', async () => {
    for (const [method, path] of [
      ['DELETE', 'broker/config'],
      ['GET', 'auth/tpm-quote/login'],
      ['GET', 'broker/simulate'],
      ['LIST', 'broker/keys'],
      ['POST', 'broker/role'],
    ] as const)
      expect({ method, path, ...(await world.api(method, path)) }).toEqual({
        method,
        path,
        status: 405,
        body: { errors: ['1 error occurred:\n\t* unsupported operation\n\n'] },
      })
  })

  test('what differs by verb or path alone is worded as on a mount of Vault’s', async () => {
    await world.api('POST', 'sys/mounts/transit-shape', { type: 'transit' })
    for (const [method, ours, vaults] of [
      ['GET', 'broker/rolls', 'transit-shape/rolls'],
      ['LIST', 'broker/rolls', 'transit-shape/rolls'],
      ['POST', 'broker/rolls/x', 'transit-shape/rolls/x'],
      ['GET', 'broker/simulate', 'transit-shape/encrypt/a'],
      ['DELETE', 'broker/simulate', 'transit-shape/encrypt/a'],
      ['OPTIONS', 'broker/config', 'transit-shape/encrypt/a'],
      ['HEAD', 'broker/simulate', 'transit-shape/encrypt/a'],
      ['LOCK', 'broker/config', 'transit-shape/encrypt/a'],
      ['SCAN', 'broker/config', 'transit-shape/encrypt/a'],
      ['POST', 'broker/config/', 'transit-shape/keys/a/'],
    ] as const) {
      for (const token of [world.vault.rootToken, 'hvs.none', undefined]) {
        const asked = (path: string) => raw(method, path, token === undefined ? {} : { 'X-Vault-Token': token })
        const [one, other] = [await asked(ours), await asked(vaults)]
        expect({ method, ours, token, ...one }).toEqual({ method, ours, token, ...other })
      }
    }
    await world.api('DELETE', 'sys/mounts/transit-shape')
  })

  test('an encoded slash is one, for who may and for who may not', async () => {
    const { body } = await world.api('GET', 'broker%2Frole%2fdeploy')
    expect(body.data).toEqual((await world.api('GET', 'broker/role/deploy')).body.data)
    const other = await world.api('POST', 'auth/token/create', { policies: ['default'] })
    const token = other.body.auth.client_token as string
    expect(await ask(world.door.address, 'GET', 'broker%2Frole%2Fdeploy', { token })).toMatchObject({ status: 403 })
  })

  test('a write to a path that ends in a slash: 400', async () => {
    const refused = { status: 400, body: { errors: ["cannot write to a path ending in '/'"] } }
    expect(await world.api('POST', 'broker/role/deploy/', { plugins: 'a' })).toEqual(refused)
    expect(await world.api('PUT', 'broker/', { plugins: 'a' })).toEqual(refused)
  })

  test.each([
    'broker/role/../config',
    'broker/role%2F%2Fdeploy',
    'broker/role%2F..%2Fconfig',
    'broker/./config',
    'broker\\config',
    'broker/ro%00le',
  ])('a path that has two readings has none: %s', async path => expect((await raw('GET', path, root())).status).toBe(400))
})

describe('wrapping', () => {
  test('a reply of ours is wrapped by Vault, and unwrapped once', async () => {
    const wrapped = await ask(world.door.address, 'GET', 'broker/role/deploy', {
      headers: { ...root(), 'X-Vault-Wrap-TTL': '60s' },
    })
    expect(wrapped.body).toMatchObject({ data: null, wrap_info: { ttl: 60, token: expect.stringMatching(/^hvs\./) as string } })
    const { token } = wrapped.body.wrap_info as { token: string }
    const first = await world.door.vault(['unwrap', '-format=json', token])
    expect((JSON.parse(first.stdout) as { data: object }).data).toMatchObject({ plugins: ['a'] })
    expect((await world.door.vault(['unwrap', token])).code).toBe(2)
  })

  test('by the CLI', async () => {
    const token = await world.operator(['read', '-wrap-ttl=5m', '-field=wrapping_token', 'broker/role/deploy'])
    expect(await world.operator(['unwrap', '-field=plugins', token.trim()])).toContain('a')
  })

  test.each([
    ['60s', 200],
    ['1m30s', 200],
    ['90', 200],
    ['0', 200],
    ['', 200],
    ['0.1ns', 200],
    ['1.5s', 200],
    ['+5s', 200],
    ['.5h', 200],
    ['1.s', 200],
    ['.s', 400],
    ['++5s', 400],
    ['1d', 200],
    ['9000000000', 200],
    ['-1s', 400],
    ['soon', 400],
    ['1.5', 400],
    ['1h30d', 400],
    ['1d1h', 400],
    ['3000000h', 400],
    ['99999999999999999999', 400],
  ] as const)('a life of %s: %i, as at Vault', async (ttl, status) => {
    const headers = { ...root(), 'X-Vault-Wrap-TTL': ttl }
    const [ours, vaults] = await Promise.all(
      ['broker/config', 'sys/policies/acl/default'].map(path => ask(world.door.address, 'GET', path, { headers })),
    )
    expect(ours?.status).toBe(status)
    const seen = (reply: typeof ours) => ({ status: reply?.status, wrapped: reply?.body.wrap_info?.ttl as unknown })
    expect(seen(ours)).toEqual(seen(vaults))
  })
})

test('without a Host, as health checks of load balancers send it by HTTP/1.0', async () => {
  for (const [path, version, host] of [
    ['/healthz', '1.0', ''],
    ['/readyz', '1.1', 'Host:\r\n'],
    ['/v1/broker/config', '1.0', ''],
    ['/v1/sys/mounts', '1.0', ''],
  ]) {
    const line = await dial(world.door.address)
    const end = `Connection: close\r\nX-Vault-Token: ${world.vault.rootToken}\r\n\r\n`
    line.write(`GET ${path} HTTP/${version}\r\n${host}${end}`)
    expect({ path, reply: await line.closed }).toEqual({ path, reply: expect.stringMatching(/^HTTP\/1\.1 200 /) as string })
  }
})

test('X-Vault-Namespace: the root namespace is ours, others are Vault’s to answer', async () => {
  for (const namespace of ['', 'root', '/', 'root/']) {
    const reply = await ask(world.door.address, 'GET', 'broker/config', {
      headers: { ...root(), 'X-Vault-Namespace': namespace },
    })
    expect({ namespace, status: reply.status }).toEqual({ namespace, status: 200 })
  }
  const headers = { ...root(), 'X-Vault-Namespace': 'team' }
  const [here, there] = await Promise.all(
    [world.door.address, world.vault.address].map(at => ask(at, 'GET', 'broker/config', { headers })),
  )
  expect(here).toEqual({ status: 404, body: expect.any(Object) as object })
  expect({ ...here, body: keysOf(here?.body) }).toEqual({ ...there, body: keysOf(there?.body) })
})

const keysOf = (body: object | undefined) => Object.keys(body ?? {})
