import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { asked, issue, living, type Outside, openProcess, outside, passes, rest, turning } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// Leases of which something is to be written while the store is away.

const away = (out: Outside, folder = 'leases/') => {
  out.hold = async (_, path) => {
    if (path.startsWith(folder)) throw new BrokerError('unavailable', 'vault is sealed')
  }
}
const hour = ({ now }: { now: () => number }) => now() / 1000 + 3600

describe('a credential that cannot be recorded', () => {
  test('is ended when the store is back, where its provider could not be asked either', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    const request = asked()
    const begun = await process.leases.begin(request)
    const handle = await process.provide(request.txn)
    out.up = false
    away(out)
    await expect(begun.confirm(handle, hour(process.world))).rejects.toThrow('vault is sealed')
    await expect(process.leases.sweep()).rejects.toThrow('vault is sealed')
    expect(living(out)).toBe(1)
    out.hold = undefined
    out.up = true
    await passes(process, 60)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('is ended at once where its provider answers, and nothing of it stays when the store is back', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    const request = asked()
    const begun = await process.leases.begin(request)
    const handle = await process.provide(request.txn)
    away(out)
    await expect(begun.confirm(handle, hour(process.world))).rejects.toThrow('vault is sealed')
    expect(living(out)).toBe(0)
    out.hold = undefined
    await passes(process, 60)
    expect(rest(out)).toEqual([])
  })

  test('is recorded by a process that is stopped, for the next one', async () => {
    const out = outside()
    out.findable = false
    const world = testWorld()
    const process = await openProcess(out, { world })
    const request = asked()
    const begun = await process.leases.begin(request)
    const handle = await process.provide(request.txn)
    out.up = false
    away(out)
    await expect(begun.confirm(handle, hour(world))).rejects.toThrow('vault is sealed')
    out.hold = undefined
    await process.leases.stop()
    out.up = true
    await passes(await openProcess(out, { world }), 60)
    expect([living(out), rest(out)]).toEqual([0, []])
  })

  test('because the same request took its place is ended, and what that one got is not', async () => {
    const out = outside()
    const process = await openProcess(out)
    const request = asked({ request: 'the same' })
    const slow = await process.leases.begin(request)
    await turning(process, process.leases.revoke(slow.leaseId, { force: true }))
    const next = await issue(process, { request: 'the same' })
    expect(next.leaseId).toBe(slow.leaseId)
    const handle = await process.provide(request.txn)
    out.up = false
    await expect(slow.confirm(handle, hour(process.world))).rejects.toThrow(/revoked while it was made/)
    out.up = true
    await passes(process, 60)
    expect([out.alive.get(handle['credential'] ?? ''), out.alive.get(next.credential)]).toEqual([false, true])
  })
})

describe('a lease of which nothing was made', () => {
  test('goes when the store is back: what the provider refused is told all the same', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    const begun = await process.leases.begin(asked())
    away(out)
    await begun.abandon(true)
    out.hold = undefined
    await passes(process, 70)
    expect(rest(out)).toEqual([])
  })

  test('since half of it was not written, goes too', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    away(out, 'leases/due/')
    await expect(process.leases.begin(asked())).rejects.toThrow('vault is sealed')
    out.hold = undefined
    expect(rest(out)).toHaveLength(1)
    await passes(process, 70)
    expect(rest(out)).toEqual([])
  })

  test('does not take away what the same request got in its place', async () => {
    const out = outside()
    const process = await openProcess(out)
    const begun = await process.leases.begin(asked({ request: 'the same' }))
    await turning(process, process.leases.revoke(begun.leaseId, { force: true }))
    const { leaseId } = await issue(process, { request: 'the same' })
    await begun.abandon(true)
    expect(await process.leases.lookup(leaseId)).toMatchObject({ state: 'active' })
  })
})
