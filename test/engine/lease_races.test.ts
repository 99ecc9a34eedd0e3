import { describe, expect, test } from 'vitest'
import { pause } from '../../engine/back_off.ts'
import { openGates } from '../../engine/leases/gates.ts'
import { asked, issue, living, openProcess, outside, passes, rest, turning } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// What becomes of a lease between two looks at it.

describe('a lease that is renewed while it is revoked', () => {
  test.each([
    ['and its provider is down', {}, 'lease expired'],
    ['by force', { force: true }, 'lease not found'],
  ])('%s is not renewed, and what was ordered stays', async (_, how, told) => {
    const out = outside()
    const process = await openProcess(out)
    const { leaseId } = await issue(process)
    const [looked, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    out.hold = async (call, path) => {
      if (call !== 'got' || !path.startsWith('leases/record/')) return
      out.hold = undefined
      looked.resolve()
      await goOn.promise
    }
    const renewed = process.leases.renew(leaseId, 3600).catch((error: Error) => error.message)
    await looked.promise
    out.up = 'force' in how
    await process.leases.revoke(leaseId, how)
    goOn.resolve()
    expect(await renewed).toBe(told)
    out.up = true
    await passes(process, 60)
    expect([living(out), rest(out)]).toEqual([0, []])
  })
})

test('what was made for a request whose id a later one has by now is ended, and what the later one got is not', async () => {
  const out = outside()
  const process = await openProcess(out)
  const [first, second] = [asked({ request: 'the same', txn: 'first' }), asked({ request: 'the same', txn: 'second' })]
  const early = await process.leases.begin(first)
  await turning(process, process.leases.revoke(early.leaseId, { force: true }))
  const late = await process.leases.begin(second)
  expect(late.leaseId).toBe(early.leaseId)
  const [stray, own] = [await process.provide('first'), await process.provide('second')]
  const until = process.world.now() / 1000 + 3600
  await expect(early.confirm(stray, until)).rejects.toMatchObject({ code: 'unavailable' })
  expect(await late.confirm(own, until)).toMatchObject({ leaseId: late.leaseId, txn: 'second', handle: own })
  await passes(process, 10)
  expect([stray, own].map(({ credential = '' }) => out.alive.get(credential))).toEqual([false, true])
  expect(await process.leases.lookup(late.leaseId)).toMatchObject({ state: 'active', txn: 'second' })
})

describe('what a call may have made whose reply was lost', () => {
  const lost = async () => {
    const out = outside()
    const process = await openProcess(out)
    const begun = await process.leases.begin(asked({ txn: 'lost' }))
    return { out, process, begun }
  }

  test('is looked for when the call cannot be under way any more, and ended', async () => {
    const { out, process, begun } = await lost()
    await begun.abandon(false)
    // the call comes to its end although nobody waits for it
    await process.provide('lost')
    await passes(process, 59)
    expect(living(out)).toBe(1)
    await passes(process, 2)
    expect([living(out), process.ended.map(({ how }) => how)]).toEqual([0, ['revoked']])
  })

  test('is looked for until its provider answers, however long it would have lived', async () => {
    const { out, process, begun } = await lost()
    await process.provide('lost')
    await begun.abandon(false)
    out.up = false
    await passes(process, 3700)
    expect([process.ended, living(out)]).toEqual([[], 1])
    expect(process.failures.length).toBeGreaterThan(0)
    out.up = true
    await passes(process, 60)
    expect([living(out), rest(out)]).toEqual([0, []])
  })
})

test('who waits for the end of a lease that another process is ending waits for that', async () => {
  const out = outside()
  const world = testWorld()
  const [one, other] = [await openProcess(out, { world }), await openProcess(out, { world })]
  const { leaseId } = await issue(one)
  const [called, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  out.hold = async call => {
    if (call !== 'revoke') return
    called.resolve()
    await goOn.promise
  }
  const ended = one.leases.revoke(leaseId, { sync: true })
  await called.promise
  const seen = Promise.withResolvers<void>()
  out.hold = async call => {
    if (call === 'got') seen.resolve()
  }
  const waited = other.leases.revoke(leaseId, { sync: true })
  await seen.promise
  goOn.resolve()
  expect(await Promise.all([ended, waited])).toEqual([0, 0])
  expect(out.revocations).toBe(1)
})

test('what has no token and no machine to it is revoked with none', async () => {
  const out = outside()
  const process = await openProcess(out)
  await issue(process, { accessor: '', tpmId: '' })
  for (const which of [{ accessor: '' }, { tpmId: '' }])
    expect(await process.leases.revokeWhere(which, { sync: true })).toEqual({ found: 0, left: 0 })
  expect(living(out)).toBe(1)
})

test('a provider that fails is left alone for twice as long each time', () => {
  expect([1, 2, 3, 6, 100].map(failures => pause(failures, 500, 15_000, 1))).toEqual([500, 1000, 2000, 15_000, 15_000])
  expect(pause(2, 500, 15_000, 0)).toBe(500)
  let now = 0
  const gates = openGates(
    () => now,
    () => 1,
  )
  for (const pauseMs of [500, 1000, 2000]) {
    expect(gates.enter('p')).toBe(true)
    gates.ended('p', false)
    now += pauseMs - 1
    expect(gates.enter('p')).toBe(false)
    now += 1
  }
  expect([gates.enter('p'), gates.enter('p'), gates.enter('other')]).toEqual([true, false, true])
})
