import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type MountTable, type Needs, openMountTable } from '../../engine/mount_table.ts'
import { Secret } from '../../engine/secret.ts'
import { openVault, type Vault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { openStore } from '../../engine/vault/store.ts'
import { lasting } from '../fakes/session.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'
import { testWorld } from '../fakes/world.ts'
import { eventually, PATIENCE_MS } from '../harness/patience.ts'

const MARKED = { assay: 'tpm-quote' }
const NEEDS: Needs = { open: async () => {}, close: async () => {} }
const GIVEN = { description: 'ours', defaultTtlSeconds: 0, maxTtlSeconds: 0 }

/** What is there for mounts, by their ids. */
const needed = new Set<string>()
const needs: Needs = { open: async ({ id }) => needed.add(id), close: async ({ id }) => needed.delete(id) }

let fake: FakeVault
let vault: Vault
const tables: MountTable[] = []
beforeEach(async () => {
  needed.clear()
  // nobody looks by himself, however long a test takes
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  fake = await startFakeVault()
  vault = openVault({ address: fake.address, deadlineMs: PATIENCE_MS })
})
afterEach(async () => {
  for (const table of tables.splice(0)) table.stop()
  vi.useRealTimers()
  await vault.close()
  await fake[Symbol.asyncDispose]()
})

/** The table of a replica. */
async function newTable(onError: (error: unknown) => void = () => {}, world = testWorld()): Promise<MountTable> {
  const token = new Secret(fake.rootToken)
  const session = lasting(token)
  const own = openOwn(vault, session, world.log)
  const table = await openMountTable(own, openStore(own, 'assay', world.monotonic), { monotonic: world.monotonic, onError })
  tables.push(table)
  return table
}
const mountJwt = (path: string, options: Record<string, string> | null) =>
  vault.write(`sys/auth/${path}`, { type: 'jwt', options }, { as: new Secret(fake.rootToken) })

describe('auth mounts', () => {
  test('are those of Vault that carry our mark, and no others', async () => {
    await mountJwt('tpm-quote', MARKED)
    await mountJwt('people', null)
    await mountJwt('other', { assay: 'something' })
    const table = await newTable()
    expect(table.ofType('tpm-quote').map(mount => mount.path)).toEqual(['auth/tpm-quote/'])
    expect(table.find('auth/tpm-quote/login')).toMatchObject({ type: 'tpm-quote', id: fake.state.jwt.get('tpm-quote')?.uuid })
    expect(table.find('auth/people/login')).toBeUndefined()
  })

  test('are seen when they come and when they go', async () => {
    const table = await newTable()
    await mountJwt('tpm-quote', MARKED)
    await table.refresh()
    expect(table.find('auth/tpm-quote')).toBeDefined()
    fake.state.jwt.delete('tpm-quote')
    await table.refresh()
    expect(table.find('auth/tpm-quote')).toBeUndefined()
  })
})

test('what was seen five seconds ago is looked at again by who relies on it, and not before', async () => {
  const world = testWorld()
  await mountJwt('tpm-quote', MARKED)
  const table = await newTable(() => {}, world)
  fake.state.jwt.delete('tpm-quote')
  world.pass(5_000)
  await table.recent()
  expect(table.find('auth/tpm-quote')).toBeDefined()
  world.pass(1)
  await table.recent()
  expect(table.find('auth/tpm-quote')).toBeUndefined()
})

describe('a path', () => {
  test.each([
    ['broker', true],
    ['broker/creds/x', true],
    ['broker2', false],
    ['brok', false],
    ['Broker/creds/x', false],
    ['sys/broker', false],
    ['team/broker/keys', true],
    ['team', false],
    ['', false],
  ])('%j lies in a mount of ours: %s', async (path, inside) => {
    const table = await newTable()
    await table.addBroker('broker/', GIVEN, NEEDS)
    await table.addBroker('team/broker/', GIVEN, NEEDS)
    expect(table.find(path) !== undefined).toBe(inside)
  })
})

describe('a new mount', () => {
  test('has an id and an accessor of its own, and is seen by other replicas at their next look', async () => {
    const [one, other] = await Promise.all([newTable(), newTable()])
    const mount = await one.addBroker('broker/', GIVEN, NEEDS)
    expect(mount).toMatchObject({
      type: 'broker',
      path: 'broker/',
      accessor: `broker_${mount.id.slice(0, 8)}`,
      description: 'ours',
    })
    expect(other.find('broker/keys')).toBeUndefined()
    await other.refresh()
    expect(other.find('broker/keys')).toEqual(mount)
  })

  const taken = [
    'broker/',
    'broker/sub/',
    'assay/',
    'transit/',
    'sys/',
    'sys/x/',
    'auth/',
    'auth/x/',
    'identity/',
    'cubbyhole/x/',
  ]
  test.each(taken)('is refused at %s, which is taken', async path => {
    const table = await newTable()
    await table.addBroker('broker/', GIVEN, NEEDS)
    await expect(table.addBroker(path, GIVEN, NEEDS)).rejects.toThrow('path is already in use at')
    expect(table.ofType('broker')).toHaveLength(1)
  })

  test('is made beside many others at once, at every replica', async () => {
    const replicas = await Promise.all([newTable(), newTable(), newTable()])
    const paths = Array.from({ length: 24 }, (_, at) => `mount-${at}/`)
    const made = await Promise.all(paths.map(async (path, at) => replicas[at % 3]?.addBroker(path, GIVEN, NEEDS)))
    await Promise.all(made.map(async (mount, at) => mount && replicas[(at + 1) % 3]?.tuneBroker(mount, { description: `${at}` })))
    await Promise.all(replicas.map(table => table.refresh()))
    for (const table of replicas) {
      expect(table.ofType('broker').map(mount => mount.path)).toEqual(expect.arrayContaining(paths))
      expect(paths.map(path => table.find(path)?.description)).toEqual(paths.map((_, at) => `${at}`))
    }
  })

  test('is made once when it is asked for many times at once', async () => {
    const replicas = await Promise.all([newTable(), newTable()])
    const asked = await Promise.allSettled(
      Array.from({ length: 6 }, async (_, at) => replicas[at % 2]?.addBroker('broker/', GIVEN, NEEDS)),
    )
    const refused = asked.flatMap(one => (one.status === 'rejected' ? [String((one.reason as Error).message)] : []))
    expect(refused).toEqual(Array.from({ length: 5 }, () => 'path is already in use at broker/'))
  })

  test('may begin like another', async () => {
    const table = await newTable()
    for (const path of ['broker/', 'broker2/', 'team/broker/', 'team/other/']) await table.addBroker(path, GIVEN, NEEDS)
    expect(table.ofType('broker')).toHaveLength(4)
  })

  test('above one that is there is refused', async () => {
    const table = await newTable()
    await table.addBroker('team/broker/', GIVEN, NEEDS)
    await expect(table.addBroker('team/', GIVEN, NEEDS)).rejects.toThrow('path is already in use at team/broker/')
  })

  test('made twice at the same time is made once', async () => {
    const replicas = await Promise.all([newTable(), newTable(), newTable()])
    const made = await Promise.allSettled(replicas.map(table => table.addBroker('broker/', GIVEN, NEEDS)))
    expect(made.filter(one => one.status === 'fulfilled')).toHaveLength(1)
    await replicas[0]?.refresh()
    expect(replicas[0]?.ofType('broker')).toHaveLength(1)
  })

  test('leaves nothing of those who came too late', async () => {
    const replicas = await Promise.all([newTable(), newTable(), newTable()])
    const made = await Promise.allSettled(replicas.map(table => table.addBroker('broker/', GIVEN, needs)))
    expect([...needed]).toEqual(made.flatMap(one => (one.status === 'fulfilled' ? [one.value.id] : [])))
  })

  test('has what it needs where it is not known whether it was made', async () => {
    const table = await newTable()
    fake.fault = ({ method, path }) => (method !== 'GET' && path === 'assay/data/mounts' ? 'lost' : undefined)
    await expect(table.addBroker('broker/', GIVEN, needs)).rejects.toThrow()
    fake.fault = () => undefined
    await table.refresh()
    expect([...needed]).toEqual(table.ofType('broker').map(({ id }) => id))
  })

  test('moved to several places at the same time is at the one of them that was answered so', async () => {
    const replicas = await Promise.all([newTable(), newTable()])
    const mount = await replicas[0]?.addBroker('broker/', GIVEN, NEEDS)
    if (!mount) throw new Error('there is no mount')
    const moved = await Promise.allSettled(replicas.map((table, at) => table.moveBroker(mount, `to-${at}/`)))
    const won = moved.findIndex(one => one.status === 'fulfilled')
    expect(moved[1 - won]).toMatchObject({ status: 'rejected', reason: { message: 'no matching mount at "broker/"' } })
    for (const table of replicas) {
      await table.refresh()
      expect(table.ofType('broker').map(({ path }) => path)).toEqual([`to-${won}/`])
    }
  })

  test('does not come back when it was dropped', async () => {
    const table = await newTable()
    const mount = await table.addBroker('broker/', GIVEN, NEEDS)
    await table.addBroker('other/', GIVEN, NEEDS)
    await table.dropBroker(mount)
    expect(table.ofType('broker').map(one => one.path)).toEqual(['other/'])
    expect((await table.addBroker('broker/', GIVEN, NEEDS)).id).not.toBe(mount.id)
  })
})

describe('the look of every five seconds', () => {
  test('finds what other replicas did', async () => {
    const [one, other] = await Promise.all([newTable(), newTable()])
    await one.addBroker('broker/', GIVEN, NEEDS)
    await vi.advanceTimersByTimeAsync(5001)
    await eventually(() => expect(other.find('broker')).toBeDefined())
  })

  test('that fails leaves the table as it was, and says so', async () => {
    const errors: unknown[] = []
    const table = await newTable(error => void errors.push(error))
    await table.addBroker('broker/', GIVEN, NEEDS)
    fake.fault = () => ({ status: 503 })
    await vi.advanceTimersByTimeAsync(5001)
    await eventually(() => expect(errors).toHaveLength(1))
    expect(table.find('broker')).toBeDefined()
  })

  test('that takes long does not undo what was done meanwhile', async () => {
    const table = await newTable()
    const { met, open: goOn } = heldUp()
    const looks = [table.refresh()]
    await met
    const made = table.addBroker('broker/', GIVEN, NEEDS)
    await eventually(() => expect(fake.state.kv.has('mounts')).toBe(true))
    goOn()
    await Promise.all([...looks, made])
    expect(table.find('broker')).toBeDefined()
  })
})

describe('whoever asks for a look', () => {
  const looks = () => fake.asked.filter(({ method, path }) => method === 'GET' && path === 'sys/auth').length

  test('while one is under way shares the next one with all others, as that one may be from before', async () => {
    const table = await newTable()
    const { met, open: goOn } = heldUp()
    const first = table.refresh()
    await met
    await mountJwt('tpm-quote', MARKED)
    const before = looks()
    const others = Promise.all(Array.from({ length: 200 }, () => table.refresh()))
    goOn()
    await first
    expect(table.find('auth/tpm-quote')).toBeUndefined()
    await others
    expect(table.find('auth/tpm-quote')).toBeDefined()
    expect(looks() - before).toBe(1)
  })

  test('and is not answered hears that, and the next one is asked anew', async () => {
    const table = await newTable()
    fake.fault = () => ({ status: 500 })
    await expect(Promise.all([table.refresh(), table.refresh()])).rejects.toThrow('the vault server answered with status 500')
    fake.fault = () => undefined
    await expect(table.refresh()).resolves.toBeUndefined()
  })
})

/** The next look sees what is there now, and hears of it later. */
function heldUp(): { readonly met: Promise<void>; readonly open: () => void } {
  const [gate, met] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let held = 0
  fake.fault = ({ method, path }) => {
    if (method !== 'GET' || !['sys/auth', 'assay/data/mounts'].includes(path)) return undefined
    held += 1
    if (held === 2) {
      fake.fault = () => undefined
      met.resolve()
    }
    return { after: gate.promise }
  }
  return { met: met.promise, open: gate.resolve }
}
