import { generateKeyPairSync } from 'node:crypto'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openUpstreams } from '../../engine/issuers/outbound.ts'
import { gcpServiceAccountKey } from '../../engine/rotators/gcp_service_account_key.ts'
import type { RotatorPorts } from '../../engine/rotators/rotator.ts'
import { Secret } from '../../engine/secret.ts'
import { dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import type { Said } from '../fakes/json_server.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'
import { outcome } from './integration_world.ts'
import { rotationWorld } from './rotation_world.ts'

const world = rotationWorld()

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
    world.answer = ({ method, path, body }) => {
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
      keys.set(id, world.broker.world.now())
      return { status: 200, body: { privateKeyData: Buffer.from(keyFile(id)).toString('base64') } }
    }
    await world.write({
      type: 'gcp',
      settings: { auth: 'key', token_url: `${world.provider.url}/token` },
      rotation: { iam_admin_url: world.provider.url },
      secrets: { key: JSON.parse(keyFile('key000000')) },
    })
  })
  function token(body: string): Said {
    const [head = ''] = (new URLSearchParams(body).get('assertion') ?? '').split('.')
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string }
    if (!works(kid)) return { status: 400, body: { error: 'invalid_grant' } }
    return { status: 200, body: { access_token: `by-${kid}`, token_type: 'Bearer', expires_in: 300 } }
  }
  /** Another replica takes whoever has the lock for dead. */
  async function clearedBy(other: TestBroker): Promise<void> {
    world.broker.world.pass(61_000)
    const looks = () => world.broker.vault.asked.filter(({ path }) => path.endsWith('/lock/it')).length
    const before = looks()
    const round = other.broker.integrations.upkeep.round()
    await until('it waits for the lock', async () => looks() > before + 1)
    world.broker.world.pass(30_001)
    await round
  }
  const inUse = async () => (JSON.parse((await world.root())['key'] ?? '{}') as { private_key_id: string }).private_key_id

  test('is replaced; the one before is good for a minute more and then deleted', async () => {
    expect(await world.rotate()).toMatchObject({ state: 'stored' })
    expect(await inUse()).toBe('key000001')
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    await world.upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    expect(await outcome(world.rotate())).toMatch(/^the last rotation ends at /)
    world.broker.world.pass(60_000)
    await world.upkeep()
    expect([...keys.keys()]).toEqual(['key000001'])
    expect(await world.results()).toEqual(['intent', 'rotated', 'retired'])
    expect(dataOf(await world.read('broker/integration/it/rotate'))).toMatchObject({ state: 'done' })
  })

  test('is replaced when it is due, and once', async () => {
    await world.write({ rotate_every: '1d' })
    await world.upkeep()
    expect(await inUse()).toBe('key000000')
    world.broker.world.pass(86_400_000)
    await Promise.all([world.upkeep(), world.upkeep()])
    expect([await inUse(), ...keys.keys()]).toEqual(['key000001', 'key000000', 'key000001'])
  })

  test('is replaced once by two replicas that are asked at once: the second is told when it may be again', async () => {
    await using other = await openTestBroker({ beside: world.broker })
    const there = outcome(other.ask('update', 'broker/integration/it/rotate'))
    const said = await Promise.all([outcome(world.rotate()), there])
    expect(said.toSorted()).toEqual(['done', expect.stringMatching(/^the last rotation ends at /)])
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
  })

  test('is not stored when its rotation was taken for dead, and what it had made deleted', async () => {
    // a replica that stands still does not say that it works
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const whole = world.answer
    world.answer = async arrived => {
      const said = whole(arrived)
      // the proof of the new one
      if (arrived.path !== '/token' || keys.size === 1) return said
      world.answer = whole
      reached.resolve()
      await go.promise
      return said
    }
    const late = outcome(world.rotate())
    await reached.promise
    await using other = await openTestBroker({ beside: world.broker })
    await clearedBy(other)
    expect([...keys.keys()]).toEqual(['key000000'])
    go.resolve()
    expect(await late).toBe('the rotation took too long and was cleared up meanwhile: order it again')
    expect(await inUse()).toBe('key000000')
  })

  test('is not stored, either, by one that stands still right before it would be', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let isProved = false
    works = id => {
      isProved ||= id === 'key000001'
      return keys.has(id)
    }
    // the last look at whether it was cleared up meanwhile
    world.broker.vault.fault = ({ method, path }) => {
      if (!isProved || method !== 'GET' || !path.endsWith('/rotation/it')) return undefined
      world.broker.vault.fault = () => undefined
      reached.resolve()
      return { after: go.promise }
    }
    const late = outcome(world.rotate())
    await reached.promise
    await using other = await openTestBroker({ beside: world.broker })
    await clearedBy(other)
    expect([...keys.keys()]).toEqual(['key000000'])
    go.resolve()
    expect(await late).toMatch(/somebody else changed/)
    expect(await inUse()).toBe('key000000')
    expect(await world.rotate()).toMatchObject({ state: 'stored' })
  })

  test('that is made late is ended, and nothing is forgotten of what was done since', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const [reached, go, whole] = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), world.answer]
    world.answer = async arrived => {
      if (arrived.method !== 'POST' || !arrived.path.endsWith('/keys')) return whole(arrived)
      world.answer = whole
      reached.resolve()
      await go.promise
      return whole(arrived)
    }
    const late = outcome(world.rotate())
    await reached.promise
    await using other = await openTestBroker({ beside: world.broker })
    await clearedBy(other)
    expect(dataOf(await other.ask('update', 'broker/integration/it/rotate'))).toMatchObject({ state: 'stored' })
    go.resolve()
    expect(await late).toBe('the rotation took too long and was cleared up meanwhile: order it again')
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    world.broker.world.pass(61_000)
    await world.upkeep()
    expect([await inUse(), ...keys.keys()]).toEqual(['key000001', 'key000001'])
  })

  test('of an integration that is deleted meanwhile comes to its end before', async () => {
    const whole = world.answer
    let deleted: Promise<string> | undefined
    world.answer = arrived => {
      if (arrived.path === '/token' && keys.size === 2) deleted ??= outcome(world.broker.ask('delete', 'broker/integration/it'))
      return whole(arrived)
    }
    expect([await outcome(world.rotate()), await deleted]).toEqual(['done', 'done'])
    expect([...world.broker.vault.state.kv.keys()].filter(path => path.endsWith('/root/it'))).toEqual([])
  })

  test('that somebody brings is refused, and not made', async () => {
    for (const more of [{ secrets: { key: JSON.parse(keyFile('key0by0hand')) } }, { settings: { key: 'assay-next' } }])
      expect(await outcome(world.rotate(more))).toBe('secrets, settings: wanted none, as the next root credential is made here')
    expect([await inUse(), ...keys.keys()]).toEqual(['key000000', 'key000000'])
  })

  test('of another account is not stored, and it is deleted again', async () => {
    const whole = world.answer
    world.answer = async arrived => {
      const said = await whole(arrived)
      if (arrived.method !== 'POST' || !arrived.path.endsWith('/keys')) return said
      const other = keyFile('key000001').replace(EMAIL, 'other@acme.iam.gserviceaccount.com')
      return { status: 200, body: { privateKeyData: Buffer.from(other).toString('base64') } }
    }
    expect(await outcome(world.rotate())).toBe('it: the new key is of another account')
    expect(await inUse()).toBe('key000000')
    expect([...keys.keys()]).toEqual(['key000000'])
  })

  describe('that Google does not know yet', () => {
    /** What the proof of a key said that is unknown so often, and how long was waited for it. */
    async function proved(unknown: number) {
      const upstreams = openUpstreams({ monotonic: () => performance.now(), deadlineMs: PATIENCE_MS })
      onTestFinished(() => upstreams.close())
      let [slept, left] = [0, unknown]
      works = () => left-- <= 0
      const ports = {
        integration: 'it',
        settings: { token_url: `${world.provider.url}/token` },
        http: upstreams.of('it', 'it'),
        now: world.broker.world.now,
        sleep: async (ms: number) => {
          slept += ms
        },
      }
      const next = { secrets: { key: new Secret(keyFile('key000001')) }, handle: { key_id: 'key000001' } }
      const root = { key: new Secret(keyFile('key000000')) }
      const said = await outcome(Promise.resolve(gcpServiceAccountKey.prove?.(next, root, ports as unknown as RotatorPorts)))
      return [said, slept]
    }

    test('is waited for, for a minute and a half', async () => {
      expect(await proved(31)).toEqual(['done', 62_000])
    })

    test('and then not proved', async () => {
      expect(await proved(100)).toEqual(['it: invalid_grant', 88_000])
    })
  })

  test('that was made before the broker died is found and deleted, and no other is', async () => {
    keys.set('key0operator', world.broker.world.now() - 60_000)
    const made = world.answer
    world.answer = arrived => {
      const said = made(arrived)
      return arrived.method === 'POST' && arrived.path.endsWith('/keys') ? { status: 500 } : said
    }
    expect(await outcome(world.rotate())).toMatch('it')
    expect([...keys.keys()]).toHaveLength(3)
    world.answer = made
    world.broker.world.pass(120_000)
    keys.set('key0later00', world.broker.world.now())
    await world.upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key0operator', 'key0later00'])
  })

  test.each([
    ['was known as the one that was made', /\/integration\/it$/],
    ['was to have some time left', /\/rotation\/it$/],
  ])('was stored before the broker died, and before the one before %s: that one is ended all the same', async (_, path) => {
    const stored = () => inUse().then(id => id === 'key000001')
    world.broker.vault.fault = asked =>
      asked.method !== 'GET' && path.test(asked.path) && keys.size === 2 && proofs > 0 ? { status: 500, body: {} } : undefined
    let proofs = 0
    works = id => {
      if (id === 'key000001') proofs += 1
      return keys.has(id)
    }
    expect(await outcome(world.rotate())).not.toBe('done')
    expect(await stored()).toBe(true)
    world.broker.vault.fault = () => undefined
    world.broker.world.pass(120_000)
    await world.upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key000001'])
    world.broker.world.pass(61_000)
    await world.upkeep()
    expect([await stored(), ...keys.keys()]).toEqual([true, 'key000001'])
  })

  test('is not stored when somebody wrote another meanwhile; what was made is deleted', async () => {
    const made = world.answer
    world.answer = async arrived => {
      if (arrived.method === 'POST' && arrived.path.endsWith('/keys'))
        await world.write({ secrets: { key: JSON.parse(keyFile('key0by0hand')) } })
      return made(arrived)
    }
    keys.set('key0by0hand', 0)
    expect(await outcome(world.rotate())).toMatch(/somebody else changed/)
    expect(await inUse()).toBe('key0by0hand')
    world.answer = made
    world.broker.world.pass(61_000)
    await world.upkeep()
    expect([...keys.keys()]).toEqual(['key000000', 'key0by0hand'])
  })
})
