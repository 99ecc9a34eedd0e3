import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { openVault, type Vault } from '../../engine/vault/client.ts'
import { type OwnVault, openOwn } from '../../engine/vault/own.ts'
import { FRESH_MS, openStore, type Store } from '../../engine/vault/store.ts'
import { lasting } from '../fakes/session.ts'
import { type FakeVault, type Fault, startFakeVault } from '../fakes/vault.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { PATIENCE_MS } from '../harness/patience.ts'

const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
const conflict = expect.objectContaining({ name: 'BrokerError', code: 'conflict' })

let fake: FakeVault
let vault: Vault
let store: Store
let world: TestWorld
beforeEach(async () => {
  fake = await startFakeVault()
  vault = openVault({ address: fake.address, deadlineMs: PATIENCE_MS })
  world = testWorld()
  store = newStore()
})
afterEach(async () => {
  await vault.close()
  await fake[Symbol.asyncDispose]()
})

/** Another replica's, as it has a cache of its own. */
function newStore(): Store {
  const token = new Secret(fake.rootToken)
  const session = lasting(token)
  return openStore(openOwn(vault, session, world.log), 'assay', world.monotonic)
}
const reads = () => fake.asked.filter(one => one.method === 'GET').length

/** Holds what is asked first by this method until the test lets it go; Vault has done it by then. */
function hold(method: string) {
  const gate = Promise.withResolvers<void>()
  const met = Promise.withResolvers<void>()
  fake.fault = (asked): Fault | undefined => {
    if (asked.method !== method) return undefined
    fake.fault = () => undefined
    met.resolve()
    return { after: gate.promise }
  }
  return { met: met.promise, release: gate.resolve }
}

describe('a record', () => {
  test('is what was written, with its version', async () => {
    expect(await store.get('a/b')).toBeUndefined()
    await store.put('a/b', { n: 1 })
    expect(await store.get('a/b')).toEqual({ value: { n: 1 }, version: 1 })
    await store.put('a/b', { n: 2 }, 1)
    expect(await store.fresh('a/b')).toEqual({ value: { n: 2 }, version: 2 })
  })

  test('is created once', async () => {
    const puts = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => store.put('a', { n }, 0)))
    expect(puts.filter(one => one.status === 'fulfilled')).toHaveLength(1)
    expect(puts.filter(one => one.status === 'rejected').map(one => one.reason as unknown)).toEqual(Array(19).fill(conflict))
  })

  test('is changed only by who saw it as it is', async () => {
    await store.put('a', { n: 1 })
    await newStore().put('a', { n: 2 }, 1)
    await expect(store.put('a', { n: 3 }, 1)).rejects.toEqual(conflict)
    expect(await store.get('a')).toEqual({ value: { n: 2 }, version: 2 })
  })

  test('is deleted with all its versions: it may be created again', async () => {
    await store.put('a', { n: 1 }, 0)
    await store.delete('a')
    await store.delete('a')
    expect(await store.get('a')).toBeUndefined()
    await store.put('a', { n: 2 }, 0)
    expect(await store.get('a')).toEqual({ value: { n: 2 }, version: 1 })
  })

  test('is listed, and deleted with its folder', async () => {
    for (const path of ['m/role/b', 'm/role/a', 'm/config', 'm2/config']) await store.put(path, {})
    expect(await store.list('m/')).toEqual(['config', 'role/'])
    expect(await store.list('m/role/')).toEqual(['a', 'b'])
    await store.deleteAll('m/')
    expect([...fake.state.kv.keys()]).toEqual(['m2/config'])
  })
})

describe('the cache', () => {
  test(`answers for ${FRESH_MS} ms, for what is there and for what is not`, async () => {
    await newStore().put('a', { n: 1 })
    for (let round = 0; round < 5; round++)
      expect([await store.get('a'), await store.get('none')]).toMatchObject([{ version: 1 }, undefined])
    expect(reads()).toBe(2)
    await newStore().put('a', { n: 2 })
    await newStore().put('none', {})
    world.pass(FRESH_MS - 1)
    expect(await store.get('a')).toMatchObject({ version: 1 })
    world.pass(2)
    expect([await store.get('a'), await store.get('none')]).toMatchObject([{ version: 2 }, { version: 1 }])
  })

  test('is passed by who wants it fresh, and learns from that', async () => {
    await store.get('a')
    await newStore().put('a', { n: 1 })
    expect(await store.fresh('a')).toMatchObject({ version: 1 })
    expect(await store.get('a')).toMatchObject({ version: 1 })
    expect(reads()).toBe(2)
  })

  test('many who ask at once cost one call', async () => {
    await Promise.all(Array.from({ length: 100 }, () => store.get('a')))
    expect(reads()).toBe(1)
  })

  test('remembers no error, and is no answer once it is old: what cannot be read is denied', async () => {
    await store.put('a', { n: 1 })
    await store.get('a')
    fake.fault = () => ({ status: 503 })
    expect(await store.get('a')).toMatchObject({ version: 1 })
    world.pass(FRESH_MS + 1)
    await expect(store.get('a')).rejects.toEqual(unavailable)
    fake.fault = () => undefined
    expect(await store.get('a')).toMatchObject({ version: 1 })
  })

  test('a record that is there and cannot be read is not absent', async () => {
    const bodies = [
      {},
      { data: null },
      { data: { data: {} } },
      { data: { data: null, metadata: { version: 1 } } },
      { data: { data: { value: 1 } } },
    ]
    for (const body of bodies) {
      fake.fault = () => ({ status: 200, body })
      await expect(store.get('a')).rejects.toEqual(unavailable)
    }
  })

  test('a record whose version somebody deleted at Vault is not absent, and deleted here it may be created again', async () => {
    await store.put('a', { n: 1 })
    fake.state.kv.set('a', { version: 1, value: undefined })
    await expect(store.fresh('a')).rejects.toEqual(unavailable)
    await expect(store.get('a')).rejects.toThrow('a record of this service was deleted at vault')
    expect(world.lines.join()).toMatch(
      /"path":"assay\/data\/a","status":404,"errors":\["the version that was there last was deleted"\]/,
    )
    await store.delete('a')
    await store.put('a', { n: 2 }, 0)
    expect(await store.get('a')).toEqual({ value: { n: 2 }, version: 1 })
  })

  test('is written where the mount wants a version with every write, whoever else writes it', async () => {
    fake.state.casRequired = true
    await store.put('a', { n: 1 })
    await store.put('a', { n: 2 })
    expect(await store.fresh('a')).toEqual({ value: { n: 2 }, version: 2 })
    await Promise.all(Array.from({ length: 4 }, (_, n) => newStore().put('a', { n })))
    expect(await store.fresh('a')).toMatchObject({ version: 6 })
    await expect(store.put('a', { n: 3 }, 1)).rejects.toEqual(conflict)
  })
})

describe('what this process wrote', () => {
  test('is seen at once, also when a read was under way', async () => {
    await store.put('a', { n: 1 })
    const held = hold('GET')
    const reading = store.get('a')
    await held.met
    await store.put('a', { n: 2 })
    expect(await store.get('a')).toMatchObject({ version: 2 })
    held.release()
    expect(await reading).toMatchObject({ version: 1 })
    expect(await store.get('a')).toMatchObject({ version: 2 })
  })

  test('is seen once the write has ended, also when a read began before that', async () => {
    await store.put('a', { n: 1 })
    const held = hold('POST')
    const writing = store.put('a', { n: 2 })
    await held.met
    await store.get('a')
    held.release()
    await writing
    expect(await store.get('a')).toMatchObject({ version: 2 })
  })

  test('is not taken for unwritten when the answer was lost', async () => {
    await store.put('a', { n: 1 })
    await store.get('a')
    fake.fault = () => 'lost'
    await expect(store.put('a', { n: 2 })).rejects.toEqual(unavailable)
    fake.fault = () => undefined
    expect(await store.get('a')).toMatchObject({ version: 2 })
  })

  test('in any order of reads, writes and answers: no read is older than a write that ended before it began', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(fc.boolean(), { maxLength: 20 }), async (schedule, writes) => {
        const own = openStore(slowly(schedule), 'assay', () => 0)
        let written = 0
        const put = async () => {
          await own.put('a', {})
          written += 1
        }
        const get = async () => {
          const least = written
          expect((await own.get('a'))?.version ?? 0).toBeGreaterThanOrEqual(least)
        }
        const steps = schedule.scheduleSequence(writes.map(write => async () => void asked.push(write ? put() : get())))
        const asked: Promise<void>[] = []
        await schedule.waitFor(steps.task)
        await schedule.waitFor(Promise.all(asked))
        expect((await schedule.waitFor(own.fresh('a')))?.version ?? 0).toBe(written)
      }),
    )
  })
})

/** A KV mount that answers when the schedule says so: what was asked is done somewhere between the question and the answer. */
function slowly(schedule: fc.Scheduler): OwnVault {
  let version = 0
  const pass = (what: string) => schedule.schedule(Promise.resolve(), what)
  return {
    read: async () => {
      await pass('read arrives')
      const now = version
      await pass('read is answered')
      return now === 0 ? undefined : { data: { data: { value: {} }, metadata: { version: now } } }
    },
    write: async () => {
      await pass('write arrives')
      version += 1
      await pass('write is answered')
      return {}
    },
    list: async () => [],
    delete: async () => {},
  }
}
