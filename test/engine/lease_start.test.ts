import { expect, test } from 'vitest'
import { idOf, type Lease } from '../../engine/leases/lease.ts'
import { openLedger } from '../../engine/leases/ledger.ts'
import { minuteOf, nameOf } from '../../engine/leases/name.ts'
import { openPacks } from '../../engine/leases/packs.ts'
import { activeLease, openProcess, outside, rest } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// What a start costs is what it asks of the store: `npm run bench` says how long that takes.

const LEASES = 100_000
const OVERDUE = 7
const TOKENS = 10
const MINUTES = 50

const world = testWorld()
const now = world.now() / 1000

/** The first are overdue, the others due within an hour, and not soon. */
const lease = (at: number): Lease =>
  activeLease({ accessor: `accessor-${at % TOKENS}`, expiresAt: at < OVERDUE ? now - 1 : now + 600 + (at % MINUTES) * 60 })
const recordOf = ({ leaseId }: Lease) => `leases/record/${idOf(leaseId)}`

test('a start with 100,000 leases reads packs, and no record of what is not due', async () => {
  const out = outside()
  const { store } = await openProcess(out, { world })
  const all = Array.from({ length: LEASES }, (_, at) => lease(at))
  const [overdue, later] = [all.slice(0, OVERDUE), all.slice(OVERDUE)]
  for (const one of overdue) await openLedger(store).create(one)
  for (const one of later) out.kept.set(recordOf(one), { value: one, version: 1 })
  for (const some of Map.groupBy(later, ({ due }) => minuteOf(due)).values()) await openPacks(store).write(some.map(nameOf))
  const packs = rest(out).filter(path => path.startsWith('leases/pack/'))
  expect(packs).toHaveLength(MINUTES)

  const [got, listed]: [string[], string[]] = [[], []]
  out.hold = async (call, path) => {
    if (call === 'got') got.push(path)
    if (call === 'listed') listed.push(path)
  }
  const process = await openProcess(out, { world })
  expect(process.observed.held()).toBe(LEASES)
  expect(got.toSorted()).toEqual(packs.toSorted())
  expect(listed).toHaveLength(3) // the minutes, what is due in the one that has names of its own, and the packs

  await process.leases.sweep()
  expect(process.observed.held()).toBe(LEASES - OVERDUE)
  const due = new Set(overdue.map(recordOf))
  const others = new Set(got.filter(path => path.startsWith('leases/record/') && !due.has(path)))
  // of each token one, to ask Vault about it
  expect(others.size).toBeLessThanOrEqual(TOKENS)
})
