import { describe, expect, test } from 'vitest'
import { asked, type Death, issue, living, type Outside, openProcess, outside, passes, rest } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// Leases whose process dies, and leases by the hundred.

describe('a process that dies at any step', () => {
  /** One issue that may be cut short; what the caller got of it. */
  async function dying(out: Outside, death: Death, end: 'expires' | 'is revoked' | 'is renewed') {
    const process = await openProcess(out, { death }).catch(() => undefined)
    if (!process) return { got: undefined, steps: 0, world: testWorld() }
    const got = await issue(process, { request: 'r' }).catch(() => undefined)
    if (got && end === 'is renewed') await process.leases.renew(got.leaseId, 1800).catch(() => undefined)
    if (got && end === 'is revoked') await process.leases.revoke(got.leaseId, { sync: true }).catch(() => undefined)
    return { got, steps: process.steps(), world: process.world }
  }

  for (const end of ['expires', 'is revoked', 'is renewed'] as const) {
    for (const when of ['before', 'after'] as const) {
      test(`${when} it takes effect, when the lease ${end}: nothing lives that nobody answers for, and nothing stays`, async () => {
        const { steps: all } = await dying(outside(), { step: -1, when }, end)
        expect(all).toBeGreaterThan(5)
        for (let step = 1; step <= all; step++) {
          const out = outside()
          const { got, world } = await dying(out, { step, when }, end)
          const next = await openProcess(out, { world })
          await passes(next, 130)
          const answeredFor = (await next.leases.list('broker/creds/deploy')).length
          expect({ step, living: living(out) }).toEqual({ step, living: answeredFor })
          if (got !== undefined && end !== 'is revoked') expect({ step, answeredFor }).toEqual({ step, answeredFor: 1 })
          await passes(next, 1800)
          expect({ step, living: living(out) }).toEqual({ step, living: 0 })
          await passes(next, 130)
          expect({ step, rest: rest(out) }).toEqual({ step, rest: [] })
        }
      })
    }
  }
})

test('a record whose name was not written yet when its process was killed is put in order by tidy', async () => {
  const out = outside()
  const killed = await openProcess(out)
  await killed.leases.begin(asked())
  await killed.leases.stop()
  for (const name of rest(out).filter(path => path.startsWith('leases/due/'))) out.kept.delete(name)
  const next = await openProcess(out, { world: killed.world })
  expect(await next.leases.list('broker/creds/deploy')).toEqual([])
  await next.leases.tidy()
  await passes(next, 130)
  expect(rest(out)).toEqual([])
})

describe('many leases', () => {
  const MANY = 250
  /** Issues so many, and lets a process that may die put their names together. */
  async function packing(out: Outside, death?: Death) {
    const first = await openProcess(out)
    await Promise.all(Array.from({ length: MANY }, () => issue(first)))
    await first.leases.stop()
    const second = await openProcess(out, { world: first.world, ...(death ? { death } : {}) })
    first.world.pass(71_000)
    // once to give them the names of their ends, once to put these together
    for (let round = 0; round < 3; round++) await second.leases.sweep().catch(() => undefined)
    await second.leases.stop()
    return second
  }
  const folders = (out: Outside) => Object.groupBy(rest(out), path => path.split('/')[1] ?? '')

  test('have their names together, and are known, ended and forgotten like few', async () => {
    const out = outside()
    const { world } = await packing(out)
    expect(folders(out)).toMatchObject({ pack: [expect.stringMatching(/^leases\/pack\/\d+\./) as string] })
    expect(folders(out)['due'] ?? []).toEqual([])
    const next = await openProcess(out, { world })
    expect(next.observed.held()).toBe(MANY)
    const ids = await next.leases.list('broker/creds/deploy')
    expect(ids).toHaveLength(MANY)
    await next.leases.revoke(`broker/creds/deploy/${ids[0]}`, { sync: true })
    await next.leases.renew(`broker/creds/deploy/${ids[1]}`, 1800)
    expect(living(out)).toBe(MANY - 1)
    await passes(next, 900)
    expect(living(out)).toBe(1)
    await passes(next, 1100)
    expect(rest(out)).toEqual([])
  })

  test('are lost by no death while they are put together', async () => {
    const all = (await packing(outside())).steps()
    // the first steps are its start
    for (const when of ['before', 'after'] as const)
      for (let step = 10; step <= all; step += 61) {
        const out = outside()
        const { world } = await packing(out, { step, when })
        const next = await openProcess(out, { world })
        await next.leases.sweep()
        await next.leases.sweep()
        expect({ step, held: (await next.leases.list('broker/creds/deploy')).length }).toEqual({ step, held: MANY })
        await passes(next, 1100)
        expect({ step, living: living(out), rest: rest(out) }).toEqual({ step, living: 0, rest: [] })
      }
  })
})
