import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { openLimiter, rates } from '../../engine/rate.ts'
import { heapUsed } from '../fakes/heap.ts'
import { testWorld } from '../fakes/world.ts'

function begun() {
  const world = testWorld()
  const limit = openLimiter(world.monotonic)
  const passes = (name: keyof typeof rates, key?: string) => {
    try {
      limit(name, key)
      return true
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'rate_limited') return false
      throw error
    }
  }
  const count = (name: keyof typeof rates, tries: number, key?: string) =>
    Array.from({ length: tries }, () => passes(name, key)).filter(Boolean).length
  return { world, passes, count }
}

describe.each(Object.entries(rates))('%s', (name, { burst, perSecond, of }) => {
  const rate = name as keyof typeof rates

  test('lets a burst through, then its rate', () => {
    const { world, count } = begun()
    expect(count(rate, burst + 50, 'one')).toBe(burst)
    for (let second = 0; second < 5; second++) {
      world.pass(1000)
      expect(count(rate, perSecond + 50, 'one')).toBe(perSecond)
    }
  })

  test('is a whole burst again after a rest', () => {
    const { world, count } = begun()
    count(rate, burst, 'one')
    world.pass((burst / perSecond) * 1000)
    expect(count(rate, burst + 50, 'one')).toBe(burst)
  })

  test('over ten seconds of asking a thousand times a second, is its burst and its rate', () => {
    const { world, count } = begun()
    let passed = 0
    for (let tick = 0; tick < 100; tick++) {
      passed += count(rate, 100, 'one')
      world.pass(100)
    }
    expect(passed).toBeGreaterThanOrEqual(10 * perSecond)
    expect(passed).toBeLessThanOrEqual(burst + 10 * perSecond)
  })

  test('of one key is not that of another', () => {
    const { count } = begun()
    count(rate, burst + 50, 'one')
    expect(count(rate, burst, 'other')).toBe(burst)
  })

  test('says what was too much', () => {
    const { world } = begun()
    const limit = openLimiter(world.monotonic)
    for (let index = 0; index < burst; index++) limit(rate)
    expect(() => limit(rate)).toThrow(new BrokerError('rate_limited', `too many ${of}: try again in a second`))
  })
})

test('a wall clock that steps changes nothing', () => {
  const { world, count } = begun()
  count('offersOfEk', 10, 'one')
  world.step(3_600_000)
  expect(count('offersOfEk', 10, 'one')).toBe(0)
})

test('a flood of keys takes no memory from a point on', () => {
  const { passes } = begun()
  const flood = (from: number) => {
    for (let index = from; index < from + 50_000; index++) passes('challengesOfAk', `key ${index}`.padEnd(132, '0'))
    return heapUsed()
  }
  const before = flood(0)
  expect(flood(50_000) - before).toBeLessThan(2 ** 20)
})

test('the page on trust has the limits of this table, and no other', async () => {
  const page = await readFile(join(import.meta.dirname, '../../docs/trust.md'), 'utf8')
  const told = page.match(/<!-- limits:start -->\n.*\n.*\n((?:.*\n)*?)<!-- limits:end -->/)?.[1]
  const made = Object.values(rates).map(({ of, burst, perSecond }) => `| ${of} | ${burst} | ${perSecond} |\n`)
  expect(told).toBe(made.join(''))
})
