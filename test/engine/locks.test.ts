import { afterEach, describe, expect, test, vi } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
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

  test('work that goes on for long is let be, as its replica says that it goes on', async () => {
    const renewing = timers()
    const going = goesOn('long')
    await going.started
    let isIn = false
    const next = replica().alone('long', async () => {
      isIn = true
    })
    const store = openStore(vault, 'assay', world.monotonic)
    const before = (await store.fresh('long'))?.version ?? 0
    for (let renewal = 1; renewal <= 12; renewal++) {
      world.pass(5_000)
      renewing.advance(5_000)
      await until('it is written again', async () => (await store.fresh('long'))?.version === before + renewal)
    }
    await looks(store, 'long')
    expect(isIn).toBe(false)
    going.go()
    expect(await going.done).toBe('done')
    await next
  })

  test('and who waited for it gets in when it is done, whatever it was about to write', async () => {
    const renewing = timers()
    const going = goesOn('written')
    await going.started
    renewing.advance(5_000)
    going.go()
    expect(await going.done).toBe('done')
    const store = openStore(vault, 'assay', world.monotonic)
    expect((await store.fresh('written'))?.value).toEqual({ owner: '' })
  })

  test('an outage of Vault is not held against who could not write in it', async () => {
    timers()
    const going = goesOn('outage')
    await going.started
    const store = openStore(vault, 'assay', world.monotonic)
    let isDown = false
    const fresh: Store['fresh'] = async path => {
      if (isDown) throw new BrokerError('unavailable', 'the vault server is sealed or not active')
      return store.fresh(path)
    }
    const other = openLocks({ ...store, fresh }, world)
    let isIn = false
    const enter = () =>
      other.alone('outage', async () => {
        isIn = true
      })
    const asked = enter()
    await looks(store, 'outage')
    isDown = true
    await expect(asked).rejects.toThrow('sealed')
    world.pass(30_001)
    isDown = false
    const again = enter()
    await looks(store, 'outage')
    expect(isIn).toBe(false)
    going.go()
    await Promise.all([going.done, again])
  })

  test('work that never ends is left, and keeps nobody out for ever', async () => {
    const renewing = timers()
    const store = openStore(vault, 'assay', world.monotonic)
    const started = Promise.withResolvers<void>()
    const never = replica().alone('never', () => {
      started.resolve()
      return new Promise<never>(() => {})
    })
    const left = expect(never).rejects.toThrow('the work on this took too long: try again')
    await started.promise
    world.pass(300_001)
    renewing.advance(5_000)
    await left
    await until('it is written once more', async () => (await store.fresh('never'))?.version === 2)
    renewing.advance(5_000)
    const next = replica().alone('never', async () => 'in')
    await looks(store, 'never')
    world.pass(30_001)
    expect(await next).toBe('in')
  })
})

describe('what only one may send is sent', () => {
  test('within twenty seconds', async () => {
    const renewing = timers()
    const said = await replica().alone('twenty', async hold => {
      const store = openStore(vault, 'assay', world.monotonic)
      for (let renewal = 1; renewal <= 4; renewal++) {
        world.pass(5_000)
        renewing.advance(5_000)
        await until('it is written again', async () => (await store.fresh('twenty'))?.version === 1 + renewal)
      }
      const before = refusalOf(hold)
      world.pass(1)
      return [before, refusalOf(hold)]
    })
    expect(said).toEqual(['', 'the work on this took too long: try again'])
  })

  test('while it is certain that nobody else works on this: not by a replica that stood still, or does not reach Vault', async () => {
    timers()
    const said = await replica().alone('still', async hold => {
      world.pass(15_000)
      const before = refusalOf(hold)
      world.pass(1)
      return [before, refusalOf(hold)]
    })
    expect(said).toEqual(['', 'it is not certain that no other replica works on this: try again'])
  })

  test('not by one whose lock another took', async () => {
    const renewing = timers()
    const store = openStore(vault, 'assay', world.monotonic)
    const said = await replica().alone('lost', async hold => {
      await store.put('lost', { owner: 'another' })
      const asked = vault.asked.length
      renewing.advance(5_000)
      await until('it looked', async () => vault.asked.length > asked)
      world.pass(15_001)
      return refusalOf(hold)
    })
    expect(said).toBe('it is not certain that no other replica works on this: try again')
    expect((await store.fresh('lost'))?.value).toEqual({ owner: 'another' })
  })
})

/** Renewals at the times of the test alone. */
function timers() {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  return { advance: (ms: number) => vi.advanceTimersByTime(ms) }
}

/** Work at a replica of its own that goes on until a test lets it end. */
function goesOn(name: string) {
  const [started, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const done = replica().alone(name, async () => {
    started.resolve()
    await end.promise
    return 'done'
  })
  return { started: started.promise, go: end.resolve, done }
}

function refusalOf(hold: () => void): string {
  try {
    hold()
    return ''
  } catch (error) {
    return (error as Error).message
  }
}
