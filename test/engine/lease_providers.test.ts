import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { issue, living, openProcess, outside, type Process, passes } from '../fakes/leases.ts'

// Leases whose provider takes a call and does not answer.

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** Lets so many seconds pass on every clock, and what follows from it happen. */
async function wait({ world }: Process, seconds: number): Promise<void> {
  world.pass(seconds * 1000)
  await vi.advanceTimersByTimeAsync(seconds * 1000)
  for (let turns = 0; turns < 50; turns++) await turn()
}

/** A provider that hangs once it is told to; how many calls it has taken since. */
async function hanging() {
  const out = outside()
  const process = await openProcess(out, { turns: true })
  const calls: string[] = []
  const hang = () => {
    out.hold = async (call, credential) => {
      if (call !== 'revoke') return
      calls.push(credential)
      await Promise.withResolvers().promise
    }
  }
  return { out, process, calls, hang }
}

for (const how of [{ sync: true }, { force: true }])
  test(`who waits for many leases to end waits for one call, not for each (${Object.keys(how)[0]})`, async () => {
    const { process, hang } = await hanging()
    for (let count = 0; count < 150; count++) await issue(process)
    hang()
    let ended: unknown
    void process.leases.revokeWhere({ prefix: 'broker/' }, how).then(found => {
      ended = found
    })
    for (let seconds = 0; seconds <= 40; seconds += 5) await wait(process, 5)
    expect(ended).toEqual({ found: 150, left: 'force' in how ? 0 : 150 })
  })

test('one call sees whether it is back, whatever is to be ended meanwhile', async () => {
  const { out, process, calls, hang } = await hanging()
  const leases = await Promise.all(Array.from({ length: 20 }, () => issue(process)))
  out.up = false
  await process.leases.revoke(leases[0]?.leaseId ?? '')
  await wait(process, 1)
  expect(out.revocations).toBe(1)
  hang()
  await wait(process, 20)
  for (const { leaseId } of leases) await process.leases.revoke(leaseId)
  await wait(process, 1)
  expect(calls).toHaveLength(1)
  out.hold = undefined
  out.up = true
  await wait(process, 40)
  vi.useRealTimers()
  await passes(process, 60)
  expect(living(out)).toBe(0)
})

test('a process that is stopped ends what it has begun to revoke, and leaves the rest to others', async () => {
  vi.useRealTimers()
  const { out, process } = await hanging()
  for (let count = 0; count < 100; count++) await issue(process)
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  out.hold = call => (call === 'revoke' ? opened : Promise.resolve())
  await process.leases.revokeWhere({ prefix: 'broker/' })
  const stopped = process.leases.stop()
  open()
  await stopped
  expect(living(out)).toBeGreaterThan(50)
  expect(living(out)).toBeLessThan(100)
  const next = await openProcess(out, { world: process.world })
  await passes(next, 10)
  expect(living(out)).toBe(0)
})
