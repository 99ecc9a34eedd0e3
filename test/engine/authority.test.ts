import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { type Authority, type Capability, openAuthority } from '../../engine/vault/authority.ts'
import { openVault, type Vault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { lasting } from '../fakes/session.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'

const denied = expect.objectContaining({ name: 'BrokerError', code: 'permission_denied' })
const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })

/** Longer than any test takes: it passes by a clock that a test moves. */
const DEADLINE_MS = 600_000
let fake: FakeVault
let vault: Vault
let world: TestWorld
let authority: Authority
beforeEach(async () => {
  fake = await startFakeVault()
  vault = openVault({ address: fake.address, deadlineMs: DEADLINE_MS })
  world = testWorld()
  const token = new Secret(fake.rootToken)
  const session = lasting(token)
  authority = openAuthority(vault, openOwn(vault, session, world.log), world.monotonic)
})
afterEach(async () => {
  await vault.close()
  await fake[Symbol.asyncDispose]()
})

const caller = (token: string) => ({ token: new Secret(token) })
const asked = (path: string) => fake.asked.filter(one => one.path === path)
const may = (allow: readonly string[], anyOf: readonly Capability[]) =>
  authority.require(caller(fake.token({ allow: () => allow })), 'broker/creds/deploy', anyOf)

describe('what Vault allows', () => {
  const cases: readonly (readonly [readonly string[], readonly Capability[], boolean])[] = [
    [['update'], ['update'], true],
    [['read', 'update'], ['create', 'update'], true],
    [['root'], ['delete'], true],
    [['read'], ['update'], false],
    [['deny'], ['update'], false],
    [['deny', 'update'], ['update'], false],
    [['deny', 'root'], ['update'], false],
    [[], ['update'], false],
    [['UPDATE'], ['update'], false],
    [['sudo'], ['update'], false],
    [['update'], [], false],
  ]
  test.each(cases)('%j, when %j is asked for: %s', async (allow, anyOf, allowed) => {
    if (allowed) await may(allow, anyOf)
    else await expect(may(allow, anyOf)).rejects.toEqual(denied)
  })

  test('is asked with the token of the caller, on the very path', async () => {
    const token = fake.token({ allow: path => (path === 'broker/creds/deploy' ? ['update'] : ['deny']) })
    await authority.require(caller(token), 'broker/creds/deploy', ['update'])
    await expect(authority.require(caller(token), 'broker/creds/deploy2', ['update'])).rejects.toEqual(denied)
    expect(asked('sys/capabilities-self').map(one => [one.token, one.body])).toEqual([
      [token, { paths: ['broker/creds/deploy'] }],
      [token, { paths: ['broker/creds/deploy2'] }],
    ])
  })

  test('nobody without a token is asked about', async () => {
    await expect(authority.require({ token: undefined }, 'x', ['read'])).rejects.toEqual(denied)
    await expect(authority.identify({ token: undefined }, 'x', ['read'])).rejects.toEqual(denied)
    expect(fake.asked).toEqual([])
  })

  const unreadable = [
    {},
    { data: null },
    { data: {} },
    { data: { x: 'update' } },
    { data: { x: [7] } },
    { data: { capabilities: ['root'] } },
  ]
  test.each(unreadable)('is nothing when the answer is %j', async body => {
    fake.fault = ({ path }) => (path.startsWith('sys/capabilities') ? { status: 200, body } : undefined)
    await expect(authority.require(caller(fake.token()), 'x', ['update'])).rejects.toEqual(denied)
    await expect(authority.require(caller(fake.token({ uses: 5 })), 'x', ['update'])).rejects.toEqual(denied)
  })

  test('is unknown, and so denied, when Vault does not answer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    fake.fault = () => 'hang'
    for (const ask of [authority.require, authority.identify]) {
      const before = fake.asked.length
      const refused = expect(ask(caller('hvs.any'), 'x', ['update'])).rejects.toEqual(unavailable)
      await until('the question', async () => fake.asked.length > before)
      await vi.advanceTimersByTimeAsync(DEADLINE_MS)
      await refused
    }
  })

  test.each(['truncated', { status: 503 }, { status: 500 }, { status: 429 }] as const)(
    'is unknown, and so denied, when Vault answers %j',
    async fault => {
      fake.fault = () => fault
      await expect(authority.require(caller('hvs.any'), 'x', ['update'])).rejects.toEqual(unavailable)
      await expect(authority.identify(caller('hvs.any'), 'x', ['update'])).rejects.toEqual(unavailable)
    },
  )

  test('may not be asked by a token without the default policy: that is said', async () => {
    fake.fault = ({ path }) =>
      path === 'sys/capabilities-self'
        ? { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } }
        : undefined
    await expect(may(['update'], ['update'])).rejects.toThrow('which the default policy allows')
    fake.fault = () => undefined
    await expect(authority.require(caller('hvs.none'), 'x', ['update'])).rejects.toThrow(/^permission denied$/)
  })
})

describe('a token with a limited number of uses', () => {
  const limited = (uses: number, allow = () => ['update']) => caller(fake.token({ uses, allow }))

  test.each([1, 2, 3])('of %j is good for so many requests, also when more come at once', async uses => {
    const one = limited(uses)
    for (let use = 0; use < uses; use++) await authority.require(one, 'x', ['update'])
    await expect(authority.require(one, 'x', ['update'])).rejects.toThrow(/^permission denied$/)
    const other = limited(uses)
    const all = await Promise.allSettled(Array.from({ length: 10 }, () => authority.require(other, 'x', ['update'])))
    expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(uses)
  })

  test('spends a use on what it may not do too', async () => {
    const one = limited(1, () => ['read'])
    await expect(authority.require(one, 'x', ['update'])).rejects.toEqual(denied)
    await expect(authority.require(one, 'x', ['read'])).rejects.toEqual(denied)
  })

  test('that may not spend one by the way that the default policy gives is told so', async () => {
    fake.fault = ({ path }) =>
      path === 'sys/tools/hash' ? { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } } : undefined
    await expect(authority.require(limited(2), 'x', ['update'])).rejects.toThrow(
      'sys/tools/hash, which the default policy allows',
    )
  })
})

describe('who a token belongs to', () => {
  const login = { path: 'auth/tpm-quote/login', meta: { tpm_id: 'sha256-1' }, ttl: 900, allow: () => ['update'] }

  test('is what Vault knows of it', async () => {
    const { facts, permitted } = await authority.identify(caller(fake.token(login)), 'broker/creds/x', ['update'])
    await permitted
    expect(facts).toMatchObject({ path: 'auth/tpm-quote/login', meta: { tpm_id: 'sha256-1' }, ttlSeconds: 900, numUses: 0 })
  })

  test('of one that does not expire: its time is infinite', async () => {
    const { facts } = await authority.identify(caller(fake.token({ ttl: 0 })), 'x', ['update'])
    expect(facts.ttlSeconds).toBe(Number.POSITIVE_INFINITY)
  })

  test('of none that lives: is refused', async () => {
    await expect(authority.identify(caller('hvs.none'), 'x', ['update'])).rejects.toEqual(denied)
  })

  const unreadable = [{}, { data: null }, { data: { path: 7, ttl: 1 } }, { data: { path: 'auth/x/login' } }]
  test.each(unreadable)('is unknown when the answer is %j', async body => {
    fake.fault = ({ path }) => (path === 'auth/token/lookup' ? { status: 200, body } : undefined)
    await expect(authority.identify(caller(fake.token(login)), 'x', ['update'])).rejects.toEqual(unavailable)
  })

  test('does not say that it may: a denial comes with `permitted`, also when nobody awaits it at once', async () => {
    const { permitted } = await authority.identify(caller(fake.token({ ...login, allow: () => ['deny'] })), 'x', ['update'])
    await new Promise(resolve => setImmediate(resolve))
    await expect(permitted).rejects.toEqual(denied)
  })

  test('is remembered for a minute, and the time that is left goes down meanwhile', async () => {
    const who = caller(fake.token(login))
    const left = async () => (await authority.identify(who, 'x', ['update'])).facts.ttlSeconds
    expect(await left()).toBe(900)
    world.pass(30_500)
    expect(await left()).toBe(869)
    expect(asked('auth/token/lookup')).toHaveLength(1)
    world.pass(29_500)
    expect(await left()).toBe(900)
    expect(asked('auth/token/lookup')).toHaveLength(2)
  })

  test('says nothing for a token that was revoked since: what it may is asked every time', async () => {
    const token = fake.token(login)
    await (await authority.identify(caller(token), 'x', ['update'])).permitted
    fake.revoke(token)
    await expect((await authority.identify(caller(token), 'x', ['update'])).permitted).rejects.toEqual(denied)
  })

  test('asked by many at once: one question on each, none older than the request', async () => {
    const who = caller(fake.token(login))
    await (await authority.identify(who, 'x', ['update'])).permitted
    const before = fake.asked.length
    const all = await Promise.all(Array.from({ length: 100 }, () => authority.identify(who, 'x', ['update'])))
    await Promise.all(all.map(one => one.permitted))
    expect(fake.asked.length - before).toBe(1)
  })

  test('never mixes the answers of two tokens', async () => {
    const tokens = Array.from({ length: 20 }, (_, index) =>
      fake.token({ ...login, meta: { tpm_id: `${index}` }, allow: () => [index % 2 ? 'update' : 'deny'] }),
    )
    const all = await Promise.all(tokens.map(token => authority.identify(caller(token), 'x', ['update'])))
    expect(all.map(one => one.facts.meta['tpm_id'])).toEqual(tokens.map((_, index) => `${index}`))
    const allowed = await Promise.allSettled(all.map(one => one.permitted))
    expect(allowed.map(one => one.status)).toEqual(tokens.map((_, index) => (index % 2 ? 'fulfilled' : 'rejected')))
  })
})

describe('a token with a limit of uses', () => {
  test('pays one for each request, and is looked at before the last is spent', async () => {
    const token = fake.token({ uses: 2, path: 'auth/tpm-quote/login', allow: () => ['update'] })
    for (const left of [2, 1]) {
      const { facts, permitted } = await authority.identify(caller(token), 'x', ['update'])
      expect(facts.numUses).toBe(left)
      await permitted
    }
    expect(fake.state.tokens.has(token)).toBe(false)
    await expect(authority.identify(caller(token), 'x', ['update'])).rejects.toEqual(denied)
  })

  test('pays for each of many requests at once: two uses are two requests', async () => {
    const token = fake.token({ uses: 2, path: 'auth/tpm-quote/login', allow: () => ['update'] })
    const requests = Array.from({ length: 10 }, async () => {
      const { permitted } = await authority.identify(caller(token), 'x', ['update'])
      await permitted
    })
    const ends = (await Promise.allSettled(requests)).map(one => one.status)
    expect(ends.filter(end => end === 'fulfilled')).toHaveLength(2)
  })
})
