import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { keyOf, openReuse } from '../../engine/issue/reuse.ts'
import { Secret } from '../../engine/secret.ts'
import { alive } from '../fakes/heap.ts'
import { testWorld } from '../fakes/world.ts'

// How long credentials that may be given again are in memory. When they are given, and for what: exchange.test.ts.

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

function opened() {
  const world = testWorld()
  const { of } = openReuse(world.now)
  const make = async (name: string, lifeSeconds: number) => {
    const expiresAt = world.now() / 1000 + lifeSeconds
    const credential = { fields: { token: new Secret(name) }, tokenType: 'Bearer' as const, expiresAt, granted: {} }
    return new WeakRef((await of({ name }, lifeSeconds, async () => credential)).credential)
  }
  const pass = (ms: number) => {
    world.pass(ms)
    vi.advanceTimersByTime(ms)
  }
  return { make, pass }
}

test('a credential is kept while it may be given, and gone when half of its life is over, whether or not anybody asks', async () => {
  const { make, pass } = opened()
  const [short, long] = [await make('short', 600), await make('long', 3600)]
  pass(299_000)
  expect([await alive([short]), await alive([long])]).toEqual([1, 1])
  pass(2_000)
  expect([await alive([short]), await alive([long])]).toEqual([0, 1])
})

test('one that ended before it came is not kept', async () => {
  const { make } = opened()
  expect(await alive([await make('late', -5)])).toBe(0)
})

test('one that lives for longer than a timer counts is kept, and no timer runs out at once for it', async () => {
  const delays = vi.spyOn(globalThis, 'setTimeout')
  const { make, pass } = opened()
  const one = await make('of a year', 365 * 86_400)
  pass(86_400_000)
  expect(await alive([one])).toBe(1)
  expect(delays.mock.calls.filter(([, ms = 0]) => ms >= 2 ** 31)).toEqual([])
})

test('where the clock goes back it is not known how young one is, and it is not given again', async () => {
  const world = testWorld()
  const { of } = openReuse(world.now)
  const expiresAt = world.now() / 1000 + 600
  const ask = async () => (await of({}, 600, async () => ({ fields: {}, expiresAt, granted: {} }))).reused
  expect([await ask(), await ask()]).toEqual([false, true])
  world.step(-1)
  expect(await ask()).toBe(false)
})

test('two decisions are one when nothing but the order of their members differs', () => {
  const [one, other] = [
    { a: 1, b: [{ c: 'x', d: null }, 2] },
    { b: [{ d: null, c: 'x' }, 2], a: 1 },
  ]
  expect(keyOf(one)).toBe(keyOf(other))
  const others = [one, { ...one, a: '1' }, { ...one, b: [2, { c: 'x', d: null }] }, { a: 1 }, { ...one, e: 1 }]
  expect(new Set(others.map(keyOf)).size).toBe(others.length)
})
