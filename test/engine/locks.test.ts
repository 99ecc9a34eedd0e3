import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Locks, openLocks } from '../../engine/integrations/locks.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'

// Replicas share nothing but what is in KV: each has its own store and its own lock.
const world = testWorld()
const vault = fakeTransit()
const replica = (): Locks => openLocks(openStore(vault, 'assay', world.monotonic), world)
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** So long that who waits has looked, too. */
async function looks(store: Store, name: string): Promise<void> {
  for (let look = 0; look < 3; look++) await store.fresh(name)
}

/** Work that notes how many go on at once, and lets the others run meanwhile. */
function counting() {
  const seen = { now: 0, most: 0, done: 0 }
  const work = async () => {
    seen.now += 1
    seen.most = Math.max(seen.most, seen.now)
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    seen.now -= 1
    seen.done += 1
  }
  return { seen, work }
}

describe('of those who want to work on one integration', () => {
  test('one does at a time, at whichever replica they are', async () => {
    const { seen, work } = counting()
    const replicas = [replica(), replica(), replica()]
    await Promise.all(replicas.flatMap(({ alone }) => Array.from({ length: 6 }, () => alone('one', work))))
    expect(seen).toEqual({ now: 0, most: 1, done: 18 })
  })

  test('and on another one, another', async () => {
    const { seen, work } = counting()
    const [here, there] = [replica(), replica()]
    await Promise.all([here.alone('a', work), there.alone('b', work)])
    expect(seen.most).toBe(2)
  })

  test('the next is let in although the one before failed', async () => {
    const [here, there] = [replica(), replica()]
    const failed = here.alone('fails', async () => Promise.reject(new Error('no')))
    await expect(failed).rejects.toThrow('no')
    expect(await there.alone('fails', async () => 'in')).toBe('in')
  })

  test('a replica that died keeps nobody out for longer than work may take', async () => {
    const store = openStore(vault, 'assay', world.monotonic)
    await store.put('dead', { owner: 'gone' }, 0)
    const waiting = replica().alone('dead', async () => 'in')
    await looks(store, 'dead')
    world.pass(30_001)
    expect(await waiting).toBe('in')
  })

  test('nobody is let in because the wall clock of a replica is ahead, or jumps', async () => {
    const started = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const works = replica().alone('ahead', async () => {
      started.resolve()
      await go.promise
    })
    await started.promise
    const ahead = testWorld({ start: world.now() + 60_000 })
    const store = openStore(vault, 'assay', ahead.monotonic)
    let [isIn, looked] = [false, 0]
    const fresh: Store['fresh'] = path => {
      looked += 1
      return store.fresh(path)
    }
    const waiting = openLocks({ ...store, fresh }, ahead).alone('ahead', async () => {
      isIn = true
    })
    await until('it looked', async () => looked > 1)
    ahead.step(3_600_000)
    const before = looked
    await until('it looked again', async () => looked > before + 1)
    expect(isIn).toBe(false)
    go.resolve()
    await Promise.all([works, waiting])
    expect(isIn).toBe(true)
  })

  test('who does not get in within its time is told so', async () => {
    const store = openStore(vault, 'assay', world.monotonic)
    await store.put('busy', { owner: 'somebody' }, 0)
    // each look at the clock is half a minute after the one before
    let late = 0
    vi.spyOn(performance, 'now').mockImplementation(() => {
      late += 30_000
      return late
    })
    const waiting = replica().alone('busy', async () => 'in')
    const refused = expect(waiting).rejects.toMatchObject({
      code: 'unavailable',
      message: 'another replica works on this: try again',
    })
    await refused
  })

  test('work that takes too long is left, and goes on alone until it can be taken for dead', async () => {
    const store = openStore(vault, 'assay', world.monotonic)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const started = Promise.withResolvers<void>()
    const never = replica().alone('slow', () => {
      started.resolve()
      return new Promise<never>(() => {})
    })
    const left = expect(never).rejects.toThrow('the work on this took too long: try again')
    await started.promise
    vi.advanceTimersByTime(20_001)
    await left
    vi.useRealTimers()
    let isIn = false
    const next = replica().alone('slow', async () => {
      isIn = true
      return 'in'
    })
    await looks(store, 'slow')
    expect(isIn).toBe(false)
    world.pass(30_001)
    expect(await next).toBe('in')
  })
})
