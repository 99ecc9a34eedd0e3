import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { issue, living, type Outside, openProcess, outside, passes, rest } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// What a process knows of leases while it, or another one, changes what is in the store.

/** Once it is shut, holds calls of this form until it is opened. */
function gateAt(form: RegExp) {
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>()
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  let isShut = false
  const hold = async (call: string, path: string) => {
    if (!isShut || !form.test(`${call} ${path}`)) return
    reach()
    await opened
  }
  const shut = () => {
    isShut = true
  }
  return { hold, shut, reached, open }
}

const MANY = 250

describe('names that are put together', () => {
  /** A process that has issued many leases and gave each the name of its end, and another one. */
  async function many(hold: Outside['hold']) {
    const out = outside()
    const world = testWorld()
    const one = await openProcess({ ...out, hold }, { world })
    await Promise.all(Array.from({ length: MANY }, () => issue(one)))
    world.pass(71_000)
    await one.leases.sweep()
    return { out, one, other: await openProcess(out, { world }) }
  }
  const packs = (paths: readonly string[]) => paths.filter(path => path.startsWith('leases/pack/')).length

  test('are known to a process that looked while they stood alone as well', async () => {
    const gate = gateAt(/^delete leases\/due/)
    const { out, one, other } = await many(gate.hold)
    gate.shut()
    const put = one.leases.sweep()
    await gate.reached
    expect(packs(rest(out))).toBe(1)
    expect(await other.leases.list('broker/creds/deploy')).toHaveLength(MANY)
    gate.open()
    await put
    expect(await other.leases.list('broker/creds/deploy')).toHaveLength(MANY)
    await one.leases.stop()
    await passes(other, 1000)
    expect(living(out)).toBe(0)
    await passes(other, 200)
    expect(rest(out)).toEqual([])
  })

  test('are known to the process that looked while it put them together', async () => {
    const packing = gateAt(/^put leases\/pack/)
    const looking = gateAt(/^listed leases\/due\/\d/)
    const { out, one, other } = await many(async (call, path) => {
      await packing.hold(call, path)
      await looking.hold(call, path)
    })
    await other.leases.stop()
    packing.shut()
    const put = one.leases.sweep()
    await packing.reached
    looking.shut()
    const looked = one.leases.list('')
    await looking.reached
    packing.open()
    await put
    looking.open()
    await looked
    expect(await one.leases.list('broker/creds/deploy')).toHaveLength(MANY)
    await passes(one, 1000)
    expect(living(out)).toBe(0)
  })
})

test('a look that began before a lease was given out does not answer who asks after that', async () => {
  const out = outside()
  const world = testWorld()
  const gate = gateAt(/^listed leases\/due\//)
  const [one, other] = [await openProcess({ ...out, hold: gate.hold }, { world }), await openProcess(out, { world })]
  gate.shut()
  const before = one.leases.list('')
  await gate.reached
  await issue(other)
  const ended = one.leases.revokeWhere({ prefix: 'broker/' }, { sync: true })
  gate.open()
  await before
  expect(await ended).toEqual({ found: 1, left: 0 })
  expect(living(out)).toBe(0)
})

test('what another replica issued a moment ago is listed nowhere once it was revoked', async () => {
  const out = outside()
  const world = testWorld()
  const [one, other] = [await openProcess(out, { world }), await openProcess(out, { world })]
  const { leaseId } = await issue(one)
  expect(await other.leases.revoke(leaseId, { sync: true })).toBe(0)
  expect(await other.leases.list('broker')).toEqual([])
  expect(await one.leases.list('broker')).toEqual([])
  expect(rest(out)).toEqual([])
})

test('a process that was held up for an hour in the middle of a look looks again in minutes', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const out = outside()
  const world = testWorld()
  const gate = gateAt(/^listed leases\/due\//)
  const other = await openProcess(out, { world })
  const one = await openProcess({ ...out, hold: gate.hold }, { world, turns: true })
  gate.shut()
  await vi.advanceTimersByTimeAsync(5_000)
  await gate.reached
  world.pass(3_600_000)
  gate.open()
  // the look ends with what was there when it began
  for (let turns = 0; turns < 50; turns++) await turn()
  await issue(other)
  await vi.advanceTimersByTimeAsync(4_000)
  expect(one.observed.held()).toBe(0)
  await vi.advanceTimersByTimeAsync(600_000)
  expect(one.observed.held()).toBe(1)
})
