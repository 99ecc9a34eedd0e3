import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { Secret } from '../../engine/secret.ts'
import { absent, encodePath, isRemains, openVault, type Vault, VaultRefusal } from '../../engine/vault/client.ts'
import { openSetupVault } from '../../engine/vault/node_vault.ts'
import { type FakeVault, type Fault, startFakeVault } from '../fakes/vault.ts'
import { until } from '../harness/process.ts'

/** Longer than any test takes: what ends with it ends by itself. */
const DEADLINE_MS = 600_000
/** by a clock that the test moves */
const HELD_MS = 1000
const SOCKETS = 64
const CANARY = 'hvs.CANARYcanaryCANARYcanary'

// both hold the same contract: the calls of the service, and node-vault over the same transport
describe.each([
  ['openVault', openVault],
  ['openSetupVault', openSetupVault],
])('%s', (_, open) => {
  let fake: FakeVault
  let vault: Vault
  const seen: (readonly [string, number])[] = []
  beforeEach(async () => {
    fake = await startFakeVault()
    vault = opened(DEADLINE_MS)
    fake.state.tokens.set(CANARY, { allow: () => ['root'], uses: 0, limited: false, ttl: 60, path: 'p', meta: {}, accessor: 'a' })
    seen.length = 0
  })
  afterEach(async () => {
    await fake[Symbol.asyncDispose]()
    await vault.close()
  })
  const opened = (deadlineMs: number, address = fake.address) =>
    open({ address, deadlineMs, observe: (method, status) => void seen.push([method, status]) })

  const as = new Secret(CANARY)
  const lookup = (at = vault) => at.write('auth/token/lookup', { token: CANARY, password: CANARY }, { as })

  /** Every way in which an error may be turned into text. */
  function texts(error: unknown): string {
    const causes: unknown[] = []
    for (let at = error; at instanceof Error; at = at.cause) causes.push(at, at.message, at.stack, Object.entries(at))
    return `${inspect(error, { depth: null, showHidden: true })}${JSON.stringify(error)}${inspect(causes, { depth: null })}`
  }

  async function failure(call: Promise<unknown>): Promise<Error & { code?: string }> {
    const error = await call.then(
      () => new Error('it did not fail'),
      (thrown: unknown) => thrown as Error,
    )
    expect(texts(error)).not.toContain('CANARY')
    expect(texts(error)).not.toContain('canary')
    return error
  }

  const leaky = { data: { client_token: CANARY }, errors: [] }
  const unusable: readonly (readonly [string, Fault])[] = [
    ['closes the connection', 'reset'],
    ['closes the connection in the middle of its answer', 'reset in the body'],
    ['loses its answer', 'lost'],
    ['truncates its answer', 'truncated'],
    ['answers without an end', 'endless'],
    ['answers with more than anybody reads', { status: 200, body: { data: { filler: 'a'.repeat(5 * 2 ** 20) } } }],
    ['answers with what is no JSON', { status: 200, text: `${CANARY} is no JSON` }],
    ['answers with a list', { status: 200, body: [CANARY] }],
    ['answers with text', { status: 200, body: CANARY }],
    ['answers with null', { status: 200, body: null }],
    ['answers 200 with errors', { status: 200, body: { errors: [CANARY] } }],
    ['answers 200 with data and errors', { status: 200, body: leaky }],
    ['answers 201', { status: 201, body: leaky }],
    ['answers 200 with nothing', { status: 200, text: '' }],
    ['refuses with nothing', { status: 404, text: '' }],
    ['refuses without errors', { status: 403, body: { message: CANARY } }],
    ['is sealed', { status: 503, body: { errors: [CANARY] } }],
    ['is not active', { status: 429, headers: { 'Retry-After': '60' }, body: { errors: [CANARY] } }],
    ['lags behind', { status: 412, body: { errors: [CANARY] } }],
    ['answers 500', { status: 500, body: { errors: [CANARY] } }],
    ['answers 502 with a page', { status: 502, text: `<html>${CANARY}</html>` }],
    ['answers 504 with nothing in it', { status: 504, body: {} }],
    ['redirects', { status: 307, headers: { Location: 'http://127.0.0.1:1/' }, text: '' }],
    ['answers 206', { status: 206, body: { data: {} } }],
  ]

  /** One whose deadline goes by a clock that the test moves; sockets keep theirs. */
  function held(): Vault {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const one = opened(HELD_MS)
    onTestFinished(async () => {
      vi.useRealTimers()
      await fake[Symbol.asyncDispose]()
      await one.close()
    })
    return one
  }
  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
  const asked = (count: number) => until(`question ${count}`, async () => fake.asked.length >= count)

  describe('a Vault that', () => {
    test.each(unusable)('%s is unavailable, and nothing of what was sent or received is told', async (_, fault) => {
      fake.fault = () => fault
      const error = await failure(lookup())
      expect(error).toBeInstanceOf(BrokerError)
      expect(error.code).toBe('unavailable')
      expect(fake.asked).toHaveLength(1)
      fake.fault = () => undefined
      expect(await lookup()).toMatchObject({ data: { accessor: 'a' } })
    })

    test.each([
      ['hangs', 'hang'],
      ['answers a byte at a time', 'slow'],
    ] as const)('%s is unavailable at the deadline, and not before', async (_, fault) => {
      const brief = held()
      fake.fault = () => fault
      let ended = false
      const failed = failure(lookup(brief)).finally(() => {
        ended = true
      })
      await asked(1)
      await pass(HELD_MS - 1)
      expect(ended).toBe(false)
      await pass(1)
      expect((await failed).code).toBe('unavailable')
      expect(seen).toEqual([['POST', 0]])
      expect(fake.asked).toHaveLength(1)
      fake.fault = () => undefined
      expect(await lookup(brief)).toMatchObject({ data: { accessor: 'a' } })
    })

    test('is not there is unavailable', async () => {
      // nobody listens on the first port, and nobody is given it
      const nowhere = opened(DEADLINE_MS, 'http://127.0.0.1:1')
      onTestFinished(nowhere.close)
      expect((await failure(lookup(nowhere))).code).toBe('unavailable')
      expect(seen).toEqual([['POST', 0]])
    })

    const refusals = [400, 401, 403, 404, 405, 409, 413, 418, 473]
    test.each(refusals)('refuses with %d is not unavailable: its word is handed on, without what was sent', async status => {
      fake.fault = () => ({ status, body: { errors: ['a sentence', 7, null] } })
      const error = await failure(lookup())
      expect(error).toBeInstanceOf(VaultRefusal)
      expect(error).toMatchObject({ status, errors: ['a sentence'], message: `vault answered ${status}` })
    })
  })

  test('a redirect is not followed: the token goes nowhere else', async () => {
    await using other = await startFakeVault()
    for (const status of [301, 302, 303, 307, 308]) {
      fake.fault = ({ path }) => ({ status, headers: { Location: `${other.address}/v1/${path}` }, text: '' })
      expect((await failure(vault.read('secret/x', { as }))).code).toBe('unavailable')
    }
    expect(other.asked).toHaveLength(0)
  })

  test('a thousand calls to a Vault that hangs all end, over a bounded number of sockets', async () => {
    const brief = held()
    fake.fault = () => 'hang'
    const codeOf = (error: unknown) => (error as BrokerError).code
    const failed = Promise.all(Array.from({ length: 1000 }, () => brief.read('x', { as }).then(() => 'done', codeOf)))
    await asked(SOCKETS)
    expect(fake.mostConnections()).toBe(SOCKETS)
    vi.advanceTimersByTime(HELD_MS)
    expect(new Set(await failed)).toEqual(new Set(['unavailable']))
    // a socket that was given up here may be open there for a moment longer
    expect(fake.mostConnections()).toBeLessThanOrEqual(2 * SOCKETS)
  })

  test('what was asked is counted by what came of it', async () => {
    for (const fault of [undefined, { status: 404, body: {} }, { status: 503 }, 'reset', 'truncated'] as const) {
      fake.fault = () => fault
      await lookup().catch(() => undefined)
    }
    expect(seen).toEqual([200, 404, 503, 0, 200].map(status => ['POST', status]))
  })

  describe('what is sent', () => {
    test('is the token of this call alone', async () => {
      await lookup()
      await vault.write('auth/approle/login', {})
      await vault.read('sys/auth', { as: new Secret(fake.rootToken) })
      expect(fake.asked.map(one => one.token)).toEqual([CANARY, '', fake.rootToken])
    })

    test('is nothing of the environment', async () => {
      vi.stubEnv('VAULT_TOKEN', 'hvs.fromtheenvironment')
      vi.stubEnv('VAULT_NAMESPACE', 'other')
      onTestFinished(() => void vi.unstubAllEnvs())
      const own = open({ address: fake.address, deadlineMs: DEADLINE_MS })
      await own.write('auth/approle/login', {})
      await own.close()
      const [asked] = fake.asked
      expect(JSON.stringify(asked)).not.toMatch(/environment|other/)
      expect(asked?.headers['x-vault-token']).toBeUndefined()
    })

    test('names itself a request, and carries wrapping and namespace only when asked to', async () => {
      await vault.read('sys/auth', { as, wrapTtl: '60s', namespace: 'team/' })
      await lookup()
      expect(fake.asked[0]?.headers).toMatchObject({
        'x-vault-request': 'true',
        'x-vault-wrap-ttl': '60s',
        'x-vault-namespace': 'team/',
      })
      expect(
        Object.keys(fake.asked[1]?.headers ?? {})
          .filter(name => name.startsWith('x-vault'))
          .sort(),
      ).toEqual(['x-vault-request', 'x-vault-token'])
    })

    test.each(['a b', 'a?list=true', 'a#b', "a'b=c&d", 'ü/€', 'a%2Fb', '{{name}}'])(
      'is the path %j, and no other',
      async path => {
        await vault.read(`secret/${path}`, { as }).catch(() => undefined)
        expect(fake.asked[0]).toMatchObject({ path: `secret/${path}`, method: 'GET' })
      },
    )

    test('is encoded segment by segment', () => expect(encodePath('a b/c/d?e')).toBe('a%20b/c/d%3Fe'))
  })

  describe('an answer', () => {
    test('without a body is undefined', async () => {
      expect(await vault.write('auth/token/revoke-self', {}, { as })).toBeUndefined()
    })

    test('404 is nothing there, where that is an answer', async () => {
      expect(await absent(vault.read('assay/data/x', { as }))).toBeUndefined()
      expect(await vault.list('assay/metadata/x', { as })).toEqual([])
      fake.fault = () => ({ status: 403, body: { errors: [] } })
      await expect(absent(vault.read('assay/data/x', { as }))).rejects.toThrow(VaultRefusal)
    })

    test('404 is not nothing there where no engine is mounted', async () => {
      fake.fault = () => ({ status: 404, body: { errors: ['no handler for route "assay/data/x". route entry not found.'] } })
      for (const ask of [() => absent(vault.read('assay/data/x', { as })), () => vault.list('assay/metadata/x', { as })])
        expect(await failure(ask())).toMatchObject({ name: 'VaultRefusal', status: 404 })
    })

    test('of a record of KV v2 that was deleted is 404 with what is left of it: not nothing there', async () => {
      fake.fault = () => ({ status: 404, body: { data: { data: null, metadata: { deletion_time: 'then' } } } })
      const error = await failure(absent(vault.read('assay/data/x', { as })))
      expect(error).toMatchObject({ name: 'VaultRefusal', status: 404 })
      expect(isRemains(error)).toBe(true)
    })

    test('to a question is not 204', async () => {
      fake.fault = () => ({ status: 204, text: '' })
      for (const ask of [() => vault.read('assay/data/x', { as }), () => vault.list('assay/metadata/x', { as })])
        expect((await failure(ask())).code).toBe('unavailable')
    })

    test.each([{ keys: 'a' }, { keys: [1, 'a'] }, {}, null])('to a list that holds %j is no list', async data => {
      fake.fault = () => ({ status: 200, body: { data } })
      expect((await failure(vault.list('assay/metadata/x', { as }))).code).toBe('unavailable')
    })
  })
})
