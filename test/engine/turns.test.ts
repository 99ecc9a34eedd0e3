import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { openTurns } from '../../engine/turns.ts'

function connection() {
  const turns = openTurns<EventEmitter>()
  const socket = { writable: true }
  const begun: EventEmitter[] = []
  const ask = () => {
    const reply = new EventEmitter()
    return { reply, taken: turns.take(socket, reply, () => void begun.push(reply)) }
  }
  return { turns, socket, begun, ask }
}

test('each begins when the one before it is answered', () => {
  const { turns, socket, begun, ask } = connection()
  const [one, two, three] = [ask().reply, ask().reply, ask().reply]
  expect(begun).toEqual([one])
  expect(turns.current(socket)).toBe(one)
  one.emit('close')
  expect(begun).toEqual([one, two])
  expect(turns.current(socket)).toBe(two)
  two.emit('close')
  three.emit('close')
  expect(begun).toEqual([one, two, three])
  expect(turns.current(socket)).toBeUndefined()
})

test('those of another connection wait for nobody', () => {
  const { turns, begun, ask } = connection()
  ask()
  turns.take({ writable: true }, new EventEmitter(), () => void begun.push(new EventEmitter()))
  expect(begun).toHaveLength(2)
})

test('one is under way and sixteen wait, until there is room again', () => {
  const { begun, ask } = connection()
  const all = Array.from({ length: 18 }, ask)
  expect(all.map(({ taken }) => taken)).toEqual([...Array<boolean>(17).fill(true), false])
  all[0]?.reply.emit('close')
  expect(ask().taken).toBe(true)
  expect(begun).toHaveLength(2)
})

test('on a connection that ended nothing more begins', () => {
  const { socket, begun, ask } = connection()
  const { reply } = ask()
  ask()
  socket.writable = false
  reply.emit('close')
  expect(begun).toEqual([reply])
})
