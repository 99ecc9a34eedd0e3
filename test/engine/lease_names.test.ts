import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openRecent } from '../../engine/issue/recent.ts'
import { openCalendar } from '../../engine/leases/calendar.ts'
import { openGates } from '../../engine/leases/gates.ts'
import { idFrom, idOf, type Lease } from '../../engine/leases/lease.ts'
import { accessorIn, dueIn, entryOf, idIn, nameOf } from '../../engine/leases/name.ts'
import { testWorld } from '../fakes/world.ts'

const lease = (id: string, path: string, due: number, accessor = 'accessor', tpmId = 'tpm') =>
  ({ leaseId: `${path}/${id}`, due, accessor, tpmId }) as Lease

describe('a name', () => {
  const paths = fc.stringMatching(/^[a-z][a-z0-9./ é_-]{0,40}\/creds\/[a-z0-9._-]{1,30}$/)
  test('says what the lease is, whatever its path holds', () => {
    fc.assert(
      fc.property(fc.string(), paths, fc.integer({ min: 0, max: 2 ** 40 }), fc.string(), (seed, path, due, accessor) => {
        const id = idFrom(seed)
        const name = nameOf(lease(id, path, due, accessor))
        expect(name).toMatch(/^[\w.-]+$/)
        expect(entryOf(name)).toMatchObject({ id, due, path })
        expect([idIn(name), dueIn(name), accessorIn(name)]).toEqual([id, due, entryOf(name)?.accessorTag])
        expect(idOf(`${path}/${id}`)).toBe(id)
      }),
    )
  })

  test('that is none is nothing', () => {
    for (const name of ['', 'x', 'a.b', 'a.1.t.t', 'a.1.t.t.', 'a.1.t.t.p.more', '.1.t.t.p', 'a.!.t.t.p']) {
      expect(entryOf(name)).toBeUndefined()
      const calendar = openCalendar()
      calendar.add(name)
      expect(calendar.size()).toBe(0)
    }
    expect(dueIn('a.!.t.t.p')).toBe(Number.POSITIVE_INFINITY)
  })

  test('tells neither the accessor nor the TPM', () => {
    const name = nameOf(lease(idFrom('x'), 'broker/creds/deploy', 1, 'CANARY-accessor', 'CANARY-tpm'))
    expect(Buffer.from(name, 'base64url').toString() + name).not.toContain('CANARY')
  })
})

test('a calendar tells what is due once, in time, and counts accessors', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 40 }), fc.integer({ min: 0, max: 400 }), (dues, now) => {
      const calendar = openCalendar()
      const names = dues.map((due, at) => nameOf(lease(idFrom(String(at)), 'b/creds/r', due, `accessor ${at % 3}`)))
      for (const name of names) calendar.add(name)
      const past = names.filter((_, at) => (dues[at] ?? 0) <= now)
      expect([...calendar.due(now)].toSorted()).toEqual(past.toSorted())
      expect(calendar.due(now)).toEqual([])
      expect(calendar.due(1000)).toHaveLength(names.length - past.length)
      expect([...calendar.accessors()]).toHaveLength(Math.min(3, names.length))
      for (const name of names) calendar.drop(name)
      expect([calendar.size(), [...calendar.accessors()].length]).toEqual([0, 0])
    }),
  )
})

test('a gate lets one call see whether a provider is back, after pauses of at most fifteen seconds', () => {
  const world = testWorld()
  const gates = openGates(world.monotonic, () => 1)
  for (let failures = 1; failures < 30; failures++) {
    gates.ended('one', false)
    expect(gates.enter('one')).toBe(false)
    expect(gates.enter('other')).toBe(true)
    world.pass(Math.min(15_000, 500 * 2 ** (failures - 1)))
    expect([gates.enter('one'), gates.enter('one')]).toEqual([true, false])
    if (failures === 3) {
      gates.left('one')
      expect([gates.enter('one'), gates.enter('one')]).toEqual([true, false])
    }
  }
  gates.ended('one', true)
  expect([gates.enter('one'), gates.enter('one')]).toEqual([true, true])
})

describe('a recent answer', () => {
  const recently = (lives = () => true) => {
    const world = testWorld()
    let made = 0
    const recent = openRecent<{ made: number }>(world.monotonic, async () => lives())
    return { world, ask: (question = 'q') => recent.once(question, async () => ({ made: ++made })) }
  }

  test('is given again for a minute, to those who ask the same', async () => {
    const { world, ask } = recently()
    const [one, two] = await Promise.all([ask(), ask()])
    expect(two).toBe(one)
    world.pass(59_000)
    expect(await ask()).toBe(one)
    expect(await ask('another')).not.toBe(one)
    world.pass(2_000)
    expect(await ask()).not.toBe(one)
  })

  test('that is none any more is made anew, once for all who ask', async () => {
    let lives = true
    const { ask } = recently(() => lives)
    await ask()
    lives = false
    const all = await Promise.all([ask(), ask(), ask()])
    expect(new Set(all.map(({ made }) => made))).toEqual(new Set([2]))
  })

  test('that failed is not kept', async () => {
    const recent = openRecent<object>(testWorld().monotonic, async () => true)
    await expect(recent.once('q', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    await expect(recent.once('q', async () => ({}))).resolves.toEqual({})
  })
})
