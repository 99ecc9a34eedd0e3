import { describe, expect, test } from 'vitest'
import { Roster } from '../../proxy/http/roster.ts'
import { heapGrownOld, heapUsed } from '../fakes/heap.ts'

describe('a roster', () => {
  test('has who entered and did not leave, in whatever order they leave', () => {
    const roster = new Roster<string>()
    const leave = new Map(['a', 'b', 'c', 'd'].map(name => [name, roster.enter(name)]))
    const left = (...names: string[]) => {
      for (const name of names) leave.get(name)?.()
      return roster.all().toSorted()
    }
    expect(left()).toEqual(['a', 'b', 'c', 'd'])
    expect(left('b')).toEqual(['a', 'c', 'd'])
    expect(left('d', 'a')).toEqual(['c'])
    leave.set('e', roster.enter('e'))
    expect(left('c')).toEqual(['e'])
    expect(left('e')).toEqual([])
  })

  test('who leaves twice takes nobody along', () => {
    const roster = new Roster<string>()
    const leave = roster.enter('a')
    const [b, c] = [roster.enter('b'), roster.enter('c')]
    leave()
    leave()
    expect(roster.all().toSorted()).toEqual(['b', 'c'])
    for (const other of [b, c, leave]) other()
    expect(roster.all()).toEqual([])
  })

  test('who leaves while it is looked over is no trouble', () => {
    const roster = new Roster<() => void>()
    let seen = 0
    for (let number = 0; number < 5; number++) {
      const leave = roster.enter(() => {
        seen += 1
        leave()
      })
    }
    for (const one of roster.all()) one()
    expect([seen, roster.all()]).toEqual([5, []])
  })

  // with a set in its place nearly all that went through was among the old at the end
  test('who left does not grow old in it', () => {
    const roster = new Roster<object>()
    const leaving: (() => void)[] = []
    const passThrough = (count: number) => {
      for (let number = 0; number < count; number++) {
        leaving.push(roster.enter({ body: Array.from({ length: 128 }, () => number) }))
        if (leaving.length > 32) leaving.shift()?.()
      }
    }
    passThrough(1000)
    heapUsed() // collects everything: what is in it now is old
    const before = heapGrownOld()
    for (let round = 0; round < 20; round++) {
      passThrough(1000)
      heapGrownOld()
    }
    expect(heapGrownOld() - before).toBeLessThan(4 * 2 ** 20)
  })
})
