import { afterEach, beforeEach, expect, test } from 'vitest'
import { dataOf, type TestBroker } from '../fakes/broker.ts'
import { type IntegrationWorld, openIntegrationWorld, outcome } from './integration_world.ts'

// The same request, asked again within a minute: what it is answered with is within what is decided now.
let world: IntegrationWorld
let broker: TestBroker
let tokens = 0
beforeEach(async () => {
  world = await openIntegrationWorld()
  broker = world.broker
  world.provider.trouble = ({ path }) => {
    if (path !== '/token') return { status: 200, body: {} }
    tokens += 1
    return { status: 200, body: { access_token: `t${tokens}`, token_type: 'Bearer', expires_in: 300, scope: 'apps:read' } }
  }
})
afterEach(() => world[Symbol.asyncDispose]())

const revocable = (more: object = {}) =>
  world.write({
    settings: { ...world.record().settings, revocation_url: `${world.provider.url}/revoke`, ...more },
  })
const asked = async () => dataOf(await world.creds()) as unknown as { token: string; expires_in: number; expires_at: string }
const upstream = () => world.provider.arrived.filter(({ path }) => path === '/token').length

test('what is under a lease is the same for a minute, and says how long it lives from now', async () => {
  await revocable()
  const first = await asked()
  broker.world.pass(40_000)
  const again = await asked()
  expect(again).toMatchObject({ token: first.token, expires_at: first.expires_at, expires_in: first.expires_in - 40 })
  expect(upstream()).toBe(1)
})

test.each([
  ['the integration was narrowed', () => revocable({ ceiling: ['apps:write'] }), /^SCOPE: /],
  ['the role gives it for a minute only', () => broker.ask('update', 'broker/role/deploy', { ttl: 60, max_ttl: 60 }), /^done$/],
])('what is under a lease is not given again after %s', async (_, narrow, said) => {
  await revocable()
  const { token } = await asked()
  await narrow()
  expect(await outcome(world.creds())).toMatch(said)
  expect(
    await world
      .creds()
      .then(dataOf)
      .then(
        ({ token }) => token,
        () => '',
      ),
  ).not.toBe(token)
})

test('what is shared is shared also while the attestation of who asks grows older', async () => {
  await broker.ask('update', 'broker/role/deploy', { reuse: true, max_attestation_age: '1h' })
  await world.write()
  const first = await asked()
  broker.world.pass(2_000)
  expect((await asked()).token).toBe(first.token)
  expect(upstream()).toBe(1)
})

test('what is wider than was asked is revoked when its provider lets it be, not forgotten', async () => {
  await revocable()
  let isUp = false
  const revoked: (string | null)[] = []
  const whole = world.provider.trouble
  world.provider.trouble = arrived => {
    if (arrived.path !== '/revoke')
      return { status: 200, body: { access_token: 'wide', token_type: 'Bearer', expires_in: 300, scope: 'apps:read apps:write' } }
    if (isUp) revoked.push(new URLSearchParams(arrived.body).get('token'))
    return isUp ? whole(arrived) : { status: 500 }
  }
  expect(await outcome(world.creds())).toMatch(/^EXCHANGE_WIDER: /)
  await broker.broker.leases.sweep()
  expect(revoked).toEqual([])
  isUp = true
  broker.world.pass(31_000)
  await broker.broker.leases.sweep()
  expect(revoked).toEqual(['wide'])
})

test('a child token whose engine gave nothing of use is ended, though it may not end itself', async () => {
  const role = { issuer: 'vault', integration: '', provider_ttl: 0, vault_path: 'database/creds/app', vault_policies: 'reader' }
  await broker.ask('update', 'broker/role/deploy', role)
  broker.vault.fault = ({ path }) => {
    if (path === 'auth/token/create') return { status: 200, body: { auth: { client_token: 'hvs.child', accessor: 'of-child' } } }
    return path === 'database/creds/app' ? { status: 200, body: { data: {} } } : undefined
  }
  expect(await outcome(world.creds())).toMatch(/^EXCHANGE_UNUSABLE: /)
  const ended = broker.vault.asked.filter(({ path }) => path.startsWith('auth/token/revoke'))
  expect(ended.map(({ path, body }) => [path, body])).toEqual([['auth/token/revoke-accessor', { accessor: 'of-child' }]])
})
