import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { NO_CONTEXT } from '../../engine/tasks/bindings.ts'
import { openWork, type Work, type WorkRules } from '../../engine/tasks/work.ts'
import { configure, dataOf, enrol, logIn, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { startJsonServer } from '../fakes/json_server.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { fakeOrchestrator, type Orchestrator, TASK } from '../fakes/orchestrator.ts'
import { agreeing, testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'

const machine = fakeMachine({ label: 'worker' })
let broker: TestBroker
let orchestrator: Orchestrator
let token: string
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  token = await logIn(broker, machine)
  orchestrator = await fakeOrchestrator({ now: broker.world.now })
  await broker.ask('update', 'broker/orchestrator/planner', orchestrator.record)
})
afterEach(() => broker[Symbol.asyncDispose]())

const role = (more: object) => broker.ask('update', 'broker/role/deploy', more)
const ask = async (session: string, as = token) => {
  const task_token =
    session === '' ? undefined : await orchestrator.sign(machine.tpmId, { tctx: { org: TASK.org, task: TASK.task, session } })
  return broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read', task_token }, { token: as })
}
const beat = async (session = 'one') => {
  const task_token = await orchestrator.sign(machine.tpmId, { tctx: { org: TASK.org, task: TASK.task, session } })
  return dataOf(await broker.ask('update', 'broker/creds/deploy/heartbeat', { task_token }, { token }))
}
const outcome = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message.replace(/:.*/, '') : ''),
  )
const warningsOf = (answer: Awaited<ReturnType<typeof ask>>) =>
  'reply' in answer && answer.reply && 'warnings' in answer.reply ? (answer.reply.warnings ?? []) : []
const heartbeatOf = async () => 120
type Kept = Map<string, { value: unknown; version: number }>
const memoryState = (kept: Kept): Parameters<typeof openWork>[0]['state'] => ({
  get: async path => kept.get(path) as never,
  fresh: async path => kept.get(path) as never,
  put: async (path, value) => void kept.set(path, { value, version: (kept.get(path)?.version ?? 0) + 1 }),
  list: async folder => [...kept.keys()].filter(path => path.startsWith(folder)).map(path => path.slice(folder.length)),
  delete: async path => void kept.delete(path),
  deleteAll: async () => undefined,
})
const fromNow = (ms: number) => new Date(broker.world.now() + ms).toISOString()

test('work that may take two months is not begun anew after one', async () => {
  await role({ max_work: '60d' })
  await ask('one')
  const day = 86_400_000
  for (const days of [31, 28]) {
    broker.world.pass(days * day)
    await broker.broker.integrations.upkeep.round()
    token = await logIn(broker, machine)
    await ask('one')
  }
  broker.world.pass(1.5 * day)
  token = await logIn(broker, machine)
  expect(await outcome(ask('one'))).toBe('WORK_ENDED')
  // what was forgotten begins
  broker.world.pass(31 * day)
  await broker.broker.integrations.upkeep.round()
  token = await logIn(broker, machine)
  expect(await outcome(ask('one'))).toBe('done')
})

describe('work that may take an hour', () => {
  beforeEach(() => role({ max_work: '1h', ttl: '15m' }))

  test('gets credentials until then, none of them for longer, and is told before', async () => {
    await ask('one')
    broker.world.pass(50 * 60_000)
    const last = await ask('one')
    expect(dataOf(last)).toMatchObject({
      expires_in: 600,
      expires_at: fromNow(600_000),
      renew_at: fromNow(400_000),
      renewable_until: fromNow(600_000),
    })
    expect(warningsOf(last)[0]).toMatch(
      /^nothing follows this credential after .+: attest the machine anew or begin a new session/,
    )
    broker.world.pass(10 * 60_000)
    expect(await outcome(ask('one'))).toBe('WORK_ENDED')
    expect(await outcome(ask('two'))).toBe('done')
  })

  test('is told nothing while there is time', async () => {
    expect(warningsOf(await ask('one'))).toEqual([])
  })

  test('is one session, whatever token it is done with', async () => {
    await ask('one')
    broker.world.pass(3_600_000)
    expect(await outcome(ask('one', await logIn(broker, machine)))).toBe('WORK_ENDED')
  })

  test('is one login where no session is named', async () => {
    await ask('')
    broker.world.pass(3_600_000)
    expect(await outcome(ask(''))).toBe('WORK_ENDED')
    expect(await outcome(ask('', await logIn(broker, machine)))).toBe('done')
  })
})

describe('an agent that has to show that it lives', () => {
  beforeEach(() => role({ heartbeat: '2m' }))

  test('may ask, or beat', async () => {
    await ask('one')
    for (let minutes = 0; minutes < 10; minutes += 1.5) {
      broker.world.pass(90_000)
      expect(await beat()).toEqual({ left: null, beat_within: 120 })
    }
    expect(await outcome(ask('one'))).toBe('done')
  })

  test('and was silent gets nothing more, and no beat helps', async () => {
    await ask('one')
    broker.world.pass(121_000)
    expect(await outcome(ask('one'))).toBe('WORK_ENDED')
    expect(await outcome(beat())).toBe('WORK_ENDED')
    expect(await outcome(ask('two'))).toBe('done')
  })

  test('loses its leases when it is silent by what its role wants now, once, and what is not silent keeps its own', async () => {
    const ended: string[] = []
    let wanted: number | undefined = 120
    const mount = broker.broker.mounts.find('broker/x')
    if (!mount) throw new Error('there is no mount')
    const kept = new Map<string, { value: unknown; version: number }>()
    const work = openWork({
      time: agreeing(broker.world),
      end: async accessor => void ended.push(accessor),
      heartbeatOf: async () => wanted,
      state: memoryState(kept),
    })
    const rules: WorkRules = { maxSeconds: 0, heartbeatSeconds: 120 }
    const worker = (accessor: string, session: string) => ({
      tpmId: machine.tpmId,
      accessor,
      role: 'deploy',
      task: { ...NO_CONTEXT, org: 'acme', session },
    })
    await work.beat(mount, worker('a', 'silent'), rules)
    await work.beat(mount, worker('b', 'silent'), rules)
    broker.world.pass(100_000)
    await work.beat(mount, worker('c', 'busy'), rules)
    broker.world.pass(21_000)
    // its role wants no signs of life any more, or less often, which the agent may have heard of
    for (wanted of [0, 600]) await work.sweep(mount)
    expect(ended).toEqual([])
    wanted = 120
    await work.sweep(mount)
    await work.sweep(mount)
    expect(ended).toEqual(['a', 'b'])
    wanted = undefined
    broker.world.pass(121_000)
    await work.sweep(mount)
    expect(ended).toEqual(['a', 'b', 'c'])
    broker.world.pass(31 * 86_400_000)
    await work.sweep(mount)
    expect([...kept.keys()]).toEqual([])
  })

  test('is not taken for silent by a front door whose clock is an hour ahead', async () => {
    await ask('one')
    const world = testWorld({ start: broker.world.now() + 3_600_000 })
    await using ahead = await openTestBroker({ beside: { vault: broker.vault, world } })
    await ahead.broker.integrations.upkeep.round()
    expect(await outcome(ask('one'))).toBe('done')
  })
})

test('work that is done with several tokens at once, at several replicas, ends with the leases of all of them', async () => {
  const mount = broker.broker.mounts.find('broker/x')
  if (!mount) throw new Error('there is no mount')
  const ended: string[] = []
  const kept = new Map<string, { value: unknown; version: number }>()
  const replica = () => {
    const remembered = new Map<string, unknown>()
    const state = {
      // as old as it may be
      get: async (path: string) => {
        if (!remembered.get(path)) remembered.set(path, kept.get(path))
        return remembered.get(path) as never
      },
      fresh: async (path: string) => kept.get(path) as never,
      put: async (path: string, value: object, cas?: number) => {
        const version = kept.get(path)?.version ?? 0
        if (cas !== undefined && cas !== version) throw new BrokerError('conflict', 'somebody else was faster')
        kept.set(path, { value, version: version + 1 })
      },
      list: async (folder: string) => [...kept.keys()].map(path => path.slice(folder.length)),
      delete: async () => undefined,
      deleteAll: async () => undefined,
    }
    return openWork({ state, time: agreeing(broker.world), end: async accessor => void ended.push(accessor), heartbeatOf })
  }
  const [one, other] = [replica(), replica()]
  const rules: WorkRules = { maxSeconds: 0, heartbeatSeconds: 120 }
  const beat = (work: Work, accessor: string) =>
    work.beat(mount, { tpmId: 'tpm', accessor, role: 'deploy', task: { ...NO_CONTEXT, org: 'acme', session: 's' } }, rules)
  await beat(one, 'a')
  await beat(other, 'a')
  await Promise.all([beat(one, 'b'), beat(one, 'c'), beat(other, 'd')])
  await beat(other, 'e')
  broker.world.pass(121_000)
  await one.sweep(mount)
  expect(ended.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e'])
})

test('work that is done with more tokens than are remembered ends what the first of them got: its silence would not', async () => {
  const mount = broker.broker.mounts.find('broker/x')
  if (!mount) throw new Error('there is no mount')
  const ended: string[] = []
  const end = async (accessor: string) => void ended.push(accessor)
  const work = openWork({ state: memoryState(new Map()), time: agreeing(broker.world), end, heartbeatOf })
  const task = { ...NO_CONTEXT, org: 'acme', session: 's' }
  const rules: WorkRules = { maxSeconds: 0, heartbeatSeconds: 120 }
  const tokens = Array.from({ length: 130 }, (_, index) => `token-${index}`)
  for (const accessor of tokens) await work.beat(mount, { tpmId: 'tpm', accessor, role: 'deploy', task }, rules)
  expect(ended).toEqual(['token-0', 'token-1'])
  broker.world.pass(121_000)
  await work.sweep(mount)
  expect(ended).toEqual(tokens)
})

test('what an engine of Vault gave an agent that is silent is ended, too', async () => {
  await role({ heartbeat: '2m', issuer: 'vault', vault_path: 'database/creds/app' })
  broker.vault.fault = ({ path }) => {
    if (path === 'auth/token/create') return { status: 200, body: { auth: { client_token: 'hvs.child', accessor: 'of-child' } } }
    const lease = { lease_id: `${path}/abc`, lease_duration: 3600, data: { username: 'u', password: 'p' } }
    return path === 'database/creds/app' ? { status: 200, body: lease } : undefined
  }
  await ask('one')
  const ended = () =>
    broker.vault.asked.filter(({ path }) => path === 'auth/token/revoke-accessor').map(({ body }) => body['accessor'])
  broker.world.pass(119_000)
  await broker.broker.integrations.upkeep.round()
  expect(ended()).toEqual([])
  broker.world.pass(2_000)
  await broker.broker.integrations.upkeep.round()
  await until('the child token to be revoked', async () => ended().length > 0)
  expect(ended()).toEqual(['of-child'])
})

test('the leases of an agent that is silent are ended at their provider', async () => {
  const revoked: string[] = []
  await using provider = await startJsonServer(({ path, body }) => {
    if (path === '/revoke') revoked.push(String(new URLSearchParams(body).get('token')))
    return { status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, scope: 'apps:read' } }
  })
  await broker.ask('update', 'broker/integration/ci', {
    type: 'oauth2',
    settings: {
      token_url: `${provider.url}/token`,
      revocation_url: `${provider.url}/revoke`,
      grant: 'client_credentials',
      client_id: 'broker',
    },
    secrets: { client_secret: 'canary' },
  })
  await role({ heartbeat: '2m', issuer: 'oauth2', integration: 'ci' })
  await ask('one')
  await broker.broker.integrations.upkeep.round()
  expect(revoked).toEqual([])
  broker.world.pass(121_000)
  await broker.broker.integrations.upkeep.round()
  await broker.broker.leases.sweep()
  await until('the token to be revoked', async () => revoked.length > 0)
  expect(revoked).toEqual(['upstream'])
})

test('no credential outlives the attestation that it stands on', async () => {
  await broker.ask('update', 'auth/tpm-quote/role/builder', { max_attestation_age: '20m' })
  broker.world.pass(10 * 60_000)
  expect(dataOf(await ask('one'))).toMatchObject({ expires_in: 600, renewable_until: fromNow(600_000) })
  await role({ max_attestation_age: '12m' })
  expect(dataOf(await ask('one'))).toMatchObject({ expires_in: 120, renewable_until: fromNow(120_000) })
  broker.world.pass(121_000)
  expect(await outcome(ask('one'))).toBe('ATTESTATION_STALE')
})

test('who may not ask for a credential may not beat either', async () => {
  const stranger = broker.vault.token({ allow: () => ['deny'] })
  expect(await outcome(broker.ask('update', 'broker/creds/deploy/heartbeat', {}, { token: stranger }))).toBe('permission denied')
  expect(await outcome(broker.ask('update', 'broker/creds/deploy/heartbeat', {}))).toBe('NOT_ATTESTED')
})

test('whatever the order of asking and waiting, nothing is given after the end', async () => {
  const mount = broker.broker.mounts.find('broker/x')
  if (!mount) throw new Error('there is no mount')
  const { world } = broker
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat({ max: 200 }), { maxLength: 20 }), fc.nat({ max: 1000 }), async (pauses, seed) => {
      const store = new Map<string, { value: unknown; version: number }>()
      const state = {
        get: async (path: string) => store.get(path) as never,
        fresh: async (path: string) => store.get(path) as never,
        put: async (path: string, value: object) => void store.set(path, { value, version: 1 }),
        list: async () => [],
        delete: async () => undefined,
        deleteAll: async () => undefined,
      }
      const work = openWork({ state, time: agreeing(world), end: async () => undefined, heartbeatOf })
      const worker = { tpmId: String(seed), accessor: 'a', role: 'deploy', task: NO_CONTEXT }
      let [since, last, dead] = [world.now(), world.now(), false]
      for (const pause of pauses) {
        const { ok } = await work.beat(mount, worker, { maxSeconds: 600, heartbeatSeconds: 120 })
        dead ||= world.now() - last > 120_000 || world.now() - since >= 600_000
        expect(ok && dead).toBe(false)
        // what is written a quarter of the time late may end a little early, never late
        if (ok) last = world.now()
        world.pass(pause * 1000)
      }
    }),
    { numRuns: 50 },
  )
})
