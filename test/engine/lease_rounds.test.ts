import { describe, expect, test } from 'vitest'
import { issue, living, type Outside, openProcess, outside, passes, rest } from '../fakes/leases.ts'
import { until } from '../harness/process.ts'

// A round that looks at what is due while a revocation is accepted: its name is written already, its record is not.

/** Holds the first call of this kind in a folder. `held` says that it waits. */
function holding(out: Outside, kind: 'put' | 'got', folder = 'leases/record/') {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  let waits = false
  out.hold = async (call, path) => {
    if (waits || call !== kind || !path.startsWith(folder)) return
    waits = true
    await released
  }
  return { held: () => until(`a ${kind} to be held`, async () => waits), release }
}
/** What was accepted has a name that is due now. */
const named = (out: Outside, now: number) =>
  rest(out).some(path => path.startsWith('leases/due/') && path.includes(`.${Math.floor(now / 1000).toString(36)}.`))

describe('a revocation that is accepted while a round looks at its lease', () => {
  test('is made, when the round read the record before it was written', async () => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process)
    const write = holding(out, 'put')
    const revoked = process.leases.revoke(leaseId, { sync: true })
    await write.held()
    await process.leases.sweep()
    write.release()
    expect(await revoked).toBe(0)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('is made, when the reply to the round comes after it was written', async () => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process)
    await process.leases.sweep() // knows the token from now on, and reads the record for nothing else
    const write = holding(out, 'put')
    const accepted = process.leases.revoke(leaseId)
    await write.held()
    const read = holding(out, 'got')
    const swept = process.leases.sweep()
    await read.held()
    write.release()
    await accepted
    read.release()
    await swept
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('is made by the next process when this one dies, although another replica looked in between', async () => {
    const out = outside()
    const first = await openProcess(out)
    const { leaseId } = await issue(first)
    const write = holding(out, 'put')
    out.up = false
    const accepted = first.leases.revoke(leaseId)
    await write.held()
    const other = await openProcess(out, { world: first.world })
    await other.leases.sweep()
    expect(named(out, first.world.now())).toBe(true)
    write.release()
    await accepted
    await Promise.all([first.leases.stop(), other.leases.stop()])
    out.up = true
    const next = await openProcess(out, { world: first.world })
    await passes(next, 60)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })
})

test('a lease that is being written is not forgotten by a list that does not have it yet', async () => {
  const out = outside()
  const process = await openProcess(out)
  const name = holding(out, 'put', 'leases/due/')
  const issued = issue(process)
  await name.held()
  expect(await process.leases.list('broker/creds/deploy')).toHaveLength(1)
  name.release()
  await issued
})
