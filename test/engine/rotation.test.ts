import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type Arrived, type JsonServer, type Said, startJsonServer } from '../fakes/json_server.ts'
import type { Fault } from '../fakes/vault.ts'
import { until } from '../harness/process.ts'

let broker: TestBroker
let provider: JsonServer
let answer: (arrived: Arrived) => Said | Promise<Said>
beforeEach(async () => {
  provider = await startJsonServer(arrived => answer(arrived))
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(async () => {
  await broker[Symbol.asyncDispose]()
  await provider[Symbol.asyncDispose]()
})

const ask = (operation: 'read' | 'update', path: string, data: object = {}) => broker.ask(operation, path, data)
const write = (data: object) => ask('update', 'broker/integration/it', data)
const rotate = async (data: object = {}) => dataOf(await ask('update', 'broker/integration/it/rotate', data))
const outcome = async (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message : 'unknown'),
  )
const root = async () => {
  const mount = broker.broker.mounts.find('broker/x')
  const source = mount && (await broker.broker.integrations.source(mount, 'it'))
  const read = await source?.root.fresh()
  return Object.fromEntries(Object.entries(read?.fields ?? {}).map(([name, one]) => [name, one.reveal()]))
}
const results = async () =>
  (await broker.records()).filter(one => one['operation'] === 'rotate').map(one => one['result'] ?? one['type'])
const upkeep = () => broker.broker.integrations.upkeep.round()

describe('a refresh token', () => {
  const record = () => ({
    type: 'oauth2',
    settings: {
      token_url: `${provider.url}/token`,
      grant: 'refresh_token',
      client_id: 'broker',
      client_auth: 'client_secret_post',
    },
    secrets: { client_secret: 'canary-client', refresh_token: 'canary-0' },
  })
  /** Rotates tokens, and takes a second use of one for theft. */
  let current: string
  beforeEach(async () => {
    current = 'canary-0'
    answer = ({ body }) => {
      if (new URLSearchParams(body).get('refresh_token') !== current)
        return { status: 400, body: { error: 'invalid_grant', error_description: body } }
      current = `canary-${randomUUID()}`
      return { status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, refresh_token: current } }
    }
    await write(record())
  })

  test('is replaced on demand, and the next one serves', async () => {
    expect(await rotate()).toMatchObject({ state: 'done' })
    expect(await root()).toEqual({ client_secret: 'canary-client', refresh_token: current })
    await rotate()
    expect(await root()).toMatchObject({ refresh_token: current })
    expect(await results()).toEqual(['intent', 'rotated', 'intent', 'rotated'])
  })

  test('is replaced also by an answer of which nothing else can be used: the one before is worth nothing now', async () => {
    const whole = answer
    answer = async arrived => ({ ...(await whole(arrived)), status: 201 })
    expect(await rotate()).toMatchObject({ state: 'done' })
    answer = whole
    expect(await root()).toMatchObject({ refresh_token: current })
    expect(await rotate()).toMatchObject({ state: 'done' })
  })

  test('is kept although nothing else can be written when it comes: the one before is worth nothing now', async () => {
    broker.vault.fault = ({ method, path }) =>
      method !== 'GET' && path.endsWith('/rotation/it') && provider.arrived.length > 0 ? { status: 500, body: {} } : undefined
    expect(await outcome(rotate())).not.toBe('done')
    expect(await root()).toMatchObject({ refresh_token: current })
    broker.vault.fault = () => undefined
    expect(await outcome(rotate())).toBe('done')
  })

  test('is kept by a Vault that does not answer twice, the second time because its answer is lost', async () => {
    const faults: Fault[] = [{ status: 500, body: {} }, 'lost']
    broker.vault.fault = ({ method, path }) => (method !== 'GET' && path.endsWith('/root/it') ? faults.shift() : undefined)
    expect(await rotate()).toMatchObject({ state: 'done' })
    expect(faults).toEqual([])
    expect(await root()).toMatchObject({ refresh_token: current })
  })

  test('is kept beside what an operator wrote while it was on its way', async () => {
    const whole = answer
    answer = async arrived => {
      await write({ secrets: { client_secret: 'canary-next' } })
      return whole(arrived)
    }
    expect(await rotate()).toMatchObject({ state: 'done' })
    expect(await root()).toEqual({ client_secret: 'canary-next', refresh_token: current })
  })

  test('does not take the place of one that an operator wrote while it was on its way', async () => {
    const whole = answer
    answer = async arrived => {
      await write({ secrets: { refresh_token: 'canary-by-hand' } })
      return whole(arrived)
    }
    expect(await outcome(rotate())).toMatch(/somebody else changed/)
    expect(await root()).toMatchObject({ refresh_token: 'canary-by-hand' })
  })

  test('is replaced once by eight who order it at once, one after the other', async () => {
    expect(await Promise.all(Array.from({ length: 8 }, () => outcome(rotate())))).toEqual(Array.from({ length: 8 }, () => 'done'))
    expect(await root()).toMatchObject({ refresh_token: current })
  })

  test('that the server does not take stays, and the error tells why without it', async () => {
    current = 'another'
    const said = await outcome(rotate())
    expect(said).toBe('it: invalid_grant: the refresh token was not replaced')
    expect(await root()).toMatchObject({ refresh_token: 'canary-0' })
  })

  test('is replaced when it is due, by one of two replicas', async () => {
    await write({ rotate_every: '1h' })
    await upkeep()
    expect(provider.arrived).toEqual([])
    broker.world.pass(3_600_000)
    await Promise.all([upkeep(), upkeep()])
    expect(provider.arrived).toHaveLength(1)
    expect(await root()).toMatchObject({ refresh_token: current })
    await upkeep()
    expect(provider.arrived).toHaveLength(1)
  })

  test('whose server is down is due again at the next look', async () => {
    await write({ rotate_every: '1h' })
    broker.world.pass(3_600_000)
    provider.trouble = () => 'reset'
    await upkeep()
    expect(broker.world.lines.join('\n')).toMatch('could not be rotated')
    provider.trouble = () => undefined
    await upkeep()
    expect(await root()).toMatchObject({ refresh_token: current })
    expect([...broker.world.lines, JSON.stringify(await broker.records())].join('\n')).not.toMatch('canary')
  })
})

describe('the key of a Google service account', () => {
  const EMAIL = 'broker@acme.iam.gserviceaccount.com'
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  const keyFile = (id: string) =>
    JSON.stringify({ type: 'service_account', client_email: EMAIL, private_key_id: id, private_key: privateKey })
  /** id of key -> when it was made */
  let keys: Map<string, number>
  let works: (id: string) => boolean
  beforeEach(async () => {
    keys = new Map([['key000000', 0]])
    works = id => keys.has(id)
    answer = ({ method, path, body }) => {
      if (path === '/token') return token(body)
      if (method === 'GET')
        return {
          status: 200,
          body: {
            keys: [...keys].map(([id, at]) => ({
              name: `projects/p/serviceAccounts/${EMAIL}/keys/${id}`,
              validAfterTime: new Date(at).toISOString(),
            })),
          },
        }
      if (method === 'DELETE')
        return keys.delete(path.split('/').at(-1) ?? '') ? { status: 200, body: {} } : { status: 404, body: {} }
      const id = `key00000${keys.size}`
      keys.set(id, broker.world.now())
      return { status: 200, body: { privateKeyData: Buffer.from(keyFile(id)).toString('base64') } }
    }
    await write({
      type: 'gcp',
      settings: { auth: 'key', token_url: `${provider.url}/token` },
      rotation: { iam_admin_url: provider.url },
      secrets: { key: JSON.parse(keyFile('key000000')) },
    })
  })
  function token(body: string): Said {
    const [head = ''] = (new URLSearchParams(body).get('assertion') ?? '').split('.')
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string }
    if (!works(kid)) return { status: 400, body: { error: 'invalid_grant' } }
    return { status: 200, body: { access_token: `by-${kid}`, token_type: 'Bearer', expires_in: 300 } }
  }
  const inUse = async () => (JSON.parse((await root())['key'] ?? '{}') as { private_key_id: string }).private_key_id

  test('is replaced; the one before is good for a minute more and then deleted', async () => {
    expect(await rotate()).toMatchObject({ state: 'stored' })
    expect(await inUse()).toBe('key000001')
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    await upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    expect(await outcome(rotate())).toMatch(/^the last rotation ends at /)
    broker.world.pass(60_000)
    await upkeep()
    expect([...keys.keys()]).toEqual(['key000001'])
    expect(await results()).toEqual(['intent', 'rotated', 'retired'])
    expect(dataOf(await ask('read', 'broker/integration/it/rotate'))).toMatchObject({ state: 'done' })
  })

  test('is replaced when it is due, and once', async () => {
    await write({ rotate_every: '1d' })
    await upkeep()
    expect(await inUse()).toBe('key000000')
    broker.world.pass(86_400_000)
    await Promise.all([upkeep(), upkeep()])
    expect([await inUse(), ...keys.keys()]).toEqual(['key000001', 'key000000', 'key000001'])
  })

  test('is not stored when its rotation was taken for dead, and what it had made deleted', async () => {
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const whole = answer
    answer = async arrived => {
      const said = whole(arrived)
      // the proof of the new one
      if (arrived.path !== '/token' || keys.size === 1) return said
      answer = whole
      reached.resolve()
      await go.promise
      return said
    }
    const late = outcome(rotate())
    await reached.promise
    broker.world.pass(61_000)
    await using other = await openTestBroker({ beside: broker })
    await other.broker.integrations.upkeep.round()
    expect([...keys.keys()]).toEqual(['key000000'])
    go.resolve()
    expect(await late).toBe('the rotation took too long and was cleared up meanwhile: order it again')
    expect(await inUse()).toBe('key000000')
  })

  test('that does not work is not stored, and it is deleted again', async () => {
    works = id => id === 'key000000'
    const said = await outcome(rotate())
    expect(said).toMatch(/invalid_grant/)
    expect(await inUse()).toBe('key000000')
    expect([...keys.keys()]).toEqual(['key000000'])
  })

  test('that was made before the broker died is found and deleted, and no other is', async () => {
    keys.set('key0operator', broker.world.now() - 60_000)
    const made = answer
    answer = arrived => {
      const said = made(arrived)
      return arrived.method === 'POST' && arrived.path.endsWith('/keys') ? { status: 500 } : said
    }
    expect(await outcome(rotate())).toMatch('it')
    expect([...keys.keys()]).toHaveLength(3)
    answer = made
    broker.world.pass(120_000)
    keys.set('key0later00', broker.world.now())
    await upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key0operator', 'key0later00'])
  })

  test.each([
    ['was known as the one that was made', /\/integration\/it$/],
    ['was to have some time left', /\/rotation\/it$/],
  ])('was stored before the broker died, and before the one before %s: that one is ended all the same', async (_, path) => {
    const stored = () => inUse().then(id => id === 'key000001')
    broker.vault.fault = asked =>
      asked.method !== 'GET' && path.test(asked.path) && keys.size === 2 && proofs > 0 ? { status: 500, body: {} } : undefined
    let proofs = 0
    works = id => {
      if (id === 'key000001') proofs += 1
      return keys.has(id)
    }
    expect(await outcome(rotate())).not.toBe('done')
    expect(await stored()).toBe(true)
    broker.vault.fault = () => undefined
    broker.world.pass(120_000)
    await upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    broker.world.pass(61_000)
    await upkeep()
    expect([await stored(), ...keys.keys()]).toEqual([true, 'key000001'])
  })

  test('is not stored when somebody wrote another meanwhile; what was made is deleted', async () => {
    const made = answer
    answer = async arrived => {
      if (arrived.method === 'POST' && arrived.path.endsWith('/keys'))
        await write({ secrets: { key: JSON.parse(keyFile('key0by0hand')) } })
      return made(arrived)
    }
    keys.set('key0by0hand', 0)
    expect(await outcome(rotate())).toMatch(/somebody else changed/)
    expect(await inUse()).toBe('key0by0hand')
    answer = made
    broker.world.pass(61_000)
    await upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key0by0hand'])
  }, 20_000)
})

describe('what is ordered', () => {
  test('by nobody but who made the integration', async () => {
    answer = () => ({ status: 500 })
    await write({ type: 'static', secrets: { api_key: 'canary' } })
    const stranger = broker.vault.token({ entity: 'stranger' })
    expect(await outcome(broker.ask('update', 'broker/integration/it/rotate', {}, { token: stranger }))).toBe(
      'only who made the integration may do this',
    )
  })

  test('of what nothing can rotate is refused, and nothing of the kind is on schedule', async () => {
    await write({ type: 'static', secrets: { api_key: 'canary' } })
    expect(await outcome(rotate())).toBe('nothing can rotate this kind of root credential: write the next one into secrets')
    expect(await outcome(write({ rotate_every: '1d' }))).toMatch(/^rotate_every: nothing can replace/)
  })

  test('of a database goes to Vault in the name of who ordered it, and by schedule in the name of the broker', async () => {
    await write({ type: 'vault_database', settings: { path: 'database/rotate-root/app' }, rotate_every: '1h' })
    broker.vault.fault = ({ path }) => (path === 'database/rotate-root/app' ? { status: 204 } : undefined)
    expect(await rotate()).toMatchObject({ state: 'done' })
    broker.world.pass(3_600_000)
    await upkeep()
    const asked = broker.vault.asked.filter(({ path }) => path.startsWith('database/'))
    expect(asked).toHaveLength(2)
    expect(asked[0]?.token).toBe(broker.vault.rootToken)
    expect(asked[1]?.token).not.toBe(broker.vault.rootToken)
  })

  test('of a database may lead nowhere else, nor may what a role reads of an engine', async () => {
    const paths = ['sys/seal', 'database/rotate-root/../../sys/seal', 'database/creds/app']
    // what is normalised on its way
    for (const path of [
      ...paths,
      'sys/rotate/rotate-root/..',
      'database/../sys/rotate/rotate-root/app',
      'database/rotate-root/.',
    ])
      expect(await outcome(write({ type: 'vault_database', settings: { path } }))).toMatch(/^path: wanted MOUNT/)
    for (const vault_path of ['database/../sys/mounts', 'a/./b'])
      expect(await outcome(ask('update', 'broker/role/deploy', { issuer: 'vault', vault_path }))).toMatch(
        /^vault_path: wanted a path/,
      )
  })
})

describe('upkeep', () => {
  test('counts integrations by state, and warns once a day', async () => {
    const expires_at = new Date(broker.world.now() + 3 * 86_400_000).toISOString()
    await write({ type: 'static', secrets: { api_key: 'canary' }, expires_at })
    await broker.ask('update', 'broker/integration/fine', { type: 'static', secrets: { api_key: 'canary' } })
    await broker.ask('update', 'broker/integration/empty', { type: 'static' })
    for (let number = 0; number < 3; number++) await upkeep()
    const text = await broker.broker.metrics.text()
    for (const line of ['ok"} 1', 'expiring"} 1', 'unreadable"} 1', 'expired"} 0'])
      expect(text).toMatch(`assay_integrations{state="${line}`)
    const warnings = () => broker.world.lines.filter(line => line.includes('ends in'))
    expect(warnings()).toHaveLength(1)
    broker.world.pass(86_400_000)
    await upkeep()
    expect(warnings()).toHaveLength(2)
  })

  test('tells what has ended from what cannot be read', async () => {
    const expires_at = new Date(broker.world.now() + 10_000).toISOString()
    await write({ type: 'static', secrets: { api_key: 'canary' }, expires_at })
    broker.world.pass(10_000)
    await upkeep()
    const text = await broker.broker.metrics.text()
    for (const line of ['unreadable"} 0', 'expired"} 1']) expect(text).toMatch(`assay_integrations{state="${line}`)
    expect(dataOf(await ask('read', 'broker/integration/it'))).toMatchObject({ root_state: 'expired', secrets: ['api_key'] })
    expect(broker.world.lines.join()).toMatch(
      'the root credential of the integration it ended at 2026-06-01T00:00:10.000Z: replace it',
    )
  })

  test('ends what silent agents have while the rotation of something else takes its time', async () => {
    await write({ type: 'vault_database', settings: { path: 'database/rotate-root/app' }, rotate_every: '1h' })
    const held = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    broker.vault.fault = ({ path }) => {
      if (path !== 'database/rotate-root/app') return undefined
      reached.resolve()
      return { after: held.promise }
    }
    const mount = broker.broker.mounts.find('broker/x')
    const used = () => [...broker.vault.state.kv.keys()].filter(path => path.includes('/task-used/'))
    broker.vault.state.kv.set(`${mount?.id}/task-used/one`, { version: 1, value: { value: { expires_at: 0 } } })
    broker.world.pass(3_600_000)
    const round = upkeep()
    await reached.promise
    await until('the sweep', async () => used().length === 0)
    expect(broker.world.lines.join()).not.toMatch('could not be rotated')
    held.resolve()
    await round
  })

  test('forgets task tokens that were used and have ended', async () => {
    const mount = broker.broker.mounts.find('broker/x')
    const used = () => [...broker.vault.state.kv.keys()].filter(path => path.includes('/task-used/'))
    broker.vault.state.kv.set(`${mount?.id}/task-used/one`, {
      version: 1,
      value: { value: { expires_at: broker.world.now() / 1000 + 10 } },
    })
    await upkeep()
    expect(used()).toHaveLength(1)
    broker.world.pass(11_000)
    await upkeep()
    expect(used()).toEqual([])
  })
})
