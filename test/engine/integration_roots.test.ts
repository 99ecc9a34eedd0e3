import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { CANARY, type IntegrationWorld, openIntegrationWorld, outcome, warningsOf } from './integration_world.ts'

// Where the root credential of an integration is kept, when it ends, and what happens while it cannot be had.
let world: IntegrationWorld
let broker: TestBroker
let provider: IntegrationWorld['provider']
beforeEach(async () => {
  world = await openIntegrationWorld()
  ;({ broker, provider } = world)
})
afterEach(() => world[Symbol.asyncDispose]())

const write: IntegrationWorld['write'] = (...given) => world.write(...given)
const creds: IntegrationWorld['creds'] = (...given) => world.creds(...given)
const issued: IntegrationWorld['issued'] = (...given) => world.issued(...given)

describe('a store', () => {
  const CONNECT = { type: 'onepassword_connect', settings: { url: 'https://connect.example' }, secrets: { token: CANARY } }
  const store = (more: object) => broker.ask('update', 'broker/store/shared', more)
  beforeEach(() => store(CONNECT))

  test('is read without what lets the broker in', async () => {
    const data = dataOf(await broker.ask('read', 'broker/store/shared'))
    expect(data).toMatchObject({ name: 'shared', type: 'onepassword_connect', secrets: ['token'] })
    expect(JSON.stringify(data)).not.toMatch(CANARY)
    expect(dataOf(await broker.ask('list', 'broker/store'))).toEqual({ keys: ['vault', 'shared'] })
  })

  test('that moves does not take along what lets the broker in', async () => {
    const settings = { url: 'https://evil.example' }
    expect(await outcome(store({ settings }))).toBe('secrets: wanted anew, as the settings change')
    expect(await outcome(store({ settings, secrets: { token: 'canary-of-another' } }))).toBe('done')
    expect(await outcome(store({ refs: 'a/*' }))).toBe('done')
  })

  test.each([
    ['none of them', {}, 'secrets: missing token'],
    ['one that is empty', { token: '' }, 'secrets: missing token'],
    ['one more', { token: 'canary-of-another', tokn: 'x' }, 'secrets: wanted token, and nothing else'],
  ])('whose move is refused for its secrets, %s, is as it was, and one that is new is not there', async (_, secrets, wanted) => {
    const { kv } = broker.vault.state
    const state = () => JSON.stringify([...kv].filter(([path]) => path.includes('/store')))
    const before = state()
    expect(await outcome(store({ settings: { url: 'https://other.example' }, secrets }))).toBe(wanted)
    expect(await outcome(broker.ask('update', 'broker/store/another', { ...CONNECT, secrets }))).toBe(wanted)
    expect(state()).toBe(before)
  })

  test('that another replica wrote just now is there: who may only create does not change it', async () => {
    await using other = await openTestBroker({ beside: broker })
    const late = (more: object, token?: string) =>
      other.ask('update', 'broker/store/late', more, token === undefined ? {} : { token })
    const token = broker.vault.token({ allow: () => ['create'] })
    await expect(other.ask('read', 'broker/store/late')).rejects.toMatchObject({ code: 'not_found' })
    await broker.ask('update', 'broker/store/late', CONNECT)
    await expect(late({ refs: 'a/*' }, token)).rejects.toMatchObject({ code: 'permission_denied' })
    await late({ refs: 'b/*' })
  })

  test('lets integrations name what it may only', async () => {
    const ref = (item: string) => `${'v'.repeat(26)}/${item.repeat(26)}`
    await store({ refs: [ref('a'), `${'w'.repeat(26)}/*`] })
    const named = (to: string) => outcome(write({ store: 'shared', ref: to, secrets: undefined }))
    expect(await named(ref('b'))).toBe('ref: the store does not let integrations name this one')
    expect(await named('a b')).toMatch(/^ref: /)
    expect(await named(ref('a'))).toBe('done')
    expect(await named(`${'w'.repeat(26)}/${'c'.repeat(26)}`)).toBe('done')
    expect(await outcome(broker.ask('delete', 'broker/store/shared'))).toBe(
      'the store is in use by ci: point them elsewhere first',
    )
  })

  test('takes the place of Vault when the root credential can be read there, and not before', async () => {
    await write()
    const moved = { secrets: undefined, store: 'shared', ref: `${'v'.repeat(26)}/${'i'.repeat(26)}` }
    expect(warningsOf(await write(moved))?.[0]).toMatch(
      /^the root credential of the integration ci cannot be had from onepassword/,
    )
    await write({ secrets: undefined, store: 'vault', ref: '' })
    expect(await issued()).toBe('upstream')
    // by a Connect server that has the item
    const version = 1
    provider.trouble = ({ path }) =>
      path.startsWith('/v1/vaults/')
        ? {
            status: 200,
            body: {
              id: 'i'.repeat(26),
              vault: { id: 'v'.repeat(26) },
              version,
              fields: [{ id: 'a', label: 'client_secret', value: CANARY }],
            },
          }
        : undefined
    await store({ settings: { url: provider.url }, secrets: { token: CANARY } })
    expect(warningsOf(await write(moved))).toEqual([])
    expect([...broker.vault.state.kv.keys()].filter(path => path.endsWith('/root/ci'))).toEqual([])
    expect(await issued()).toBe('upstream')
  })

  test.each([
    ['secrets that are not known', { secrets: { password: CANARY } }, /^secrets: wanted token, and nothing else$/],
    [
      'settings that are not known',
      { settings: { url: 'https://connect.example', host: 'x' }, secrets: { token: CANARY } },
      /^settings: wanted url, ca/,
    ],
    ['the kind that is always there', { type: 'vault' }, /^type: wanted one of/],
  ])('is not written with %s', async (_, more, wanted) => expect(await outcome(store(more))).toMatch(wanted))
})

describe('its end', () => {
  const at = (seconds: number) => new Date(broker.world.now() + seconds * 1000).toISOString()

  test('is told before it comes: in replies and when it is read', async () => {
    await write({ expires_at: at(3 * 86_400) })
    const warning = /^the root credential of the integration ci ends in 3 days, at .+: rotate it$/
    expect(warningsOf(await broker.ask('read', 'broker/integration/ci'))?.[0]).toMatch(warning)
    expect(warningsOf(await creds())?.[0]).toMatch(warning)
    await write({ expires_at: at(30 * 86_400) })
    expect(warningsOf(await creds())).toEqual([])
  })

  test('is that of the secret that it was written for: the next one begins without, or with its own', async () => {
    await write({ expires_at: at(10) })
    broker.world.pass(10_000)
    expect(warningsOf(await write())).toEqual([])
    expect(await issued()).toBe('upstream')
    await write({ expires_at: at(10) })
    await write({ secrets: undefined, tasks: [] })
    expect(await world.read()).toMatchObject({ root_expires_at: at(10) })
  })

  test('stays the operator’s to change, also after the provider replaced a refresh token', async () => {
    const settings = { token_url: `${provider.url}/token`, grant: 'refresh_token', client_id: 'broker' }
    await write({ settings, secrets: { client_secret: CANARY, refresh_token: 'canary-0' }, expires_at: at(60) })
    const body = { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, refresh_token: 'canary-1' }
    provider.trouble = () => ({ status: 200, body })
    expect(await issued()).toBe('upstream')
    await write({ settings, secrets: undefined, expires_at: at(3600) })
    broker.world.pass(60_000)
    expect(await issued()).toBe('upstream')
    expect(new URLSearchParams(provider.arrived.at(-1)?.body).get('refresh_token')).toBe('canary-1')
  })

  test('is the end: nothing is issued from it', async () => {
    await write({ expires_at: at(10) })
    broker.world.pass(10_000)
    expect(await outcome(creds())).toBe('the root credential of the integration ci has expired: replace it')
    expect(provider.arrived).toEqual([])
  })
})

test('what Vault does not answer is not answered', async () => {
  await write()
  broker.vault.fault = ({ path }) =>
    path.startsWith('transit/decrypt/') ? { status: 500, body: { errors: [CANARY] } } : undefined
  broker.world.pass(60_000)
  const said = await outcome(creds())
  expect(said).toMatch(/^the root credential of the integration ci cannot be had from vault: /)
  expect(said).not.toMatch(CANARY)
})

test('a root credential, and what lets into a store, that Vault does not take away is told as what it is', async () => {
  await write()
  const settings = { url: 'https://connect.example' }
  await broker.ask('update', 'broker/store/away', { type: 'onepassword_connect', settings, secrets: { token: CANARY } })
  broker.vault.fault = ({ method, path }) =>
    method === 'DELETE' && /root\/(?:ci|away)$/.test(path) ? { status: 500, body: { errors: [CANARY] } } : undefined
  const away = {
    code: 'unavailable',
    message: expect.stringMatching(/from vault: the vault server answered with status 500$/) as string,
  }
  await expect(broker.ask('delete', 'broker/integration/ci')).rejects.toMatchObject(away)
  await expect(broker.ask('delete', 'broker/store/away')).rejects.toMatchObject(away)
  broker.vault.fault = () => undefined
  await broker.ask('delete', 'broker/integration/ci')
  await broker.ask('delete', 'broker/store/away')
})

test.each([
  ['is down', 500, 'internal error', true],
  ['does not decrypt it any more', 400, 'ciphertext or signature version is disallowed by policy (too old)', false],
])('what Vault said before serves reads for as long as it may when Vault %s: %s', async (_, status, said, serves) => {
  await write({ max_stale: '10m', read_actions: 'deploy' })
  expect(await issued()).toBe('upstream')
  broker.vault.fault = ({ path }) => (path.startsWith('transit/decrypt/') ? { status, body: { errors: [said] } } : undefined)
  broker.world.pass(60_000)
  expect(await outcome(creds())).toMatch(serves ? /^done$/ : /cannot be had from vault: transit refused with status 400$/)
})

test.each(['cipher: message authentication failed', 'encryption key not found'])(
  'what Vault does not decrypt any more is replaced by whoever writes it anew, under a key that is made where it is gone: %s',
  async said => {
    await write()
    const { asked, state } = broker.vault
    const [, kept = expect.unreachable()] = [...state.kv].find(([path]) => path.endsWith('/root/ci')) ?? []
    const { sealed } = (kept.value as { value: { sealed: string } }).value
    broker.vault.fault = ({ path, body }) =>
      path.startsWith('transit/decrypt/') && body['ciphertext'] === sealed ? { status: 400, body: { errors: [said] } } : undefined
    broker.world.pass(60_000)
    expect(await outcome(creds())).toMatch(/cannot be had from vault: transit refused with status 400$/)
    const before = asked.length
    await write({ secrets: { client_secret: 'canaryOfTheNext' } })
    expect(asked.slice(before).map(({ path }) => path)).toContainEqual(expect.stringMatching(/^transit\/keys\/assay-root-/))
    expect(await issued()).toBe('upstream')
    expect(atob(String(provider.arrived.at(-1)?.headers.authorization).slice('Basic '.length))).toBe('broker:canaryOfTheNext')
  },
)

test('no secret is in a log, in the audit log or in a metric', async () => {
  await write()
  await issued()
  provider.trouble = () => ({ status: 401, body: { error: 'invalid_client', error_description: CANARY } })
  await outcome(creds())
  const told = [...broker.world.lines, JSON.stringify(await broker.records()), await broker.broker.metrics.text()].join('\n')
  expect(told).not.toMatch(/canary|upstream"/)
})
