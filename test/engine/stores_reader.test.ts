import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { FRESH_MS, openReader } from '../../engine/stores/reader.ts'
import { type Held, type OpenStore, StoreFault } from '../../engine/stores/store.ts'
import { testWorld } from '../fakes/world.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'

/** A store that says what the test wants, and counts how often it was asked. */
function scripted() {
  const asked: string[] = []
  const store = {
    asked,
    value: 'one',
    version: '1',
    fault: undefined as Error | undefined,
    waits: undefined as Promise<void> | undefined,
    removal: undefined as Promise<void> | undefined,
  }
  const open: OpenStore = {
    read: async ref => {
      asked.push(ref)
      const { fault, value, version } = store
      const held: Held = { fields: { key: new Secret(value) }, version }
      await store.waits
      if (fault) throw fault
      return held
    },
    replace: async (_ref, next, version) => {
      if (version !== store.version) throw new StoreFault('conflict', 'changed')
      store.value = next.fields['key']?.reveal() ?? ''
      store.version = String(Number(version) + 1)
    },
    remove: async () => {
      await store.removal
      store.fault = new StoreFault('absent', 'it is gone')
    },
    close: async () => undefined,
  }
  return { store, open }
}

function reader(options: { deadlineMs?: number; pauseMs?: number } = {}) {
  const world = testWorld()
  const { store, open } = scripted()
  const outcomes: string[] = []
  const observe = (outcome: string) => void outcomes.push(outcome)
  return {
    world,
    store,
    outcomes,
    reads: openReader(open, { monotonic: world.monotonic, deadlineMs: PATIENCE_MS, observe, ...options }),
  }
}

const seen = ({ fields, stale }: { fields: Held['fields']; stale: boolean }) => [fields['key']?.reveal(), stale]
const down = new StoreFault('down', 'it is down')

test('more than a root credential can be is none', async () => {
  const { store, reads } = reader()
  store.value = 'a'.repeat(65_536)
  expect((await reads.read('ref', 0)).fields['key']?.reveal()).toBe(store.value)
  store.value += 'a'
  const reason = { kind: 'malformed', reason: 'it holds more than 65536 characters' }
  await expect(reads.fresh('ref')).rejects.toMatchObject(reason)
  await expect(reads.read('ref', 60)).rejects.toMatchObject(reason)
})

describe('what is remembered', () => {
  test('is asked for once by 64 at a time, and not again while it is fresh', async () => {
    const { reads, store, world } = reader()
    await Promise.all(Array.from({ length: 64 }, () => reads.read('a', 0)))
    world.pass(FRESH_MS - 1)
    expect(seen(await reads.read('a', 0))).toEqual(['one', false])
    expect(store.asked).toEqual(['a'])
  })

  test('is replaced when it is no longer fresh: a rotation in the store is seen without restart', async () => {
    const { reads, store, world } = reader()
    await reads.read('a', 0)
    store.value = 'two'
    store.version = '2'
    world.pass(FRESH_MS)
    expect(seen(await reads.read('a', 0))).toEqual(['two', false])
  })

  test('is not given to who asks past it', async () => {
    const { reads, store } = reader()
    await reads.read('a', 0)
    store.value = 'two'
    expect(seen(await reads.fresh('a'))).toEqual(['two', false])
  })

  test('is gone when it was replaced here, also what was read while it was', async () => {
    const { reads, store } = reader()
    const gate = Promise.withResolvers<void>()
    store.waits = gate.promise
    const early = reads.read('a', 0)
    await until('the question', async () => store.asked.length === 1)
    store.waits = undefined
    await reads.replace('a', { fields: { key: new Secret('two') } }, '1')
    gate.resolve()
    expect(seen(await early)).toEqual(['one', false])
    expect(seen(await reads.read('a', 0))).toEqual(['two', false])
  })

  test('is gone when it was removed here, also what was read while it was', async () => {
    const { reads, store } = reader()
    const [gone, told] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    store.removal = gone.promise
    store.waits = told.promise
    const removed = reads.remove('a')
    // the store has it still
    const early = reads.read('a', 0)
    await until('the question', async () => store.asked.length === 1)
    gone.resolve()
    await removed
    told.resolve()
    expect(seen(await early)).toEqual(['one', false])
    await expect(reads.read('a', 0)).rejects.toMatchObject({ kind: 'absent' })
  })

  test('is bounded', async () => {
    const { reads, store } = reader()
    for (let number = 0; number <= 1000; number++) await reads.read(`ref-${number}`, 0)
    await reads.read('ref-0', 0)
    expect(store.asked).toHaveLength(1002)
  })
})

describe('a store that is down', () => {
  test('is answered for from memory where that is allowed, no longer than allowed, and it is marked', async () => {
    const { reads, store, world } = reader()
    await reads.read('a', 60)
    store.fault = down
    world.pass(60_000)
    expect(seen(await reads.read('a', 60))).toEqual(['one', true])
    world.pass(1)
    await expect(reads.read('a', 60)).rejects.toThrow(down)
  })

  test('is never answered for where that is not allowed', async () => {
    const { reads, store, world } = reader()
    await reads.read('a', 0)
    store.fault = down
    world.pass(FRESH_MS)
    await expect(reads.read('a', 0)).rejects.toThrow(down)
  })

  test.each(['denied', 'absent', 'malformed'] as const)(
    'unlike one that says %s: that is obeyed, and what it said before is forgotten',
    async kind => {
      const { reads, store, world } = reader()
      await reads.read('a', 600)
      store.fault = new StoreFault(kind, 'no')
      world.pass(FRESH_MS)
      await expect(reads.read('a', 600)).rejects.toMatchObject({ kind })
      store.fault = down
      await expect(reads.read('a', 600)).rejects.toThrow(down)
    },
  )

  test('is not what went wrong with us: nothing is answered for that from memory', async () => {
    const { reads, store, world } = reader()
    await reads.read('a', 600)
    store.fault = new TypeError('a mistake of ours')
    world.pass(FRESH_MS)
    await expect(reads.read('a', 600)).rejects.toThrow(TypeError)
  })

  test('is left alone after five failures, and asked by one when the pause is over', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const { reads, store, outcomes } = reader({ pauseMs: 40 })
    store.fault = down
    for (let number = 0; number < 5; number++) await expect(reads.fresh('a')).rejects.toThrow(down)
    await expect(reads.fresh('a')).rejects.toThrow('left alone')
    expect(store.asked).toHaveLength(5)
    expect(outcomes).toEqual(Array.from({ length: 6 }, () => 'unreachable'))
    store.fault = undefined
    vi.setSystemTime(Date.now() + 39)
    await expect(reads.fresh('a')).rejects.toThrow('left alone')
    vi.setSystemTime(Date.now() + 1)
    expect(seen(await reads.fresh('a'))).toEqual(['one', false])
    expect(store.asked).toHaveLength(6)
  })

  test('that says no is not left alone: it works', async () => {
    const { reads, store } = reader()
    store.fault = new StoreFault('denied', 'no')
    for (let number = 0; number < 8; number++) await expect(reads.fresh('a')).rejects.toMatchObject({ kind: 'denied' })
    expect(store.asked).toHaveLength(8)
  })

  test('is not waited for longer than the deadline, although it heeds no signal', async () => {
    const { reads, store } = reader({ deadlineMs: 30 })
    store.waits = new Promise(() => undefined)
    await expect(reads.fresh('a')).rejects.toMatchObject({ kind: 'down', reason: 'it did not answer in time' })
  })

  test('is left alone, too, when it is one that does not answer', async () => {
    const { reads, store } = reader({ deadlineMs: 1 })
    store.waits = new Promise(() => undefined)
    for (let number = 0; number < 5; number++) await expect(reads.fresh('a')).rejects.toThrow('in time')
    await expect(reads.fresh('a')).rejects.toThrow('left alone')
  })

  test('is waited for by so many, and no more', async () => {
    const { reads, store } = reader()
    const answered = Promise.withResolvers<void>()
    store.waits = answered.promise
    const asking = Array.from({ length: 16 + 256 }, (_, number) => reads.read(`${number}`, 0))
    await expect(reads.read('one more', 0)).rejects.toMatchObject({ kind: 'down', reason: 'too many requests wait for it' })
    expect(store.asked).toHaveLength(16)
    answered.resolve()
    expect(await Promise.all(asking)).toHaveLength(16 + 256)
  })
})

test('what somebody else changed is not overwritten', async () => {
  const { reads, store } = reader()
  const { version } = await reads.read('a', 0)
  store.version = '7'
  await expect(reads.replace('a', { fields: { key: new Secret('mine') } }, version)).rejects.toMatchObject({ kind: 'conflict' })
  expect(store.value).toBe('one')
})

test('what the broker only reads is not replaced', async () => {
  const { open } = scripted()
  const { replace: _, ...readOnly } = open
  const reads = openReader(readOnly, { monotonic: testWorld().monotonic, deadlineMs: PATIENCE_MS })
  const replaced = reads.replace('a', { fields: { key: new Secret('mine') } }, '1')
  await expect(replaced).rejects.toMatchObject({ kind: 'denied', reason: 'the store is read-only' })
})
