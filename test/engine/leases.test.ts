import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { asked, issue, living, openProcess, outside, type Process, passes, rest } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

const LEASE = /^broker\/creds\/deploy\/[0-9A-Za-z]{24}$/

/** Lets the clocks turn while something waits. */
async function turning<T>({ world }: Process, work: Promise<T>): Promise<T> {
  const timer = setInterval(() => world.pass(200), 10)
  return work.finally(() => clearInterval(timer))
}

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

describe('revocation', () => {
  test('of one, of a prefix, of a token, of a machine, of a mount; and of nothing', async () => {
    const out = outside()
    const process = await openProcess(out)
    const [one, , , other] = await Promise.all([
      issue(process),
      issue(process, { path: 'creds/payroll' }),
      issue(process, { accessor: 'accessor-2' }),
      issue(process, { accessor: 'accessor-3', tpmId: 'tpm-2' }),
      issue(process, { accessor: 'accessor-4', tpmId: 'tpm-2', path: 'creds/deploy-more' }),
    ])
    const sync = { sync: true }
    expect(await process.leases.revoke(one?.leaseId ?? '', sync)).toBe(0)
    expect(await process.leases.revoke(one?.leaseId ?? '', sync)).toBe(0)
    expect(out.alive.get(one?.credential ?? '')).toBe(false)
    expect(await process.leases.revokeWhere({ prefix: 'broker/creds/payroll' }, sync)).toEqual({ found: 1, left: 0 })
    expect(await process.leases.revokeWhere({ accessor: 'accessor-2' }, sync)).toEqual({ found: 1, left: 0 })
    expect(await process.leases.revokeWhere({ accessor: '' }, sync)).toEqual({ found: 0, left: 0 })
    expect(out.alive.get(other?.credential ?? '')).toBe(true)
    expect(await process.leases.revokeWhere({ tpmId: 'tpm-2' }, sync)).toEqual({ found: 2, left: 0 })
    expect(living(out)).toBe(0)
    await issue(process)
    expect(await process.leases.revokeWhere({ mount: { ...asked().mount, path: 'other/' } }, sync)).toEqual({ found: 0, left: 0 })
    expect(await process.leases.revokeWhere({ mount: asked().mount }, sync)).toEqual({ found: 1, left: 0 })
    expect(rest(out)).toEqual([])
    expect(process.ended.every(({ how }) => how === 'revoked')).toBe(true)
  })

  test('accepted while the provider is down is tried until it is done, by whichever process is there', async () => {
    const out = outside()
    const first = await openProcess(out)
    const { leaseId } = await issue(first)
    out.up = false
    expect(await first.leases.revoke(leaseId)).toBe(1)
    await passes(first, 1200)
    expect(first.observed.overdue()).toBe(1)
    expect(first.leases.stuck()).toHaveLength(1)
    expect(await first.leases.lookup(leaseId)).toMatchObject({ state: 'revoking' })
    const second = await openProcess(out, { world: first.world })
    await passes(second, 7200)
    expect(living(out)).toBe(1)
    out.up = true
    await passes(second, 60)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
  })

  test('of many that wait for a provider asks it now and then, and is done a minute after it is back', async () => {
    const out = outside()
    const process = await openProcess(out)
    for (let count = 0; count < 200; count++) await issue(process)
    out.up = false
    await process.leases.revokeWhere({ prefix: 'broker/' })
    await passes(process, 1200)
    expect(out.revocations).toBeLessThan(250)
    expect(living(out)).toBe(200)
    out.up = true
    await passes(process, 60)
    expect(living(out)).toBe(0)
  })

  test('of many that wait for a provider costs no more for each of them the more they are', async () => {
    /** ms, the quickest of some rounds in which nothing can be done */
    const roundOf = async (many: number) => {
      const out = outside()
      const process = await openProcess(out)
      await Promise.all(Array.from({ length: many }, () => issue(process)))
      out.up = false
      await process.leases.revokeWhere({ prefix: 'broker/' })
      await process.leases.sweep()
      let quickest = Number.POSITIVE_INFINITY
      for (let round = 0; round < 4; round++) {
        process.world.pass(1500)
        const at = performance.now()
        await process.leases.sweep()
        quickest = Math.min(quickest, performance.now() - at)
      }
      await process.leases.stop()
      return quickest
    }
    // sixteen times as long would be in proportion; the square is 256
    expect((await roundOf(8000)) / (await roundOf(500))).toBeLessThan(64)
  }, 60_000)

  test('of what may never have been made does not count as a provider that is back', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    for (let count = 0; count < 40; count++) await issue(process)
    out.up = false
    for (let count = 0; count < 10; count++) await (await process.leases.begin(asked())).abandon(false)
    await passes(process, 60)
    const before = out.revocations
    await process.leases.revokeWhere({ prefix: 'broker/' })
    await passes(process, 600)
    expect(out.revocations - before).toBeLessThan(100)
  })

  test('that waits for a provider is made now when somebody waits for it', async () => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process)
    out.up = false
    expect(await process.leases.revoke(leaseId, { sync: true })).toBe(1)
    out.up = true
    expect(await process.leases.revoke(leaseId, { sync: true })).toBe(0)
    expect(living(out)).toBe(0)
  })

  test('that one process cannot make is made by another at once', async () => {
    const out = outside()
    const world = testWorld()
    const cutOff = await openProcess(out, { world, cutOff: true })
    const { leaseId } = await issue(cutOff)
    expect(await turning(cutOff, cutOff.leases.revoke(leaseId, { sync: true }))).toBe(1)
    const other = await openProcess(out, { world })
    for (let round = 0; round < 3; round++) {
      await passes(cutOff, 10)
      await passes(other, 10)
    }
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
    expect([cutOff.ended, other.ended].map(({ length }) => length)).toEqual([0, 1])
  })

  test('by force forgets what the provider does not end', async () => {
    const out = outside()
    const process = await openProcess(out)
    await issue(process)
    out.up = false
    const forced = process.leases.revokeWhere({ prefix: 'broker/' }, { force: true })
    expect(await turning(process, forced)).toEqual({ found: 1, left: 0 })
    expect(process.ended.map(({ how }) => how)).toEqual(['forced'])
    expect(rest(out)).toEqual([])
  })

  test('that the provider made and the store does not take is told once, and is no failure of the provider', async () => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process)
    let refusals = 2
    out.hold = async (call, path) => {
      if (call === 'delete' && path.startsWith('leases/due/') && refusals-- > 0)
        throw new BrokerError('unavailable', 'vault is sealed')
    }
    await process.leases.revoke(leaseId, { sync: true })
    await passes(process, 120)
    expect(process.ended.map(({ how }) => how)).toEqual(['revoked'])
    expect(process.failures).toEqual([])
    expect([living(out), rest(out)]).toEqual([0, []])
  })

  test('by two processes at once makes one call', async () => {
    const out = outside()
    const world = testWorld()
    const [one, two] = await Promise.all([openProcess(out, { world }), openProcess(out, { world })])
    for (let count = 0; count < 20; count++) await issue(one)
    await two.leases.sweep()
    world.pass(901_000)
    await Promise.all([one.leases.sweep(), two.leases.sweep()])
    await passes(one, 10)
    expect(living(out)).toBe(0)
    expect(out.revocations).toBe(20)
    expect(one.ended.length + two.ended.length).toBe(20)
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

  test('is ended when the store is back that could not take it, where the provider could not be asked either', async () => {
    const out = outside()
    out.findable = false
    const process = await openProcess(out)
    const request = asked()
    const begun = await process.leases.begin(request)
    const handle = await process.provide(request.txn)
    out.up = false
    out.hold = () => Promise.reject(new BrokerError('unavailable', 'vault is sealed'))
    await expect(begun.confirm(handle, process.world.now() / 1000 + 3600)).rejects.toThrow('vault is sealed')
    await expect(process.leases.sweep()).rejects.toThrow('vault is sealed')
    expect(living(out)).toBe(1)
    out.hold = undefined
    out.up = true
    await passes(process, 60)
    expect(living(out)).toBe(0)
    expect(rest(out)).toEqual([])
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
