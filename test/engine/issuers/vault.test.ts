import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { dataOf, type TestBroker } from '../../fakes/broker.ts'
import type { Answer, Fault } from '../../fakes/vault.ts'
import { type IntegrationWorld, openIntegrationWorld, outcome } from '../integration_world.ts'

// Every way in which an engine of Vault can fail, lie, or give what its lease does not end: nothing is handed out, and the child token is ended.
const CHILD = { auth: { client_token: 'hvs.child', accessor: 'of-child' } }
const PATH = 'engine/creds/app'
const TTL = 300

let world: IntegrationWorld
let broker: TestBroker
beforeEach(async () => {
  world = await openIntegrationWorld()
  broker = world.broker
  await write()
})
afterEach(() => world[Symbol.asyncDispose]())

const role = { issuer: 'vault', integration: '', provider_ttl: 0, ttl: TTL, vault_path: PATH }
const write = (more: object = {}) => broker.ask('update', 'broker/role/deploy', { ...role, ...more })
const asked = (path: string) => broker.vault.asked.filter(one => one.path === path)
const ended = () => asked('auth/token/revoke-accessor').map(({ body }) => body['accessor'])
const answers = (engine: Fault, child: object = CHILD) => {
  broker.vault.fault = ({ path }) => {
    if (path === 'auth/token/create') return { status: 200, body: child }
    return path === PATH ? engine : undefined
  }
}
const now = () => Math.floor(broker.world.now() / 1000)
const ok = (data: unknown, lease: object = {}): Answer => ({ status: 200, body: { data, ...lease } })
const leased = (data: unknown, seconds: unknown = 3600) => ok(data, { lease_id: `${PATH}/abc`, lease_duration: seconds })
const LOGIN = { username: 'u', password: 'p' }
const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
const jwt = (claims: object) => `${encoded({ alg: 'RS256' })}.${encoded(claims)}.c2ln`
const account = (token: string) => ({
  service_account_name: 'reader',
  service_account_namespace: 'apps',
  service_account_token: token,
})
const sts = (more: object) => ({ access_key: 'ASIA', secret_key: 's', session_token: 't', security_token: 't', ...more })

describe('an engine that gives what it should', () => {
  test('rabbitmq: a login under a lease, which ends with the child whatever the engine says', async () => {
    answers(leased(LOGIN))
    expect(dataOf(await world.creds())).toMatchObject({ ...LOGIN, expires_in: TTL })
    expect(asked('auth/token/create')[0]?.body).toMatchObject({ explicit_max_ttl: '300s', renewable: false })
    expect(ended()).toEqual([])
  })

  test.each([
    ['kubernetes: a token that ends before', () => leased(account(jwt({ exp: now() + 200 }))), {}, 200],
    ['kubernetes: one that the role puts up with', () => leased(account(jwt({ exp: now() + 600 }))), { provider_ttl: 600 }, 600],
    [
      'aws: a user, whose key the lease takes back',
      () => leased({ access_key: 'AKIA', secret_key: 's', session_token: null }),
      {},
      TTL,
    ],
    ['aws: a session that the role puts up with', () => leased(sts({ ttl: 900 }), 900), { provider_ttl: 900 }, 900],
  ])('%s', async (_, engine, more, expiresIn) => {
    await write(more)
    answers(engine())
    expect(dataOf(await world.creds())['expires_in']).toBe(expiresIn)
  })
})

const certificate = (seconds: number) => ({ certificate: 'pem', expiration: now() + seconds })
const odd: readonly (readonly [string, () => Answer, RegExp])[] = [
  ['pki: a certificate that outlives its lease', () => leased(certificate(43_200), TTL), /^EXCHANGE_WIDER: /],
  ['pki: one without a lease that outlives the grant', () => ok(certificate(43_200)), /^EXCHANGE_WIDER: /],
  ['pki: one that has ended', () => ok(certificate(-60)), /^EXCHANGE_UNUSABLE: /],
  ['pki: one that has ended, with a lease', () => leased(certificate(-60)), /^EXCHANGE_UNUSABLE: /],
  ['pki: an end of text', () => leased({ ...certificate(60), expiration: 'tomorrow' }), /^EXCHANGE_UNUSABLE: /],
  [
    'ssh: a certificate that cannot be read',
    () => ok({ signed_key: 'ssh-ed25519-cert-v01@openssh.com AAAA' }),
    /^EXCHANGE_UNUSABLE: /,
  ],
  ['kubernetes: a token that outlives its lease', () => leased(account(jwt({ exp: now() + 600 })), TTL), /^EXCHANGE_WIDER: /],
  ['kubernetes: a token without an end', () => leased(account(jwt({}))), /^EXCHANGE_UNUSABLE: /],
  ['kubernetes: a token that is none', () => leased(account('opaque')), /^EXCHANGE_UNUSABLE: /],
  ['aws: a session that outlives its lease', () => leased(sts({ ttl: 3600 }), TTL), /^EXCHANGE_WIDER: /],
  ['aws: a session of which nobody says how long it lives', () => leased(sts({}), TTL), /^EXCHANGE_UNUSABLE: /],
  ['no data', () => ok(null), /^EXCHANGE_UNUSABLE: /],
  ['no fields', () => leased({}), /^EXCHANGE_UNUSABLE: /],
  ['null fields', () => leased({ username: null, password: null }), /^EXCHANGE_UNUSABLE: /],
  ['neither a lease nor an end', () => ok(LOGIN), /^EXCHANGE_UNUSABLE: /],
  ['a lease whose life is a text', () => leased(LOGIN, '3600'), /^EXCHANGE_UNUSABLE: /],
  ['a lease whose life is negative', () => leased(LOGIN, -1), /^EXCHANGE_UNUSABLE: /],
  ['a lease without a life', () => leased({ ...LOGIN, ...certificate(60) }, null), /^EXCHANGE_UNUSABLE: /],
  ['a lease whose id is a number', () => ok(LOGIN, { lease_id: 7, lease_duration: 60 }), /^EXCHANGE_UNUSABLE: /],
  ['a refusal', () => ({ status: 400, body: { errors: ['hvs.child may not'] } }), /^EXCHANGE_REFUSED: .*status_400/],
  ['an engine that fails', () => ({ status: 500, body: { errors: ['1 error occurred'] } }), /status 500$/],
  ['too many requests', () => ({ status: 429, body: { errors: [] } }), /limits the rate of requests$/],
  ['a Vault that is sealed', () => ({ status: 503, body: { errors: ['Vault is sealed'] } }), /sealed or not active$/],
]
test.each(odd)('%s: nothing is handed out, and the child is ended', async (_, engine, said) => {
  answers(engine())
  expect(await outcome(world.creds())).toMatch(said)
  expect(ended()).toEqual(['of-child'])
  answers(leased(LOGIN))
  // and the same request is not kept waiting by what it left
  expect(await outcome(world.creds())).toBe('done')
})

const unknown: readonly Fault[] = [
  'reset',
  'truncated',
  'reset in the body',
  { status: 200, text: '' },
  { status: 502 },
  { status: 504 },
]
test.each(unknown.map(fault => [JSON.stringify(fault), fault] as const))(
  '%s: the engine may be at it, and the child is ended when it cannot be any more',
  async (_, fault) => {
    answers(fault)
    await expect(world.creds()).rejects.toMatchObject({ code: 'unavailable' })
    await broker.broker.leases.sweep()
    expect(ended()).toEqual([])
    broker.world.pass(61_000)
    await broker.broker.leases.sweep()
    expect(ended()).toEqual(['of-child'])
  },
)

test.each([
  ['no token', { auth: { accessor: 'of-child' } }],
  ['an empty token', { auth: { client_token: '', accessor: 'of-child' } }],
  ['a token of null', { auth: { client_token: null, accessor: 'of-child' } }],
  ['no accessor', { auth: { client_token: 'hvs.child' } }],
  ['an empty accessor', { auth: { client_token: 'hvs.child', accessor: '' } }],
  ['no auth', { auth: null }],
])('a child with %s: no engine is asked', async (_, child) => {
  answers(leased(LOGIN), child)
  expect(await outcome(world.creds())).toMatch(/^EXCHANGE_UNUSABLE: /)
  expect(asked(PATH)).toEqual([])
})

test('a child that cannot be ended at once is ended, whatever it takes', async () => {
  answers(ok(LOGIN))
  const { fault } = broker.vault
  broker.vault.fault = one => (one.path === 'auth/token/revoke-accessor' ? { status: 500 } : fault(one))
  expect(await outcome(world.creds())).toMatch(/^EXCHANGE_UNUSABLE: /)
  await broker.broker.leases.sweep()
  const tried = ended().length
  broker.vault.fault = fault
  broker.world.pass(31_000)
  await broker.broker.leases.sweep()
  expect(ended().length).toBeGreaterThan(tried)
  expect([...broker.vault.state.kv.keys()].filter(path => path.includes('leases/record/'))).toEqual([])
})

test('where no lease can be written no engine is asked, and the child is ended', async () => {
  answers(leased(LOGIN))
  const { fault } = broker.vault
  broker.vault.fault = one =>
    one.path.startsWith('assay/data/leases/record') && one.method === 'POST' ? { status: 500 } : fault(one)
  await expect(world.creds()).rejects.toMatchObject({ code: 'unavailable' })
  expect(asked(PATH)).toEqual([])
  expect(ended()).toEqual(['of-child'])
})

test('a lease whose child Vault has ended already is over', async () => {
  answers(leased(LOGIN))
  await world.creds()
  const { fault } = broker.vault
  broker.vault.fault = one =>
    one.path === 'auth/token/revoke-accessor'
      ? { status: 400, body: { errors: ['1 error occurred:\n\t* invalid accessor\n\n'] } }
      : fault(one)
  broker.world.pass(TTL * 1000)
  await broker.broker.leases.sweep()
  expect(ended()).toEqual(['of-child'])
  expect(await broker.broker.leases.list('broker/')).toEqual([])
})
