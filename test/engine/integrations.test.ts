import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { dataOf, type TestBroker } from '../fakes/broker.ts'
import { fakeOrchestrator, TASK } from '../fakes/orchestrator.ts'
import { CANARY, type IntegrationWorld, machine, openIntegrationWorld, outcome } from './integration_world.ts'

// What an integration is, who may use it, and who may change it.
let world: IntegrationWorld
let broker: TestBroker
let provider: IntegrationWorld['provider']
/** of the machine; its entity is `worker` */
let token: string
beforeEach(async () => {
  world = await openIntegrationWorld()
  ;({ broker, provider, token } = world)
})
afterEach(() => world[Symbol.asyncDispose]())

const write: IntegrationWorld['write'] = (...given) => world.write(...given)
const read: IntegrationWorld['read'] = (...given) => world.read(...given)
const creds: IntegrationWorld['creds'] = (...given) => world.creds(...given)
const issued: IntegrationWorld['issued'] = (...given) => world.issued(...given)
const agentToken: IntegrationWorld['agentToken'] = (...given) => world.agentToken(...given)
const operator = (entity: string) =>
  broker.vault.token({ entity, policies: ['operators'], path: `auth/userpass/login/${entity}` })
const root = () => broker.vault.token({ entity: '', policies: ['root'] })

/** RFC 6749, 2.3.1: both halves are form-encoded first. */
const basic = (secret: string) => `Basic ${Buffer.from(`broker:${secret.replaceAll('-', '%2D')}`).toString('base64')}`

/** Whether it would be, for a token of this entity. */
const simulated = async (entity_id: string) => {
  const asked = { role: 'deploy', plugin: 'kubernetes', scope: 'apps:read', tpm_id: machine.tpmId, login_role: 'builder' }
  return dataOf(await broker.ask('update', 'broker/simulate', { ...asked, entity_id }))['allowed']
}

describe('an integration', () => {
  test('is read without its secrets, of which it tells the names', async () => {
    await write({ org: 'acme', tasks: 'release-42' })
    const data = await read()
    expect(data).toMatchObject({
      name: 'ci',
      type: 'oauth2',
      org: 'acme',
      tasks: ['release-42'],
      secrets: ['client_secret'],
      root_state: 'ok',
    })
    expect(JSON.stringify(data)).not.toMatch(CANARY)
  })

  test('is used to issue', async () => {
    await write()
    expect(await issued()).toBe('upstream')
    expect(provider.arrived[0]?.headers.authorization).toBe(basic(CANARY))
  })

  test('keeps its root credential in Vault as ciphertext that is good for its own place only', async () => {
    await write()
    await write({ secrets: { client_secret: 'canary-of-another' } }, undefined, 'other')
    const { kv } = broker.vault.state
    const places = [...kv.keys()].filter(path => path.includes('/root/'))
    expect(places).toHaveLength(2)
    expect(JSON.stringify([...kv.values()])).not.toMatch('canary')
    const [one, two] = places.map(path => kv.get(path))
    if (one && two) two.value = one.value
    broker.world.pass(60_000)
    expect(await outcome(broker.ask('read', 'broker/integration/other'))).toBe('done')
    expect(await read(undefined, 'other')).toMatchObject({ root_state: 'unreadable' })
  })

  test.each([
    [
      'settings that are not known',
      { settings: { token_url: 'https://as.example', grant: 'client_credentials', tokenurl: 'x' } },
      /^settings: wanted token_url/,
    ],
    ['settings that lack something', { settings: { grant: 'client_credentials' } }, /^missing token_url/],
    [
      'secrets that are not known',
      { secrets: { password: CANARY } },
      /^secrets: wanted client_secret, refresh_token, and nothing else$/,
    ],
    ['a type that needs none', { type: 'jwt' }, /^type: wanted one of/],
    ['a store that is not there', { store: 'attic', ref: 'x' }, /no store of this name/],
    ['a reference in the own store', { ref: 'x/y' }, /^ref: wanted none/],
    ['stale reads of any action', { max_stale: '1h' }, /read_actions/],
    ['an end that is none', { expires_at: '2027-02-30x' }, /^expires_at: wanted/],
  ])('is not written with %s, and nothing is left of it', async (_, more, wanted) => {
    const said = await outcome(write(more))
    expect(said).toMatch(wanted)
    expect(said).not.toMatch(CANARY)
    expect(await outcome(read())).not.toBe('done')
    expect([...broker.vault.state.kv.keys()].filter(path => path.includes('/root/'))).toEqual([])
  })

  test.each([{ password: CANARY }, { client_secret: CANARY, refresh: 'x' }])(
    'is not moved by a write whose secrets are refused: what is there would be sent to the next address',
    async secrets => {
      await write()
      const settings = { ...world.record().settings, token_url: 'https://next.example.com/token' }
      expect(await outcome(write({ settings, secrets }))).toMatch(
        /^secrets: wanted client_secret, refresh_token, and nothing else/,
      )
      expect(await read()).toMatchObject({ settings: world.record().settings })
      expect(await issued()).toBe('upstream')
    },
  )

  test('is not moved by a write whose secrets cannot be kept', async () => {
    await write()
    const settings = { ...world.record().settings, token_url: 'https://next.example.com/token' }
    broker.vault.fault = ({ path }) => (path.startsWith('transit/encrypt/') ? { status: 500, body: {} } : undefined)
    expect(await outcome(write({ settings, secrets: { client_secret: 'canary-next' } }))).toMatch(/cannot be had from vault/)
    broker.vault.fault = () => undefined
    expect(await read()).toMatchObject({ settings: world.record().settings })
  })

  test('whose name was somebody elses holds nothing of theirs', async () => {
    await write()
    await broker.ask('delete', 'broker/integration/ci')
    await write({ secrets: undefined })
    expect(await read()).toMatchObject({ secrets: [] })
  })

  test('uses at once what was written anew', async () => {
    await write()
    await issued()
    await write({ secrets: { client_secret: 'canary-next' } })
    await issued()
    expect(provider.arrived.at(-1)?.headers.authorization).toBe(basic('canary-next'))
  })
})

describe('who may use it: a foreign one answers exactly like one that is not there', () => {
  const task = async (claims: object = {}) => {
    const orchestrator = await fakeOrchestrator({ now: broker.world.now })
    await broker.ask('update', 'broker/orchestrator/planner', { ...orchestrator.record, orgs: 'acme,umbrella' })
    return orchestrator.sign('worker', { tctx: { org: TASK.org, task: TASK.task, ...claims } })
  }
  const absent = async () => {
    await broker.ask('update', 'broker/role/deploy', { integration: 'nowhere' })
    const said = await outcome(creds())
    await broker.ask('update', 'broker/role/deploy', { integration: 'ci' })
    return said
  }

  test.each([
    ['of another organisation', { org: 'acme' }, { org: 'umbrella' }, 'it belongs to another organisation'],
    ['for another task', { org: 'acme', tasks: 'payroll' }, {}, 'it is not for this task'],
    ['that the task is not authorised for', { org: 'acme' }, { integrations: ['mail'] }, 'the task is not authorised for it'],
  ])('one %s', async (_, record, claims, why) => {
    await write(record)
    const said = await outcome(creds({ task_token: await task(claims) }))
    expect(said).toBe(await absent())
    expect(said).toMatch(/^INTEGRATION: /)
    expect((await broker.records()).find(one => one['integration'] && one['why'])).toMatchObject({
      code: 'INTEGRATION',
      integration: 'ci',
      why,
    })
    expect(provider.arrived).toEqual([])
  })

  test('one of an organisation, without any task', async () => {
    await write({ org: 'acme' })
    expect(await outcome(creds())).toBe(await absent())
  })

  test('its own organisation and task may', async () => {
    await write({ org: 'acme', tasks: TASK.task })
    expect(await issued({ task_token: await task({ integrations: ['ci'] }) })).toBe('upstream')
  })

  test('so may an agent that an operator bound to it, within what it was bound to', async () => {
    await write({ org: 'acme' })
    await broker.ask('update', 'broker/binding/worker', { org: 'acme' })
    expect(await issued()).toBe('upstream')
    await broker.ask('update', 'broker/binding/worker', { integrations: 'mail' })
    expect(await outcome(creds())).toBe(await absent())
    expect(await outcome(creds({ task_token: await task({ integrations: ['ci'] }) }))).toBe(await absent())
  })

  test('what an agent made is for it alone, until it grants it, and again when the grant has ended', async () => {
    await write({}, token)
    const other = agentToken('other', token)
    expect(await issued()).toBe('upstream')
    expect(await outcome(creds({}, other))).toBe(await absent())
    const expires_at = new Date(broker.world.now() + 60_000).toISOString()
    await broker.ask('update', 'broker/integration/ci/grant/other', { expires_at }, { token })
    expect(await issued({}, other)).toBe('upstream')
    expect(await Promise.all(['worker', 'other', 'another'].map(simulated))).toEqual([true, true, false])
    broker.world.pass(60_001)
    expect(await outcome(creds({}, other))).toBe(await absent())
    expect(await simulated('other')).toBe(false)
  })

  test('a grant that was taken back is none', async () => {
    await write({}, token)
    const other = agentToken('other', token)
    await broker.ask('update', 'broker/integration/ci/grant/other', {}, { token })
    expect(await issued({}, other)).toBe('upstream')
    await broker.ask('delete', 'broker/integration/ci/grant/other', {}, { token })
    expect(await outcome(creds({}, other))).toBe(await absent())
  })

  test('an agent neither reads nor lists nor grants what is not its business', async () => {
    const other = agentToken('other', token)
    await write({}, token)
    await write({ org: 'acme' }, undefined, 'acme-mail')
    for (const name of ['ci', 'acme-mail', 'nowhere']) {
      expect(await outcome(read(other, name))).toBe('')
      expect(await outcome(broker.ask('update', `broker/integration/${name}/grant/other`, {}, { token: other }))).toBe('')
      expect(await outcome(broker.ask('delete', `broker/integration/${name}`, {}, { token: other }))).toBe('')
    }
    expect(dataOf(await broker.ask('list', 'broker/integration', {}, { token: other }))).toEqual({ keys: [] })
    expect(dataOf(await broker.ask('list', 'broker/integration', {}, { token }))).toEqual({ keys: ['ci'] })
  })
})

test('a list that cannot be told whole is not told', async () => {
  await write({}, token)
  broker.vault.fault = ({ path }) => (path.endsWith('/integration/ci') ? { status: 500, body: {} } : undefined)
  broker.world.pass(10_000)
  expect(await outcome(broker.ask('list', 'broker/integration', {}, { token }))).toMatch(/^the vault server answered/)
})

describe('who may change it', () => {
  test('its creator and root, nobody else: who could change the address would have the secret sent to it', async () => {
    await write({}, operator('alice'))
    const evil = {
      settings: { token_url: 'https://evil.example/token', grant: 'client_credentials', client_id: 'broker' },
      secrets: undefined,
    }
    expect(await outcome(write(evil, operator('bob')))).toBe('permission denied')
    expect(await outcome(write(evil, token))).toBe('permission denied')
    expect(await outcome(write({ description: undefined }, operator('alice')))).toBe('done')
    expect(await outcome(write({}, root()))).toBe('done')
    expect((await read())['creator']).toBe('entity:alice')
  })

  test('who names a key in transit may sign with it: what is signed, and who gets it, is theirs to say', async () => {
    const app = { type: 'github_app', secrets: undefined }
    const settings = (key: string) => ({ app_id: '1', installation_id: '1', api_url: 'https://mine.example.com', key })
    const path = 'auth/userpass/login/bob'
    const allow = (asked: string) => (asked.startsWith('transit/') && asked !== 'transit/sign/assay-own' ? ['deny'] : ['update'])
    const bob = broker.vault.token({ entity: 'bob', path, allow })
    const denied = 'permission denied: who names a key in transit wants update on transit/sign/assay-payroll'
    expect(await outcome(write({ ...app, settings: settings('assay-payroll') }, bob))).toBe(denied)
    expect(await outcome(read())).toBe('')
    const signing = { ...world.record().settings, client_auth: 'private_key_jwt', signing_key: 'assay-payroll' }
    expect(await outcome(write({ settings: signing }, bob))).toBe(denied)
    expect(await outcome(write({ ...app, settings: settings('assay-own') }, bob))).toBe('done')
    const order = { settings: { key: 'assay-payroll' } }
    expect(await outcome(broker.ask('update', 'broker/integration/ci/rotate', order, { token: bob }))).toBe(denied)
    expect(await outcome(write({ ...app, settings: undefined, org: 'acme' }, bob))).toBe('done')
  })

  test('a batch token without an entity owns nothing: it could not be told from another one', async () => {
    const batch = () => broker.vault.token({ batch: true, entity: '', policies: ['operators'] })
    expect(await outcome(write({}, batch()))).toMatch(/^a batch token without an entity can own nothing/)
    expect(await outcome(read())).toBe('')
    await write()
    expect(await outcome(write({}, batch()))).toBe('permission denied')
    await write({}, broker.vault.token({ batch: true, entity: 'alice', path: 'auth/userpass/login/alice' }), 'mail')
    expect(await read(undefined, 'mail')).toMatchObject({ creator: 'entity:alice' })
  })

  test('only its creator grants it, and sees whom', async () => {
    await write({}, operator('alice'))
    const grant = (as: string) => outcome(broker.ask('update', 'broker/integration/ci/grant/worker', {}, { token: as }))
    expect(await grant(operator('bob'))).toBe('only who made the integration may do this')
    expect(await grant(operator('alice'))).toBe('done')
    expect(dataOf(await broker.ask('list', 'broker/integration/ci/grant', {}, { token: operator('alice') }))).toEqual({
      keys: ['worker'],
    })
    expect(await outcome(broker.ask('list', 'broker/integration/ci/grant', {}, { token: operator('bob') }))).toBe(
      'only who made the integration may do this',
    )
    expect(
      dataOf(await broker.ask('read', 'broker/integration/ci/grant/worker', {}, { token: operator('alice') })),
    ).toMatchObject({ granted_by: 'entity:alice' })
  })

  test.each([
    ['a store of an operator', { store: 'shared', ref: 'root/payroll' }, /^store: an agent keeps/],
    ['a schedule', { rotate_every: '1d' }, /^rotate_every: an agent orders/],
    [
      'the name of somebody else in an assertion',
      { settings: { grant: 'jwt_bearer', subject: 'integration:payroll' } },
      /^type, settings: an agent makes/,
    ],
    [
      'the key of the mount as its own',
      { settings: { grant: 'client_credentials', client_auth: 'private_key_jwt', client_id: 'payroll' } },
      /^type, settings/,
    ],
    [
      'the key of an operator',
      { type: 'github_app', settings: { app_id: '1', installation_id: '1', key: 'assay-payroll' }, secrets: undefined },
      /^type, settings/,
    ],
    [
      'the web identity of the broker',
      { type: 'aws_sts', settings: { region: 'eu-central-1' }, secrets: undefined },
      /^type, settings/,
    ],
    [
      'the root of a database',
      { type: 'vault_database', settings: { path: 'database/rotate-root/x' }, secrets: undefined },
      /^type, settings/,
    ],
  ])('an agent cannot have %s', async (_, more, wanted) => {
    const { settings = {} } = more as { settings?: object }
    const all = 'type' in more ? more : { ...more, settings: { ...world.record().settings, ...settings } }
    expect(await outcome(write(all, token))).toMatch(wanted)
    expect(await outcome(read())).toBe('')
  })

  test('an agent has no more by a token that it makes of its own', async () => {
    const child = broker.vault.token({ entity: 'worker', policies: ['agents'], path: 'auth/token/create' })
    const settings = { ...world.record().settings, grant: 'jwt_bearer', subject: 'integration:payroll' }
    expect(await outcome(write({ settings }, child))).toMatch(/^type, settings: an agent makes/)
    expect(await outcome(write({}, child))).toBe('done')
    expect(await outcome(creds({}, agentToken('other', token)))).toMatch(/^INTEGRATION/)
    expect(await issued()).toBe('upstream')
    await write({}, operator('alice'), 'mail')
    expect(dataOf(await broker.ask('list', 'broker/integration', {}, { token: child }))).toMatchObject({ keys: ['ci', 'mail'] })
  })

  test('it keeps its type', async () => {
    await write()
    expect(await outcome(write({ type: 'static', settings: {}, secrets: { api_key: CANARY } }))).toMatch(
      /^type: an integration keeps its type/,
    )
  })
})
