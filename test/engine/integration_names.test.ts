import { afterEach, beforeEach, expect, test } from 'vitest'
import { dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { startConnect } from '../fakes/connect.ts'
import { type JsonServer, startJsonServer } from '../fakes/json_server.ts'
import { until } from '../harness/process.ts'
import { CANARY, type IntegrationWorld, openIntegrationWorld, outcome } from './integration_world.ts'

// A name that one agent gives up and another takes, at two replicas that remember what they read: records for five seconds, root credentials for fifteen.
const THEIRS = 'canary-of-the-other'
let world: IntegrationWorld
let here: TestBroker
let there: TestBroker
let evil: JsonServer
let parts: AsyncDisposableStack
/** made the integration */
let worker: string
/** takes its name */
let thief: string
beforeEach(async () => {
  await using opening = new AsyncDisposableStack()
  world = opening.use(await openIntegrationWorld())
  here = world.broker
  there = opening.use(await openTestBroker({ beside: here }))
  evil = opening.use(await startJsonServer(() => ({ status: 400, body: { error: 'invalid_client' } })))
  worker = world.token
  thief = world.agentToken('thief', worker)
  parts = opening.move()
})
afterEach(() => parts.disposeAsync())

const asked = { plugin: 'kubernetes', scope: 'apps:read' }
const creds = (broker: TestBroker, token: string) => outcome(broker.ask('update', 'broker/creds/deploy', asked, { token }))
const record = (url: string, secret: string) => ({
  ...world.record(),
  settings: { token_url: `${url}/token`, grant: 'client_credentials', client_id: 'broker' },
  secrets: { client_secret: secret },
})
const write = (token: string, url: string, secret: string) =>
  outcome(here.ask('update', 'broker/integration/ci', record(url, secret), { token }))
const give = (token: string) => outcome(here.ask('delete', 'broker/integration/ci', {}, { token }))
const said = (server: JsonServer) =>
  server.arrived.map(one => Buffer.from((one.headers.authorization ?? '').slice(6), 'base64').toString())

test('what was kept for one is not sent where the other says', async () => {
  await write(worker, world.provider.url, CANARY)
  expect(await creds(there, worker)).toBe('done')
  // its record is forgotten there, its root credential not yet
  here.world.pass(4_000)
  expect(await creds(there, worker)).toBe('done')
  here.world.pass(2_000)
  expect(await give(worker)).toBe('done')
  expect(await write(thief, evil.url, THEIRS)).toBe('done')
  expect(await creds(there, thief)).toMatch(/^EXCHANGE_REFUSED: .*invalid_client/)
  expect(said(evil).join()).not.toContain(CANARY.replaceAll('-', '%2D'))
  expect(said(evil)).toEqual([`broker:${THEIRS.replaceAll('-', '%2D')}`])
})

test('what is kept for the other is not sent where the one before said', async () => {
  await write(thief, evil.url, THEIRS)
  expect(await creds(there, thief)).toMatch(/^EXCHANGE_REFUSED/)
  here.world.pass(14_000)
  // its record is remembered there, its root credential not any more
  expect(await creds(there, thief)).toMatch(/^EXCHANGE_REFUSED/)
  here.world.pass(2_000)
  expect(await give(thief)).toBe('done')
  expect(await write(worker, world.provider.url, CANARY)).toBe('done')
  expect(await creds(there, thief)).toBe('the integration ci holds no client_secret')
  expect(said(evil).join()).not.toContain(CANARY.replaceAll('-', '%2D'))
})

test('who gave it up does not manage it where that is not known yet', async () => {
  await write(worker, world.provider.url, CANARY)
  const at = (path: string, operation: 'read' | 'update' | 'delete' = 'read') =>
    outcome(there.ask(operation, `broker/integration/ci${path}`, {}, { token: worker }))
  expect(await at('')).toBe('done')
  await give(worker)
  await write(thief, evil.url, THEIRS)
  expect(await at('/grant/worker', 'update')).toBe('')
  expect(await at('', 'delete')).toBe('')
  expect(dataOf(await here.ask('list', 'broker/integration/ci/grant', {}, { token: thief }))).toEqual({ keys: [] })
})

/** Holds the next request like this one until it is let go. */
function holding(verb: string, end: string) {
  const held = Promise.withResolvers<void>()
  const reached = Promise.withResolvers<void>()
  here.vault.fault = ({ method, path }) => {
    if (method !== verb || !path.endsWith(end)) return undefined
    here.vault.fault = () => undefined
    reached.resolve()
    return { after: held.promise }
  }
  return { reached: reached.promise, release: held.resolve }
}
const writeThere = () =>
  outcome(there.ask('update', 'broker/integration/ci', record(world.provider.url, CANARY), { token: worker }))

test('it is not taken from who was first by a moment, and nothing of theirs is taken away', async () => {
  // this one has looked, and found nothing
  const look = holding('GET', '/integration/ci')
  const late = write(thief, evil.url, THEIRS)
  await look.reached
  expect(await writeThere()).toBe('done')
  await there.ask('update', 'broker/integration/ci/grant/somebody', {}, { token: worker })
  look.release()
  expect(await late).toBe('permission denied')
  expect(dataOf(await here.ask('read', 'broker/integration/ci'))).toMatchObject({ creator: 'entity:worker' })
  expect(dataOf(await there.ask('list', 'broker/integration/ci/grant', {}, { token: worker }))).toEqual({ keys: ['somebody'] })
  here.world.pass(16_000)
  expect(await creds(there, worker)).toBe('done')
})

test('one takes it at a time', async () => {
  // this one takes away what may be left of who had the name before
  const taking = holding('DELETE', '/rotation/ci')
  const first = write(thief, evil.url, THEIRS)
  await taking.reached
  const asked = here.vault.asked.length
  const late = writeThere()
  const looks = () => here.vault.asked.slice(asked).filter(({ path }) => path.endsWith('/lock/ci')).length
  await until('the other to see that the name is taken', async () => looks() > 1)
  taking.release()
  expect(await first).toBe('done')
  expect(await late).toBe('permission denied')
  expect(dataOf(await here.ask('read', 'broker/integration/ci'))).toMatchObject({ creator: 'entity:thief' })
})

test('who is late to give it up takes nothing away from who has it now', async () => {
  await write(worker, world.provider.url, CANARY)
  const giving = holding('DELETE', '/rotation/ci')
  const late = give(worker)
  await giving.reached
  const asked = here.vault.asked.length
  let isTaken = false
  const taken = (async () => {
    await outcome(there.ask('delete', 'broker/integration/ci', {}, { token: worker }))
    await write(thief, evil.url, THEIRS)
    isTaken = true
  })()
  const looks = () => here.vault.asked.slice(asked).filter(({ path }) => path.endsWith('/lock/ci')).length
  await until('the other to take the name, or to see that it is not free yet', async () => isTaken || looks() > 1)
  giving.release()
  expect(await late).toBe('done')
  await taken
  expect(dataOf(await here.ask('read', 'broker/integration/ci'))).toMatchObject({ creator: 'entity:thief' })
})

test('nothing is left of what people consented to, nor of how far the one before had got with its rotation', async () => {
  const rotated = () => there.ask('read', 'broker/integration/ci/rotate', {}, { token: worker }).then(dataOf)
  await write(worker, world.provider.url, CANARY)
  const mount = here.broker.mounts.find('broker/')?.id ?? ''
  const journal = { state: 'stored', at: 0, retireAt: 4_000_000_000, old: { access_key_id: 'AKIA' } }
  here.vault.state.kv.set(`${mount}/rotation/ci`, { value: { value: journal }, version: 1 })
  here.vault.state.kv.set(`${mount}/consented/ci/1`, { value: { value: {} }, version: 1 })
  expect(await rotated()).toMatchObject({ state: 'stored' })
  await give(worker)
  await write(worker, world.provider.url, CANARY)
  expect(await rotated()).toMatchObject({ state: 'never' })
  expect([...here.vault.state.kv.keys()].filter(path => /consented|rotation/.test(path))).toEqual([])
})

test('what lets the broker into a store is not sent where the store is said to be now', async () => {
  await using connect = await startConnect(CANARY)
  const ref = `${connect.vault}/${'a'.repeat(26)}`
  connect.items.set('a'.repeat(26), {
    version: 1,
    fields: [{ id: 'one', label: 'client_secret', type: 'CONCEALED', value: 'secret' }],
  })
  const store = (url: string, token: string) =>
    here.ask('update', 'broker/store/shared', { type: 'onepassword_connect', settings: { url }, secrets: { token } })
  await store(connect.url, CANARY)
  const { settings } = record(world.provider.url, '')
  await here.ask('update', 'broker/integration/ci', { type: 'oauth2', settings, store: 'shared', ref })
  expect(await creds(there, worker)).toBe('done')
  here.world.pass(4_000)
  await creds(there, worker)
  here.world.pass(2_000)
  await store(evil.url, 'guessed')
  expect(await creds(there, worker)).toMatch(/^the root credential of the integration ci cannot be had/)
  expect(evil.arrived.map(({ headers }) => headers.authorization)).toEqual(['Bearer guessed'])
})
