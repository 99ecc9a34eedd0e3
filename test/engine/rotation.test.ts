import { generateKeyPairSync } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { dataOf, openTestBroker } from '../fakes/broker.ts'
import { outcome } from './integration_world.ts'
import { rotationWorld } from './rotation_world.ts'

const world = rotationWorld()

describe('what is ordered', () => {
  test('by nobody but who made the integration', async () => {
    world.answer = () => ({ status: 500 })
    await world.write({ type: 'static', secrets: { api_key: 'canary' } })
    const stranger = world.broker.vault.token({ entity: 'stranger' })
    expect(await outcome(world.broker.ask('update', 'broker/integration/it/rotate', {}, { token: stranger }))).toBe(
      'only who made the integration may do this',
    )
  })

  test('is told with who ordered it', async () => {
    await world.write({ type: 'vault_database', settings: { path: 'database/rotate-root/app' } })
    world.broker.vault.fault = ({ path }) => (path === 'database/rotate-root/app' ? { status: 204 } : undefined)
    const own = world.broker.vault.token({ entity: '', policies: ['operators'], path: 'auth/token/create' })
    await world.broker.ask(
      'update',
      'broker/integration/own',
      { type: 'vault_database', settings: { path: 'database/rotate-root/app' } },
      { token: own },
    )
    await world.rotate()
    await world.broker.ask('update', 'broker/integration/own/rotate', {}, { token: own })
    const told = (await world.broker.records()).filter(one => one['operation'] === 'rotate' && one['type'] === 'intent')
    expect(told.map(one => one['by'])).toEqual(['root', 'a token without an entity'])
  })

  test('of what nothing can rotate is refused, and nothing of the kind is on schedule', async () => {
    await world.write({ type: 'static', secrets: { api_key: 'canary' } })
    expect(await outcome(world.rotate())).toBe('nothing can rotate this kind of root credential: write the next one into secrets')
    expect(await outcome(world.write({ rotate_every: '1d' }))).toMatch(/^rotate_every: nothing can replace/)
  })

  test('of a database goes to Vault in the name of who ordered it, and by schedule in the name of the broker', async () => {
    await world.write({ type: 'vault_database', settings: { path: 'database/rotate-root/app' }, rotate_every: '1h' })
    world.broker.vault.fault = ({ path }) => (path === 'database/rotate-root/app' ? { status: 204 } : undefined)
    expect(await world.rotate()).toMatchObject({ state: 'done' })
    world.broker.world.pass(3_600_000)
    await world.upkeep()
    const asked = world.broker.vault.asked.filter(({ path }) => path.startsWith('database/'))
    expect(asked).toHaveLength(2)
    expect(asked[0]?.token).toBe(world.broker.vault.rootToken)
    expect(asked[1]?.token).not.toBe(world.broker.vault.rootToken)
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
      expect(await outcome(world.write({ type: 'vault_database', settings: { path } }))).toMatch(/^path: wanted MOUNT/)
    for (const vault_path of ['database/../sys/mounts', 'a/./b'])
      expect(await outcome(world.broker.ask('update', 'broker/role/deploy', { issuer: 'vault', vault_path }))).toMatch(
        /^vault_path: wanted a path/,
      )
  })
})

describe('the key of a GitHub App', () => {
  const shown: string[] = []
  beforeEach(async () => {
    shown.length = 0
    world.answer = ({ headers }) => {
      const [head = ''] = String(headers.authorization).slice('Bearer '.length).split('.')
      shown.push((JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string }).kid)
      return { status: 200, body: {} }
    }
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const key = { public_key: publicKey.export({ type: 'spki', format: 'pem' }) }
    const data = { type: 'rsa-2048', exportable: false, allow_plaintext_backup: false, keys: { 1: key } }
    world.broker.vault.fault = ({ path }) => {
      if (path === 'transit/keys/assay-gh-next') return { status: 200, body: { data } }
      return path === 'transit/sign/assay-gh-next' ? { status: 200, body: { data: { signature: 'vault:v1:c2ln' } } } : undefined
    }
    await world.write({ type: 'github_app', settings: settings('assay-gh') })
  })
  const settings = (key: string, more = {}) => ({
    api_url: world.provider.url,
    app_id: '12',
    installation_id: '34',
    key,
    ...more,
  })
  const inUse = async () => dataOf(await world.read('broker/integration/it'))['settings']

  test('takes nothing of what an operator wrote while it was shown to GitHub', async () => {
    const before = world.answer
    world.answer = async arrived => {
      await world.write({ settings: settings('assay-gh', { ceiling: 'contents:read' }) })
      return before(arrived)
    }
    await world.rotate({ settings: { key: 'assay-gh-next' } })
    expect(await inUse()).toEqual(settings('assay-gh-next', { ceiling: 'contents:read' }))
  })

  test('is replaced in a record, too, that nobody could write any more', async () => {
    await world.write({ org: 'acme', tasks: 'release-42' })
    const { kv } = world.broker.vault.state
    const [at = '', kept = expect.unreachable()] = [...kv].find(([name]) => name.endsWith('/integration/it')) ?? []
    const { value } = kept.value as { value: object }
    kv.set(at, { ...kept, value: { value: { ...value, org: '' } } })
    expect(await outcome(world.write({ max_stale: 0 }))).toMatch(/^tasks: wanted org too/)
    expect(await world.rotate({ settings: { key: 'assay-gh-next' } })).toMatchObject({ state: 'done' })
    expect(await inUse()).toEqual(settings('assay-gh-next'))
  })

  test('is not changed by who ordered it of another of this name, and waited', async () => {
    const { broker } = world
    const [looked, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const whole = broker.vault.fault
    broker.vault.fault = asked => {
      if (asked.method !== 'GET' || !asked.path.endsWith('/lock/it')) return whole(asked)
      broker.vault.fault = whole
      looked.resolve()
      return { after: go.promise }
    }
    const late = outcome(world.rotate({ settings: { key: 'assay-gh-next' } }))
    await looked.promise
    await using other = await openTestBroker({ beside: broker })
    await other.ask('delete', 'broker/integration/it')
    broker.world.pass(2_000)
    const token = broker.vault.token({ entity: '', policies: ['operators'], path: 'auth/token/create' })
    await other.ask('update', 'broker/integration/it', { type: 'github_app', settings: settings('assay-gh') }, { token })
    go.resolve()
    expect(await late).toBe('')
    expect(shown).toEqual([])
    expect(await inUse()).toEqual(settings('assay-gh'))
  })

  test.each([
    ['nothing', {}],
    ['a name that is none', { settings: { key: '' } }],
    ['a path', { settings: { key: 'assay-x/../../keys/assay-gh-next' } }],
    ['a key beside it', { settings: { key: 'assay-gh-next' }, secrets: { key: 'canary' } }],
    ['more settings', { settings: { key: 'assay-gh-next', app_id: '13' } }],
  ])('is not %s', async (_, given) => {
    expect(await outcome(world.rotate(given))).toBe(
      'settings: wanted key, the name of a transit key, which begins with assay-, and nothing else',
    )
    expect(shown).toEqual([])
  })
})
