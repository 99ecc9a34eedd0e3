import { describe, expect, test } from 'vitest'
import { asked, issue, living, openProcess, outside, passes, rest, turning } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

const LEASE = /^broker\/creds\/deploy\/[0-9A-Za-z]{24}$/

describe('a lease', () => {
  test('has an id in Vault’s form, is listed, and can be looked up while it lives', async () => {
    const process = await openProcess(outside())
    const { leaseId } = await issue(process)
    expect(leaseId).toMatch(LEASE)
    const now = process.world.now() / 1000
    expect(await process.leases.lookup(leaseId)).toMatchObject({ state: 'active', issuedAt: now, expiresAt: now + 900 })
    expect(await process.leases.list('')).toEqual(['broker/'])
    expect(await process.leases.list('broker')).toEqual(['creds/'])
    expect(await process.leases.list('broker/creds/deploy/')).toEqual([leaseId.slice(-24)])
    expect(await process.leases.list('broker/creds/dep')).toEqual([])
    expect(await process.leases.lookup(`broker/creds/other/${leaseId.slice(-24)}`)).toBeUndefined()
    expect(await process.leases.lookup('broker/creds/deploy/nothing')).toBeUndefined()
  })

  test('ends at its provider when it expires, within a round, and leaves nothing behind', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process)
    await passes(process, 899)
    expect(living(out)).toBe(1)
    process.world.pass(1000)
    await process.leases.sweep()
    expect(living(out)).toBe(0)
    expect(process.ended.map(({ how }) => how)).toEqual(['expired'])
    await passes(process, 120)
    expect(rest(out)).toEqual([])
    expect(process.observed.held()).toBe(0)
  })

  test('lives no longer when the wall clock is put back, and not for ever when it jumps ahead', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process)
    process.world.step(-86_400_000)
    await passes(process, 901)
    expect(living(out)).toBe(0)
    await issue(process)
    process.world.step(3 * 86_400_000)
    await process.leases.sweep()
    expect(living(out)).toBe(0)
  })

  test('has its whole life, and no more, when the wall clock was put back before', async () => {
    const out = outside()
    const process = await openProcess(out)
    process.world.step(-86_400_000)
    const { leaseId } = await issue(process)
    const { issuedAt = 0, expiresAt } = (await process.leases.lookup(leaseId)) ?? {}
    expect(expiresAt).toBe(issuedAt + 900)
    await passes(process, 890)
    expect(living(out)).toBe(1)
    await passes(process, 20)
    expect(living(out)).toBe(0)
  })

  test('that seemed to have ended while the wall clock was ahead ends when it does', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process)
    await passes(process, 70)
    out.up = false
    process.world.step(3600_000)
    await process.leases.sweep()
    process.world.step(-3600_000)
    await passes(process, 60)
    out.up = true
    await passes(process, 900)
    expect(living(out)).toBe(0)
  })

  test('of a month is neither ended at once nor never', async () => {
    const out = outside()
    const process = await openProcess(out)
    const month = { ttlSeconds: 32 * 86_400, maxTtlSeconds: 32 * 86_400 }
    const begun = await process.leases.begin(asked(month))
    await begun.confirm(await process.provide('month'), process.world.now() / 1000 + 33 * 86_400)
    await passes(process, 70)
    expect(living(out)).toBe(1)
    process.world.pass(32 * 86_400_000)
    await process.leases.sweep()
    expect(living(out)).toBe(0)
  })

  test('never outlives what its provider gives', async () => {
    const process = await openProcess(outside())
    const begun = await process.leases.begin(asked())
    const now = process.world.now() / 1000
    const lease = await begun.confirm(await process.provide('short'), now + 100)
    expect(lease).toMatchObject({ expiresAt: now + 100, maxExpiresAt: now + 100 })
  })
})

describe('renewal', () => {
  const renewing = async (more = {}) => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process, more)
    return { out, process, leaseId, now: () => process.world.now() / 1000 }
  }

  test('counts the increment from now, may shorten, and gives the first TTL when there is none', async () => {
    const { out, process, leaseId, now } = await renewing()
    await passes(process, 300)
    expect((await process.leases.renew(leaseId, 1200)).lease.expiresAt).toBe(now() + 1200)
    expect((await process.leases.renew(leaseId, 0)).lease.expiresAt).toBe(now() + 900)
    expect((await process.leases.renew(leaseId, 30)).lease.expiresAt).toBe(now() + 30)
    await passes(process, 31)
    expect(living(out)).toBe(0)
    await expect(process.leases.renew(leaseId, 30)).rejects.toThrow('lease not found')
  })

  test('is cut to the maximum and to what is left of the token', async () => {
    const { out, process, leaseId, now } = await renewing()
    const end = now() + 3600
    expect(await process.leases.renew(leaseId, 7200)).toMatchObject({ capped: true, lease: { expiresAt: end } })
    out.tokens.set('accessor-1', { alive: true, ttlSeconds: 60 })
    expect(await process.leases.renew(leaseId, 7200)).toMatchObject({ capped: true, lease: { expiresAt: now() + 60 } })
  })

  test('goes no further than the role says by now, and nowhere without one', async () => {
    const { out, process, leaseId, now } = await renewing()
    out.longest = 400
    await passes(process, 300)
    expect(await process.leases.renew(leaseId, 600)).toMatchObject({ capped: true, lease: { expiresAt: now() + 100 } })
    out.longest = 200
    await expect(process.leases.renew(leaseId, 600)).rejects.toThrow('past the max TTL, cannot renew')
    out.longest = undefined
    await expect(process.leases.renew(leaseId, 600)).rejects.toThrow('could not find role with name "deploy"')
    out.longest = 3600
    expect(await process.leases.renew(leaseId, 600)).toMatchObject({ capped: false, lease: { expiresAt: now() + 600 } })
  })

  test('that lengthens is kept although the calendar still has the earlier end', async () => {
    const { out, process, leaseId } = await renewing()
    await process.leases.renew(leaseId, 1800)
    await passes(process, 1000)
    const next = await openProcess(out, { world: process.world })
    await passes(next, 700)
    expect(living(out)).toBe(1)
    await passes(next, 101)
    expect(living(out)).toBe(0)
  })

  test('of what a batch token asked for does not end it: its end stays where it is', async () => {
    const { out, process, leaseId, now } = await renewing({ accessor: '' })
    const end = now() + 900
    await passes(process, 300)
    expect(await process.leases.renew(leaseId, 1200)).toMatchObject({ capped: true, lease: { expiresAt: end } })
    await process.leases.sweep()
    expect(living(out)).toBe(1)
  })

  test('is refused after the end, of what is revoked, of what is no lease, and of a token that is gone', async () => {
    const { out, process, leaseId } = await renewing()
    await expect(process.leases.renew('broker/creds/deploy/nothing', 1)).rejects.toThrow('lease not found')
    out.tokens.set('accessor-1', { alive: false })
    await expect(process.leases.renew(leaseId, 1)).rejects.toThrow('lease not found')
    out.tokens.delete('accessor-1')
    process.world.pass(900_000)
    await expect(process.leases.renew(leaseId, 1)).rejects.toThrow('lease expired')
    await process.leases.revoke(leaseId)
    await expect(process.leases.renew(leaseId, 1)).rejects.toThrow('lease not found')
  })

  test('twice at once gives one of the two', async () => {
    const { process, leaseId, now } = await renewing()
    await Promise.all([process.leases.renew(leaseId, 100), process.leases.renew(leaseId, 200)])
    const { expiresAt = 0 } = (await process.leases.lookup(leaseId)) ?? {}
    expect([now() + 100, now() + 200]).toContain(expiresAt)
  })
})

describe('a token that is gone', () => {
  test('takes its leases with it, and no other’s', async () => {
    const out = outside()
    const process = await openProcess(out)
    const [own, , other] = [await issue(process), await issue(process), await issue(process, { accessor: 'accessor-2' })]
    await process.leases.sweep()
    expect(living(out)).toBe(3)
    out.tokens.set('accessor-1', { alive: false })
    await process.leases.sweep()
    expect(living(out)).toBe(1)
    expect(out.alive.get(other.credential)).toBe(true)
    expect(await process.leases.lookup(own.leaseId)).toBeUndefined()
  })

  test('is noticed by a process that did not issue', async () => {
    const out = outside()
    await issue(await openProcess(out))
    const other = await openProcess(out)
    out.tokens.set('accessor-1', { alive: false })
    await other.leases.sweep()
    expect(living(out)).toBe(0)
  })

  test('of which Vault says nothing is not gone', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process)
    out.tokens.get = () => {
      throw new Error('vault does not answer')
    }
    await process.leases.sweep()
    expect(living(out)).toBe(1)
  })
})

describe('what was revoked while it was made', () => {
  test('is not given out, and ended', async () => {
    const out = outside()
    const process = await openProcess(out)
    const request = asked()
    const begun = await process.leases.begin(request)
    await process.leases.revokeWhere({ accessor: 'accessor-1' })
    const handle = await process.provide(request.txn)
    await expect(begun.confirm(handle, process.world.now() / 1000 + 3600)).rejects.toThrow(/revoked while it was made/)
    await passes(process, 10)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('is ended too when its maker slept through the time that others wait for it', async () => {
    const out = outside()
    const world = testWorld()
    const [sleeper, other] = [await openProcess(out, { world }), await openProcess(out, { world })]
    const request = asked()
    const begun = await sleeper.leases.begin(request)
    await passes(other, 61)
    expect(rest(out)).toEqual([])
    const handle = await sleeper.provide(request.txn)
    await expect(begun.confirm(handle, world.now() / 1000 + 3600)).rejects.toThrow(/revoked while it was made/)
    await passes(other, 10)
    expect(living(out)).toBe(0)
  })

  test('by a provider that refused leaves nothing, by one that did not answer it is looked for', async () => {
    const out = outside()
    const process = await openProcess(out)
    await (await process.leases.begin(asked())).abandon(true)
    expect(rest(out)).toEqual([])
    const request = asked()
    const begun = await process.leases.begin(request)
    await process.provide(request.txn)
    await begun.abandon(false)
    await passes(process, 70)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('at a provider that cannot be asked for it is kept in sight until it has ended by itself', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    await (await process.leases.begin(asked())).abandon(false)
    await passes(process, 3500)
    expect(process.observed.held()).toBe(1)
    await passes(process, 200)
    expect(process.ended.map(({ how }) => how)).toEqual(['unfindable'])
    expect(rest(out)).toEqual([])
  })
})

describe('the same request again', () => {
  test('within a minute, wherever: what the first got is ended before the second gets anything', async () => {
    const out = outside()
    const [one, two] = [await openProcess(out), await openProcess(out)]
    const first = await issue(one, { request: 'the same' })
    const second = await issue(two, { request: 'the same' })
    expect(second.leaseId).toBe(first.leaseId)
    expect([out.alive.get(first.credential), out.alive.get(second.credential)]).toEqual([false, true])
    const third = await issue(one, { request: 'another' })
    expect(out.alive.get(second.credential)).toBe(true)
    expect(out.alive.get(third.credential)).toBe(true)
  })

  test('across the turn of a minute too; later it is a request of its own', async () => {
    const out = outside()
    const process = await openProcess(out)
    process.world.pass(59_000)
    const first = await issue(process, { request: 'the same' })
    process.world.pass(2_000)
    const second = await issue(process, { request: 'the same' })
    expect(out.alive.get(first.credential)).toBe(false)
    process.world.pass(61_000)
    await issue(process, { request: 'the same' })
    expect(out.alive.get(second.credential)).toBe(true)
  })

  test('of a replica whose clock is a second ahead, at the turn of a minute, too', async () => {
    const out = outside()
    const start = Date.parse('2026-06-01T00:00:59Z')
    const ahead = await openProcess(out, { world: testWorld({ start: start + 1_000 }) })
    const first = await issue(ahead, { request: 'the same' })
    const behind = await openProcess(out, { world: testWorld({ start }) })
    const second = await turning(behind, issue(behind, { request: 'the same' }))
    expect([out.alive.get(first.credential), out.alive.get(second.credential)]).toEqual([false, true])
  })

  test('while the first cannot be ended gets nothing', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process, { request: 'the same' })
    out.up = false
    const again = process.leases.begin(asked({ request: 'the same' }))
    await expect(turning(process, again)).rejects.toMatchObject({ code: 'conflict' })
    expect(out.alive.size).toBe(1)
  })
})
