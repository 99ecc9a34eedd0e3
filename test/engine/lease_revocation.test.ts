import { threadCpuUsage } from 'node:process'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { asked, issue, living, openProcess, outside, passes, rest, turning } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

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
    /** µs of this thread for a round in which nothing can be done; the more of them the shorter they are, as its clock ticks every few ms */
    const roundOf = async (many: number) => {
      const out = outside()
      const process = await openProcess(out)
      await Promise.all(Array.from({ length: many }, () => issue(process)))
      out.up = false
      await process.leases.revokeWhere({ prefix: 'broker/' })
      await process.leases.sweep()
      const rounds = 48_000 / many
      const before = threadCpuUsage()
      for (let round = 0; round < rounds; round++) {
        process.world.pass(1500)
        await process.leases.sweep()
      }
      const { user, system } = threadCpuUsage(before)
      await process.leases.stop()
      return (user + system) / rounds
    }
    // sixteen times as long would be in proportion; the square is 256
    expect((await roundOf(8000)) / (await roundOf(500))).toBeLessThan(64)
  })

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
