import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ask, done, openWorld, type World } from './world.ts'

// Vault's own tables with our mounts in them, when they shall be wrapped (X-Vault-Wrap-TTL): what is unwrapped is what is read.

let world: World
beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', 'broker'])
})
afterAll(() => world[Symbol.asyncDispose]())

const read = (path: string, wrap?: string, token = world.vault.rootToken) =>
  ask(world.door.address, 'GET', path, { token, headers: wrap === undefined ? {} : { 'X-Vault-Wrap-TTL': wrap } })
const unwrap = (token: string) => ask(world.door.address, 'POST', 'sys/wrapping/unwrap', { token })

describe.each([
  ['sys/mounts', '"broker/"'],
  ['sys/mounts/broker', '"broker"'],
  ['sys/auth', '"tpm-quote"'],
  ['sys/auth/tpm-quote', '"tpm-quote"'],
  ['sys/internal/ui/mounts', '"broker/"'],
  ['sys/internal/ui/mounts/broker/creds/a', '"broker/"'],
  ['sys/internal/ui/mounts/auth/tpm-quote', '"tpm-quote"'],
])('%s', (path, ours) => {
  test('is wrapped as a whole, with ours, and unwrapped once', async () => {
    const { body: plain } = await read(path)
    expect(JSON.stringify(plain.data)).toContain(ours)
    const { status, body } = await read(path, '90s')
    expect({ status, body }).toEqual({
      status: 200,
      body: {
        request_id: '',
        lease_id: '',
        renewable: false,
        lease_duration: 0,
        data: null,
        wrap_info: {
          token: expect.any(String) as string,
          accessor: expect.any(String) as string,
          ttl: 90,
          creation_time: expect.any(String) as string,
          creation_path: 'sys/wrapping/wrap',
        },
        warnings: null,
        auth: null,
        mount_type: '',
      },
    })
    const { token } = body.wrap_info as { token: string }
    expect((await unwrap(token)).body.data).toEqual(plain.data)
    expect((await unwrap(token)).status).toBe(400)
  })

  test('shows who may do nothing no more than without wrapping', async () => {
    const { body } = await world.vault.api('POST', 'auth/token/create', { policies: ['default'] })
    const as = body.auth.client_token as string
    const [plain, wrapped] = [await read(path, undefined, as), await read(path, '90s', as)]
    expect(wrapped.status).toBe(plain.status)
    if (plain.status === 403) expect(wrapped).toEqual(plain)
    else expect((await unwrap(wrapped.body.wrap_info.token as string)).body.data).toEqual(plain.body.data)
  })
})

test('by the stock CLI', async () => {
  const { wrap_info } = JSON.parse(await world.operator(['read', '-format=json', '-wrap-ttl=60s', 'sys/mounts'])) as {
    wrap_info: { token: string }
  }
  const { data } = JSON.parse(await world.operator(['unwrap', '-format=json', wrap_info.token])) as { data: object }
  expect(Object.keys(data)).toEqual(expect.arrayContaining(['broker/', 'secret/', 'sys/']))
})

test('limits of a policy on how long something is wrapped hold: Vault is asked as the client asked', async () => {
  const policy = 'path "sys/mounts" { capabilities = ["read"]\n min_wrapping_ttl = "1m"\n max_wrapping_ttl = "2m" }'
  await done(world.vault.api('PUT', 'sys/policies/acl/wrapping', { policy }))
  const { body } = await world.vault.api('POST', 'auth/token/create', { policies: ['wrapping'] })
  const as = body.auth.client_token as string
  const statuses = async (address: string) => {
    const replies = [undefined, '10s', '90s', '10m'].map(wrap =>
      ask(address, 'GET', 'sys/mounts', { token: as, headers: wrap === undefined ? {} : { 'X-Vault-Wrap-TTL': wrap } }),
    )
    return (await Promise.all(replies)).map(({ status }) => status)
  }
  expect(await statuses(world.door.address)).toEqual([403, 403, 200, 403])
  expect(await statuses(world.vault.address)).toEqual([403, 403, 200, 403])
})
