import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Boot,
  compareBoots,
  type Happened,
  type MachineRecord,
  moved,
  NEW_MACHINE,
  noted,
} from '../../engine/lifecycle/machine.ts'
import { appraiseStanding, bootOf, countersOf, isUnmoved } from '../../engine/lifecycle/standing.ts'

const what = (id: number): Happened => ({ id: String(id), reason: 'reattest', detail: '', at: id })
const code = (machine: MachineRecord, epoch: number, fresh = false, ageSeconds = 0, maxAge = 0) => {
  const verdict = appraiseStanding(machine, { epoch, fresh, ageSeconds }, maxAge)
  return verdict.ok ? 'OK' : verdict.code
}

describe('what is left to do', () => {
  test('is bounded; what waits to be told goes before what is to be ended, the oldest first', () => {
    let machine = moved(NEW_MACHINE, what(0), true)
    for (let count = 1; count < 40; count += 1) machine = moved(machine, what(count), false)
    expect(machine.incidents).toHaveLength(32)
    expect(machine.incidents.slice(0, 2).map(({ id, ended }) => [id, ended])).toEqual([
      ['0', false],
      ['9', true],
    ])
    expect([machine.epoch, machine.since, machine.sequence]).toEqual([40, 1, 40])
  })

  test('that only is to be told moves no epoch', () => {
    const machine = noted(moved(NEW_MACHINE, what(0), true), what(1))
    expect([machine.epoch, machine.since, machine.sequence]).toEqual([1, 1, 2])
  })
})

describe('a token', () => {
  test('is good until something moves the epoch, whatever it was', () => {
    const ended = moved(NEW_MACHINE, what(0), true)
    const asked = moved(ended, what(1), false)
    expect([
      code(NEW_MACHINE, 0),
      code(ended, 0),
      code(ended, 1),
      code(asked, 1),
      code(asked, 1, true),
      code(asked, 0, true),
    ]).toEqual(['OK', 'SESSION_ENDED', 'OK', 'REATTEST', 'OK', 'SESSION_ENDED'])
  })

  test('of a machine that failed is good for nothing, not even with a quote', () => {
    const latch = { code: 'PCR_POLICY', detail: '', role: 'r', at: '2026-06-01T00:00:00Z', evidence: '' }
    expect(code({ ...NEW_MACHINE, latch }, 0, true)).toBe('LATCHED')
  })

  test('is as old as its quote', () => {
    expect([code(NEW_MACHINE, 0, false, 60, 60), code(NEW_MACHINE, 0, false, 61, 60)]).toEqual(['OK', 'ATTESTATION_STALE'])
    expect([code(NEW_MACHINE, 0, true, 61, 60), code(NEW_MACHINE, 0, false, 1e9, 0)]).toEqual(['OK', 'OK'])
  })

  test('of an older epoch never comes to life again', () => {
    const steps = fc.array(fc.boolean(), { minLength: 1, maxLength: 50 })
    fc.assert(
      fc.property(steps, fc.nat(50), (ends, epoch) => {
        let machine = NEW_MACHINE
        let dead = false
        for (const [index, one] of ends.entries()) {
          machine = moved(machine, what(index), one)
          dead ||= code(machine, epoch) === 'SESSION_ENDED'
          if (dead) expect(code(machine, epoch)).toBe('SESSION_ENDED')
        }
      }),
    )
  })
})

describe('boots', () => {
  const boot = (resetCount: number, restartCount: number): Boot => ({ resetCount, restartCount })

  test.each([
    ['same', boot(7, 2)],
    ['newer', boot(7, 3)],
    ['newer', boot(8, 0)],
    ['older', boot(7, 1)],
    ['older', boot(6, 9)],
  ] as const)('%s: %j', (order, now) => {
    expect(compareBoots(now, boot(7, 2))).toBe(order)
    expect(bootOf({ ...NEW_MACHINE, boots: { machine: boot(7, 2) } }, 'machine', now)).toBe(order)
  })

  test('by obfuscated counters are the same or not, and so are those of a machine that was enrolled anew', () => {
    const kept = { ...NEW_MACHINE, boots: { machine: boot(7, 2), name: boot(7, 2) } }
    expect(bootOf(kept, 'name', boot(1, 1))).toBe('newer')
    expect(bootOf(kept, 'other', boot(1, 1))).toBe('first')
    expect(bootOf({ ...kept, recount: true }, 'machine', boot(1, 1))).toBe('newer')
    expect(bootOf({ ...kept, recount: true }, 'machine', boot(7, 2))).toBe('same')
    expect([countersOf('owner', 'name'), countersOf('endorsement', 'name'), countersOf('ek', 'name')]).toEqual([
      'name',
      'machine',
      'machine',
    ])
  })
})

test('a look that shows another epoch or another failure is another machine', () => {
  const latch = { code: 'PCR_POLICY', detail: '', role: 'r', at: '2026-06-01T00:00:00Z', evidence: '' }
  expect(isUnmoved(NEW_MACHINE, { ...NEW_MACHINE, boots: { machine: { resetCount: 1, restartCount: 1 } } })).toBe(true)
  expect(isUnmoved(NEW_MACHINE, { ...NEW_MACHINE, latch })).toBe(false)
  expect(isUnmoved(NEW_MACHINE, moved(NEW_MACHINE, what(0), false))).toBe(false)
})
