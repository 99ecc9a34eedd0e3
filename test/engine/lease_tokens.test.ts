import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import type { Ledger } from '../../engine/leases/ledger.ts'
import { openTokenWatch } from '../../engine/leases/tokens.ts'
import { inParallel } from '../../engine/parallel.ts'
import { issue, living, openProcess, outside } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

/** Leases of so many tokens. */
const ledgerOf = (count: number) =>
  ({
    calendar: { accessors: () => new Map(Array.from({ length: count }, (_, at) => [`tag ${at}`, `id ${at}`])) },
    read: async (id: string) => ({ value: { accessor: id }, version: 1 }),
  }) as unknown as Ledger

test('a Vault that answers so many questions at a time hears of all tokens in time, also when it says nothing of one of them', async () => {
  let left = 0
  const asked = new Set<string>()
  const tokens = async (accessor: string) => {
    if (left-- <= 0 || accessor === 'id 7') throw new BrokerError('unavailable', 'the vault server limits the rate of requests')
    asked.add(accessor)
    return { alive: false } as const
  }
  const watch = openTokenWatch(ledgerOf(105), tokens, testWorld(), async () => undefined)
  for (let round = 0; round < 14; round++) {
    left = 20
    await watch()
    await setImmediate()
  }
  expect(asked.size).toBe(104)
})

test('a look asks about each token once, about sixteen at a time', async () => {
  const asked: string[] = []
  let [now, most] = [0, 0]
  const tokens = async (accessor: string) => {
    asked.push(accessor)
    most = Math.max(most, ++now)
    await setImmediate()
    now--
    return { alive: true, ttlSeconds: 1 } as const
  }
  await openTokenWatch(ledgerOf(105), tokens, testWorld(), async () => undefined)()
  expect(asked.toSorted()).toEqual(Array.from({ length: 105 }, (_, at) => `id ${at}`).toSorted())
  expect(most).toBe(16)
})

describe('a token that is revoked at Vault itself', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
  afterEach(() => void vi.useRealTimers())

  test.each([0, 1, 2, 3, 4])('takes its leases with it within five seconds, %i seconds after the start', async seconds => {
    const out = outside()
    const process = await openProcess(out, { turns: true })
    const wait = async (ms: number) => {
      process.world.pass(ms)
      await vi.advanceTimersByTimeAsync(ms)
    }
    await issue(process)
    await wait(seconds * 1000)
    out.tokens.set('accessor-1', { alive: false })
    for (let passed = 0; passed < 5; passed++) await wait(1000)
    expect(living(out)).toBe(0)
    await process.leases.stop()
  })
})

test('after one of them fails none is begun any more', async () => {
  const begun: number[] = []
  const work = inParallel([1, 2, 3, 4, 5, 6], 2, async one => {
    begun.push(one)
    await setImmediate()
    if (one === 2) throw new Error('two')
  })
  await expect(work).rejects.toThrow('two')
  await setImmediate()
  await setImmediate()
  expect(begun).toEqual([1, 2, 3])
})

test('who asks waits for one look that began after the question, however many ask after that', async () => {
  const looks: (() => void)[] = []
  const alive = { alive: true, ttlSeconds: 1 } as const
  const tokens = () => new Promise<typeof alive>(resolve => looks.push(() => resolve(alive)))
  const watch = openTokenWatch(ledgerOf(1), tokens, testWorld(), async () => undefined)
  const answered: string[] = []
  const ask = (name: string) => void watch().then(() => answered.push(name))
  const begun = (count: number) => expect.poll(() => looks.length).toBe(count)

  ask('first')
  await begun(1)
  for (const [look, next, done] of [
    [0, 'second', ['first']],
    [1, 'third', ['first', 'second']],
    [2, 'fourth', ['first', 'second', 'third']],
  ] as const) {
    ask(next)
    expect(answered).toEqual(done.slice(0, -1))
    looks[look]?.()
    await begun(look + 2)
    expect(answered).toEqual(done)
  }
  looks[3]?.()
})
