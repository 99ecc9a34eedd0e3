import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { tpmQuote } from '../../mounts/auth/tables.ts'
import { brokerPaths } from '../../mounts/secrets/tables.ts'
import type { Operation } from '../../mounts/table.ts'
import { configure, dataOf, enrol, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const OPERATIONS: readonly Operation[] = ['read', 'update', 'delete', 'list']

/** Every path of both tables that asks for a token, with every operation, its own or not; and paths that are in no table. */
function everything(): readonly (readonly [Operation, string])[] {
  const rows = [
    ...tpmQuote(broker.broker).map(row => [row, `auth/tpm-quote/${row.pattern}`] as const),
    ...brokerPaths(broker.broker).map(row => [row, `broker/${row.pattern}`] as const),
  ]
  const paths = rows.filter(([row]) => !row.unauthenticated).map(([, path]) => path.replace(/:[a-z_]+/, 'deploy'))
  const none = ['broker/nothing', 'broker/role/deploy/more', 'broker/creds', 'auth/tpm-quote/nothing', 'broker']
  return [...paths, ...none].flatMap(path => OPERATIONS.map(operation => [operation, path] as const))
}

/** What a request could change. */
const state = () =>
  JSON.stringify([[...broker.vault.state.kv], [...broker.vault.state.transit].map(([name, key]) => [name, key.versions.length])])
const refusals = async () => (await broker.records()).filter(one => one['type'] === 'refusal')

/** A broker that asks Vault nothing of itself: what it looks at every few seconds would be among what a request asks on a machine that is slow. */
async function quiet(): Promise<TestBroker> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval'] })
  const opened = await openTestBroker()
  onTestFinished(async () => {
    await opened[Symbol.asyncDispose]()
    vi.useRealTimers()
  })
  await configure(opened)
  return opened
}

describe('who may not ask', () => {
  const junk = { name: 7, plugins: { a: 1 }, challenge: 'AAAA', ttl: 'soon', role: ['x'], nothing: 'x' }
  const denied = { name: 'BrokerError', code: 'permission_denied', message: 'permission denied' }

  test('is told the same, whatever is asked, there or not, well-formed or not', async () => {
    const token = broker.vault.token({ allow: () => ['deny'] })
    const before = state()
    for (const [operation, path] of everything()) {
      for (const data of [{}, junk])
        await expect(broker.ask(operation, path, data, { token }), `${operation} ${path}`).rejects.toMatchObject(denied)
    }
    expect(state()).toBe(before)
  })

  test('makes us look at nothing but who asks and what is allowed', async () => {
    const { vault, world, ask } = await quiet()
    const token = vault.token({ allow: () => ['deny'] })
    const from = vault.asked.length
    // a policy or role that was read lately is no question to Vault: let all of that be forgotten
    world.pass(60_000)
    for (const [operation, path] of everything()) {
      if (!path.startsWith('broker/creds/')) await outcomeOf(ask(operation, path, {}, { token }))
    }
    const asked = new Set(vault.asked.slice(from).map(one => one.path))
    expect([...asked].toSorted()).toEqual(['auth/token/lookup', 'sys/capabilities-self'])
  })

  test('without a token: Vault is not even asked', async () => {
    const { vault, ask } = await quiet()
    const from = vault.asked.length
    for (const [operation, path] of everything())
      await expect(ask(operation, path, {}, { token: '' })).rejects.toMatchObject(denied)
    expect(vault.asked).toHaveLength(from)
  })

  test('is on record, once for each request, without a word that they chose', async () => {
    const token = broker.vault.token({ allow: () => ['deny'] })
    const paths = [
      'broker/creds/hvs.CANARY',
      'broker/role/hvs.CANARY',
      'broker/hvs.CANARY/x',
      'auth/tpm-quote/tpm/hvs.CANARY',
      'broker/config',
    ]
    for (const [index, path] of paths.entries()) await outcomeOf(broker.ask('update', path, {}, { token, txn: `txn-${index}` }))
    await outcomeOf(broker.ask('unsupported', 'broker/role/hvs.CANARY', {}, { token, txn: 'txn-5' }))
    const records = await refusals()
    expect(records.map(one => [one['txn'], one['code'], one['pattern'] ?? one['path']])).toEqual([
      ['txn-0', 'permission_denied', 'creds/:role'],
      ['txn-1', 'permission_denied', 'role/:name'],
      ['txn-2', 'permission_denied', ''],
      ['txn-3', 'permission_denied', 'tpm/:name'],
      ['txn-4', 'permission_denied', 'config'],
      ['txn-5', 'permission_denied', ''],
    ])
    expect(readFileSync(broker.auditFile, 'utf8')).not.toContain('CANARY')
    expect(records[0]?.['path']).toBe(broker.broker.audit.hash('creds/hvs.CANARY'))
    expect(records[4]).toMatchObject({ mount: 'broker/', path: 'config' })
  })

  test('is refused when Vault cannot say so, and nothing is changed', async () => {
    const before = state()
    broker.vault.fault = ({ path }) => (path === 'sys/capabilities-self' ? { status: 503 } : undefined)
    for (const [operation, path] of everything().filter(([operation]) => operation !== 'read'))
      expect(await outcomeOf(broker.ask(operation, path, {})), `${operation} ${path}`).toBe('unavailable')
    broker.vault.fault = () => undefined
    expect(state()).toBe(before)
  })
})

describe('who may', () => {
  test.each([
    ['read', 'broker/nothing', 'unsupported_path'],
    ['update', 'broker/role/deploy/more', 'unsupported_path'],
    ['read', 'broker', 'unsupported_path'],
    ['delete', 'broker/config', 'unsupported_operation'],
    ['list', 'broker/config', 'unsupported_operation'],
    ['delete', 'broker/creds/deploy', 'unsupported_operation'],
    ['read', 'broker/role', 'unsupported_operation'],
    ['unsupported', 'broker/role/deploy', 'unsupported_operation'],
    ['unsupported', 'broker/nothing', 'unsupported_operation'],
    ['read', 'broker/role/none', 'not_found'],
    ['update', 'broker/simulate', 'bad_request'],
  ] as const)('%s %s: %s', async (operation, path, code) => expect(await outcomeOf(broker.ask(operation, path))).toBe(code))

  test.each([
    [['create'], 'new', 'OK'],
    [['create'], 'deploy', 'permission_denied'],
    [['update'], 'new', 'permission_denied'],
    [['update'], 'deploy', 'OK'],
    [['create', 'update'], 'deploy', 'OK'],
    [['read', 'list', 'delete'], 'new', 'permission_denied'],
  ])('with %j: writing the role %s: %s', async (allow, name, outcome) => {
    const token = broker.vault.token({ allow: () => allow })
    const role = { plugins: 'a', actions: 'deploy', audiences: 'b' }
    expect(await outcomeOf(broker.ask('update', `broker/role/${name}`, role, { token }))).toBe(outcome)
  })

  test.each<readonly [Parameters<TestBroker['ask']>[0], string, readonly string[], string]>([
    ['read', 'nothing', ['read'], 'unsupported_path'],
    ['read', 'nothing', ['create', 'update'], 'permission_denied'],
    ['unsupported', 'role/deploy', ['create'], 'unsupported_operation'],
    ['unsupported', 'role/deploy', ['update'], 'unsupported_operation'],
    ['unsupported', 'role/deploy', ['read', 'list', 'delete'], 'permission_denied'],
  ])('%s %s is told not to be there with %j: %s', async (operation, path, allow, code) => {
    const token = broker.vault.token({ allow: () => allow })
    expect(await outcomeOf(broker.ask(operation, `broker/${path}`, {}, { token }))).toBe(code)
  })

  test('with one use left, writes with it', async () => {
    const token = broker.vault.token({ uses: 1 })
    await broker.ask('update', 'broker/role/deploy', { ttl: 60 }, { token })
    expect(await outcomeOf(broker.ask('update', 'broker/role/deploy', { ttl: 60 }, { token }))).toBe('permission_denied')
  })

  test('on this very path', async () => {
    const token = broker.vault.token({ allow: path => (path === 'broker/role/deploy' ? ['read'] : ['deny']) })
    await broker.ask('read', 'broker/role/deploy', {}, { token })
    for (const path of ['broker/role/deploy2', 'broker/config', 'broker/role'])
      expect(await outcomeOf(broker.ask('read', path, {}, { token }))).toBe('permission_denied')
    const lists = broker.vault.token({ allow: path => (path === 'broker/role/' ? ['list'] : ['deny']) })
    expect(dataOf(await broker.ask('list', 'broker/role', {}, { token: lists }))).toEqual({ keys: ['deploy'] })
  })

  test('is on record, though nothing is changed', async () => {
    await broker.ask('read', 'broker/role/deploy', {}, { txn: 'looked' })
    const mine = (await broker.records()).filter(one => one['txn'] === 'looked')
    expect(mine).toMatchObject([{ type: 'request', operation: 'read', mount: 'broker/', path: 'role/deploy' }])
  })

  test('is told of parameters that are not known here, shortened', async () => {
    const data = { ttl: 60, colour: 'hvs.CANARY', ['x'.repeat(100)]: 1, 'a"b\n': 1 }
    const outcome = await broker.ask('update', 'broker/role/deploy', data)
    expect('warnings' in outcome && outcome.warnings).toEqual([
      `Endpoint ignored these unrecognized parameters: [a"b\n colour ${'x'.repeat(64)}]`,
    ])
  })

  test('is told of them when what is wanted is missing: it may be there under another name', async () => {
    const role = { plugins: 'a', action: 'deploy', audiences: 'b', ['x'.repeat(100)]: 1 }
    await expect(broker.ask('update', 'broker/role/new', role)).rejects.toMatchObject({
      code: 'bad_request',
      message: `actions: wanted at least one; unrecognized parameters: [action ${'x'.repeat(64)}]`,
    })
    const { action: _, ...known } = role
    await expect(broker.ask('update', 'broker/role/new', { plugins: known.plugins, audiences: 'b' })).rejects.toThrow(
      /wanted at least one$/,
    )
    expect(await outcomeOf(broker.ask('read', 'broker/role/none', { colour: 'x' }))).toBe('not_found')
  })

  test('writes the record that the path names, whatever the body says', async () => {
    const outcome = await broker.ask('update', 'broker/role/deploy', { name: 'other', ttl: 60 })
    const sentence = "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [name]"
    expect('warnings' in outcome && outcome.warnings).toEqual([sentence])
    expect(dataOf(await broker.ask('read', 'broker/role/deploy'))).toMatchObject({ ttl: 60 })
    expect(await outcomeOf(broker.ask('read', 'broker/role/other'))).toBe('not_found')
  })
})

describe('what changes something', () => {
  const changes: readonly (readonly [Operation, string, object])[] = [
    ['update', 'broker/role/deploy', { ttl: 60 }],
    ['update', 'broker/policy/base', { policy: 'permit (principal, action, resource);' }],
    ['update', 'broker/config', { issuer: 'https://issuer.example' }],
    ['delete', 'broker/role/deploy', {}],
    ['update', 'broker/keys/rotate', {}],
    ['update', 'auth/tpm-quote/config', { challenge_ttl: 30 }],
    ['update', 'auth/tpm-quote/role/builder', { bind_key: 'required' }],
    ['delete', 'auth/tpm-quote/role/builder', {}],
    ['delete', 'auth/tpm-quote/ca/makers', {}],
  ]

  test.each(changes)('%s %s is in the audit log before it happens', async (operation, path, data) => {
    const txn = 'the-request'
    const recorded: boolean[] = []
    broker.vault.fault = ({ method, path: at }) => {
      const looks = method === 'GET' || method === 'LIST' || at === 'sys/capabilities-self'
      if (!looks) recorded.push(readFileSync(broker.auditFile, 'utf8').includes(`"type":"request","txn":"${txn}"`))
      return undefined
    }
    const before = state()
    await broker.ask(operation, path, data, { txn })
    expect(state()).not.toBe(before)
    expect(recorded.length).toBeGreaterThan(0)
    expect(recorded).not.toContain(false)
  })

  test.each(changes)('%s %s does not happen without an audit log', async (operation, path, data) => {
    const before = state()
    await broker.broker.audit.close()
    expect(await outcomeOf(broker.ask(operation, path, data))).toBe('unavailable')
    expect(state()).toBe(before)
  })

  test.each(changes)('%s %s says that it did not happen when Vault does not answer', async (operation, path, data) => {
    const before = state()
    broker.vault.fault = ({ method, path: at }) => (method === 'GET' || at === 'sys/capabilities-self' ? undefined : 'reset')
    expect(await outcomeOf(broker.ask(operation, path, data))).toBe('unavailable')
    expect(state()).toBe(before)
  })
})

describe('a credential', () => {
  const machine = fakeMachine({ label: 'enrolled' })
  const asked = { plugin: 'kubernetes', scope: 'apps:read' }

  test('is signed after its intent is durable, and not at all without an audit log', async () => {
    await enrol(broker, machine)
    const token = await logIn(broker, machine)
    const intents: boolean[] = []
    broker.vault.fault = ({ path }) => {
      if (path.startsWith('transit/sign/'))
        intents.push(readFileSync(broker.auditFile, 'utf8').includes('"type":"intent","txn":"credential"'))
      return undefined
    }
    await broker.ask('update', 'broker/creds/deploy', asked, { token, txn: 'credential' })
    expect(intents).toEqual([true])
    await broker.broker.audit.close()
    expect(await outcomeOf(broker.ask('update', 'broker/creds/deploy', asked, { token }))).toBe('unavailable')
    expect(intents).toHaveLength(1)
  })

  test('is not signed for a token that may not, though its intent was written; both are on record', async () => {
    await enrol(broker, machine)
    const token = await logIn(broker, machine)
    const { meta } = broker.vault.state.tokens.get(token) ?? {}
    const powerless = broker.vault.token({ path: 'auth/tpm-quote/login', meta: meta ?? {}, allow: () => ['read'] })
    const from = broker.vault.asked.length
    expect(await outcomeOf(broker.ask('update', 'broker/creds/deploy', asked, { token: powerless, txn: 'x' }))).toBe(
      'permission_denied',
    )
    expect(broker.vault.asked.slice(from).filter(one => one.path.startsWith('transit/sign/'))).toEqual([])
    const mine = (await broker.records()).filter(one => one['txn'] === 'x')
    expect(mine.map(one => one['type'])).toEqual(['intent', 'outcome', 'refusal'])
    expect(mine[1]?.['result']).toBe('not permitted')
  })
})

describe('help', () => {
  test('is for every token that lives', async () => {
    const token = broker.vault.token({ allow: () => ['deny'] })
    for (const path of ['broker', 'broker/creds/x', 'auth/tpm-quote', 'auth/tpm-quote/role/x'])
      expect('help' in (await broker.ask('help', path, {}, { token }))).toBe(true)
    for (const none of ['', 'hvs.none'])
      expect(await outcomeOf(broker.ask('help', 'broker/creds/x', {}, { token: none }))).toBe('permission_denied')
    expect(await outcomeOf(broker.ask('help', 'broker/nothing', {}, { token }))).toBe('unsupported_path')
  })
})
