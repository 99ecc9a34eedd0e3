import fc from 'fast-check'
import * as jose from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { readClaims } from '../../engine/tasks/claims.ts'
import { configure, dataOf, enrol, logIn, openTestBroker, POLICY, type TestBroker, THUMBPRINT } from '../fakes/broker.ts'
import { type JsonServer, startJsonServer } from '../fakes/json_server.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { fakeOrchestrator, type Orchestrator, TASK } from '../fakes/orchestrator.ts'
import { testWorld } from '../fakes/world.ts'

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
  await trust()
})
afterEach(() => broker[Symbol.asyncDispose]())

const trust = (more: object = {}) => broker.ask('update', 'broker/orchestrator/planner', { ...orchestrator.record, ...more })
const creds = (data: object = {}) =>
  broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read', ...data }, { token })
const withTask = async (claims: Readonly<Record<string, unknown>> = {}, header: object = {}) =>
  creds({ task_token: await orchestrator.sign(machine.tpmId, claims, header) })
const claimsOf = async (asked: Promise<unknown>) => jose.decodeJwt(String(dataOf((await asked) as never)['token']))
const refused = async (asked: Promise<unknown>) =>
  asked.then(
    () => 'it was issued',
    (error: unknown) => (error instanceof Error ? error.message : ''),
  )

describe('a task token of a trusted orchestrator', () => {
  test('is in what is issued, and in the audit log', async () => {
    const claims = await claimsOf(withTask())
    const { org, task, session, user } = TASK
    expect(claims).toMatchObject({
      sub: 'kubernetes',
      act: { sub: machine.tpmId, act: { sub: 'planner' } },
      tctx: { org, task, session, user, txn: 'txn-of-the-orchestrator' },
    })
    const intent = (await broker.records()).find(one => one['type'] === 'intent' && one['plugin'])
    expect(intent).toMatchObject({ txn: claims['txn'], org, task, session, user, task_txn: 'txn-of-the-orchestrator' })
  })

  test('is what policies see', async () => {
    const policy = `${POLICY} forbid (principal, action, resource) unless { context.org == "acme" && context.task like "release-*" && context.user != "" };`
    await broker.ask('update', 'broker/policy/base', { policy })
    expect(await refused(creds())).toMatch('POLICY_FORBIDDEN')
    await expect(withTask()).resolves.toBeDefined()
    expect(await refused(withTask({ tctx: { org: TASK.org, task: 'payroll' } }))).toMatch('POLICY_FORBIDDEN')
  })

  test('serves its agent again until it ends, and not after', async () => {
    const task_token = await orchestrator.sign(machine.tpmId)
    await creds({ task_token })
    broker.world.pass(300_000)
    await creds({ task_token })
    broker.world.pass(6_000)
    expect(await refused(creds({ task_token }))).toMatch(/^TASK_TOKEN: .*it has expired/)
  })

  test('may name the agent by the entity of its token, or by its key alone', async () => {
    await expect(withTask({ act: { sub: 'entity' } })).resolves.toBeDefined()
    await expect(withTask({ act: undefined, cnf: { jkt: THUMBPRINT } })).resolves.toBeDefined()
  })

  test.each(['PS256', 'EdDSA'])('may be signed with %s where that is configured', async algorithm => {
    orchestrator = await fakeOrchestrator({ now: broker.world.now, algorithm })
    await trust({ algorithms: algorithm })
    await expect(withTask()).resolves.toBeDefined()
  })
})

describe('what is no such token', () => {
  const start = () => Math.floor(broker.world.now() / 1000)
  const cases: Readonly<Record<string, () => Promise<unknown>>> = {
    'of another issuer': () => withTask({ iss: 'https://evil.example' }),
    'for another audience': () => withTask({ aud: 'https://other.example' }),
    'of another type': () => withTask({}, { typ: 'at+jwt' }),
    'of no type': () => withTask({}, { typ: undefined }),
    'without end': () => withTask({ exp: undefined }),
    'without beginning': () => withTask({ iat: undefined }),
    'without id': () => withTask({ jti: undefined }),
    'from the future': () => withTask({ iat: start() + 60, exp: start() + 120 }),
    'not valid yet': () => withTask({ nbf: start() + 60 }),
    'too old': () => withTask({ iat: start() - 1000, exp: start() + 100 }),
    'that lives too long': () => withTask({ exp: start() + 901 }),
    'of an organisation that is not its to speak for': () => withTask({ tctx: { org: 'umbrella' } }),
    'of no organisation': () => withTask({ tctx: { task: 'x' } }),
    'for nobody': () => withTask({ act: undefined }),
    'for a list of integrations that is none': () => withTask({ tctx: { org: TASK.org, integrations: 'all' } }),
    'with a user that is no text': () => withTask({ sub: ['ada'] }),
    'for a machine and a key that is empty': () => withTask({ cnf: { jkt: '' } }),
    'for a machine and a key that is no text': () => withTask({ cnf: { jkt: [THUMBPRINT] } }),
    'of an unknown key': () => withTask({}, { kid: 'key-2' }),
    'that is no JWT': () => creds({ task_token: 'a.b.c' }),
    'that is empty': () => creds({ task_token: '' }),
    'that nobody signed': async () => {
      const [, claims] = (await orchestrator.sign(machine.tpmId)).split('.')
      return creds({ task_token: `${jose.base64url.encode('{"alg":"none","typ":"txntoken+jwt"}')}.${claims}.` })
    },
    'that was altered': async () => {
      const [head, , signature] = (await orchestrator.sign(machine.tpmId)).split('.')
      const [, claims] = (await orchestrator.sign(machine.tpmId, { sub: 'mallory' })).split('.')
      return creds({ task_token: `${head}.${claims}.${signature}` })
    },
    'that somebody signed with the public key as a secret': async () => {
      const key = new TextEncoder().encode(JSON.stringify(orchestrator.jwks.keys[0]))
      const claims = jose.decodeJwt(await orchestrator.sign(machine.tpmId))
      const task_token = await new jose.SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', typ: 'txntoken+jwt', kid: 'key-1' })
        .sign(key)
      return creds({ task_token })
    },
    'that brings its own key': async () => {
      const other = await fakeOrchestrator({ now: broker.world.now, kid: 'own' })
      return creds({ task_token: await other.sign(machine.tpmId, {}, { jwk: other.jwks.keys[0] }) })
    },
    'that somebody else signed in its name': async () => {
      const other = await fakeOrchestrator({ now: broker.world.now })
      return creds({ task_token: await other.sign(machine.tpmId) })
    },
  }
  test.each(Object.entries(cases))('one %s', async (_, ask) => {
    const message = await refused(ask())
    expect(message).toMatch(/^TASK_TOKEN: the task token is not accepted \(.+\): have the orchestrator sign a new one/)
    expect(message).not.toMatch(/mallory|umbrella|eyJ/)
  })

  test.each([
    ['another machine', { act: { sub: `sha256-${'00'.repeat(32)}` } }],
    ['another key', { cnf: { jkt: 'x'.repeat(43) } }],
  ])('one for %s', async (_, claims) => expect(await refused(withTask(claims))).toMatch(/^TASK_TOKEN_AGENT/))

  test('one whose algorithm is not among the configured ones', async () => {
    orchestrator = await fakeOrchestrator({ now: broker.world.now, algorithm: 'PS256' })
    await trust()
    expect(await refused(withTask())).toMatch(/^TASK_TOKEN:/)
  })
})

test('a token that is good for one credential is so beside a replica whose clock is ahead', async () => {
  await trust({ single_use: true })
  const task_token = await orchestrator.sign(machine.tpmId)
  await creds({ task_token })
  broker.world.pass(299_000)
  const world = testWorld({ start: broker.world.now() + 7_200_000 })
  await using ahead = await openTestBroker({ beside: { vault: broker.vault, world } })
  await ahead.broker.integrations.upkeep.round()
  expect(await refused(creds({ task_token }))).toMatch(/^TASK_TOKEN_USED/)
})

test('a token whose orchestrator is not trusted any more, since a moment ago, is used for nothing', async () => {
  const { tasks } = broker.broker
  const mount = broker.broker.mounts.find('broker/x')
  if (!mount) throw new Error('the mount is there')
  const task_token = new Secret(await orchestrator.sign(machine.tpmId))
  expect(await tasks.spend(mount, task_token)).toMatchObject({ ok: true })
  await broker.ask('delete', 'broker/orchestrator/planner')
  expect(await tasks.spend(mount, task_token)).toMatchObject({ ok: false, code: 'TASK_TOKEN' })
})

test('a token for one credential gives one, however many ask at once', async () => {
  await trust({ single_use: true })
  const task_token = await orchestrator.sign(machine.tpmId)
  const answers = await Promise.all(Array.from({ length: 8 }, () => refused(creds({ task_token }))))
  expect(answers.filter(one => one === 'it was issued')).toHaveLength(1)
  expect(answers.filter(one => one.startsWith('TASK_TOKEN_USED'))).toHaveLength(7)
})

describe('what an operator bound the entity of the agent to', () => {
  const bind = (more: object) => broker.ask('update', 'broker/binding/entity', { org: TASK.org, ...more })

  test('is its context when nobody signed one', async () => {
    await broker.ask('update', 'broker/role/deploy', { task: 'required' })
    expect(await refused(creds())).toMatch(/^TASK_REQUIRED/)
    await bind({ task: 'nightly' })
    expect(await claimsOf(creds())).toMatchObject({ tctx: { org: TASK.org, task: 'nightly' }, act: { sub: machine.tpmId } })
  })

  test('is what is simulated for it', async () => {
    await broker.ask('update', 'broker/role/deploy', { task: 'required' })
    await bind({ task: 'nightly' })
    const asked = { role: 'deploy', plugin: 'kubernetes', scope: 'apps:read', tpm_id: machine.tpmId, login_role: 'builder' }
    const simulated = async (more: object) => dataOf(await broker.ask('update', 'broker/simulate', { ...asked, ...more }))
    expect(await simulated({})).toMatchObject({ allowed: false, code: 'TASK_REQUIRED' })
    expect(await simulated({ entity_id: 'entity' })).toMatchObject({ allowed: true })
    expect(await simulated({ entity_id: 'entity', org: TASK.org, task: 'nightly' })).toMatchObject({ allowed: true })
    for (const task of [
      { org: TASK.org, task: 'another' },
      { org: 'umbrella', task: 'nightly' },
    ])
      expect(await simulated({ entity_id: 'entity', ...task })).toMatchObject({ allowed: false, code: 'TASK_TOKEN' })
  })

  test.each([
    ['organisation', { org: 'umbrella' }],
    ['task', { task: 'another' }],
  ])('no orchestrator signs another %s for it', async (_, more) => {
    await bind(more)
    expect(await refused(withTask())).toMatch(/^TASK_TOKEN: .*bound to another/)
  })
})

describe('keys from a URL', () => {
  let server: JsonServer
  beforeEach(async () => {
    server = await startJsonServer(() => ({ status: 200, body: orchestrator.jwks }))
    await broker.ask('update', 'broker/orchestrator/planner', {
      ...orchestrator.record,
      jwks: {},
      jwks_url: `${server.url}/jwks`,
    })
  })
  afterEach(() => server[Symbol.asyncDispose]())

  test('are fetched once for many tokens', async () => {
    await Promise.all(Array.from({ length: 8 }, () => withTask()))
    expect(server.arrived).toHaveLength(1)
  })

  test.each([
    ['fails', { status: 500 }],
    ['leads elsewhere', { status: 302, headers: { Location: 'http://127.0.0.1:1/' } }],
    ['says no key set', { status: 200, body: { keys: 'none' } }],
    ['says no JSON', { status: 200, text: '<html>' }],
    ['closes the connection', 'reset'],
  ] as const)('are not had from a server that %s, and that is no fault of the token', async (_, trouble) => {
    server.trouble = () => trouble
    expect(await refused(withTask())).toBe('the keys of the orchestrator cannot be had')
  })

  test('nobody who is not trusted makes the broker fetch anything', async () => {
    await refused(withTask({ iss: 'https://evil.example' }))
    expect(server.arrived).toEqual([])
  })
})

describe('an orchestrator is written with', () => {
  const write = (more: object) => refused(broker.ask('update', 'broker/orchestrator/other', { ...orchestrator.record, ...more }))
  const bad: readonly (readonly [string, object, RegExp])[] = [
    ['keys or their URL', { jwks: {} }, /jwks_url or jwks/],
    ['not both', { jwks_url: 'https://keys.example' }, /jwks_url or jwks/],
    ['a key set', { jwks: { keys: [] } }, /1 to 32 keys/],
    ['public keys', { jwks: { keys: [{ kty: 'EC', d: 'x' }] } }, /no private one/],
    ['no shared secret', { jwks: { keys: [{ kty: 'oct', k: 'x' }] } }, /EC, OKP or RSA/],
    ['an algorithm that is safe', { algorithms: 'HS256' }, /algorithms: wanted one of/],
    ['a life of at most an hour', { max_life: '61m' }, /max_life/],
    ['an organisation', { orgs: '' }, /orgs/],
  ]
  test.each(bad)('%s', async (_, more, wanted) => expect(await write(more)).toMatch(wanted))
})

test('claims are read or refused, whatever they are', () => {
  const good = { iat: 1, exp: 2, jti: 'j', sub: 'ada', txn: 't', act: { sub: 'a' }, tctx: { org: 'acme' } }
  const names = fc.constantFrom('iat', 'exp', 'jti', 'sub', 'txn', 'act', 'cnf', 'tctx')
  const text = fc.constantFrom('', 'x')
  const inner = fc.record({ sub: text, jkt: text, org: text, act: fc.record({ sub: text }) }, { requiredKeys: [] })
  const outcomes = new Set<boolean>()
  fc.assert(
    fc.property(fc.dictionary(names, fc.oneof(fc.jsonValue(), inner), { maxKeys: 3 }), changed => {
      const read = readClaims({ ...good, ...changed })
      outcomes.add(read.ok)
      if (read.ok) expect(read.value.context.org && read.value.agent + read.value.keyThumbprint).not.toBe('')
      else expect(read.code).toBe('TASK_TOKEN')
    }),
  )
  expect(outcomes.size).toBe(2)
})

test('an orchestrator that is trusted no longer is not, at once', async () => {
  await expect(withTask()).resolves.toBeDefined()
  await broker.ask('delete', 'broker/orchestrator/planner')
  expect(await refused(withTask())).toMatch(/^TASK_TOKEN: .*no trusted orchestrator/)
})

test('many tokens cost one look at who is trusted', async () => {
  await withTask()
  const looks = () => broker.vault.asked.filter(({ method, path }) => method === 'LIST' && path.endsWith('/orchestrator/')).length
  const before = looks()
  await withTask()
  await withTask()
  expect(looks()).toBe(before)
})

test('a chain of actors has an end', () => {
  const deep = (depth: number): object => (depth === 0 ? { sub: 'first' } : { sub: 'next', act: deep(depth - 1) })
  const claims = { iat: 1, exp: 2, jti: 'x', tctx: { org: 'acme' } }
  expect(readClaims({ ...claims, act: deep(7) })).toMatchObject({ ok: true })
  expect(readClaims({ ...claims, act: deep(8) })).toMatchObject({ ok: false, code: 'TASK_TOKEN' })
})
