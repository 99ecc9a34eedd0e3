import { EventEmitter } from 'node:events'
import type { Server } from 'node:http'
import { expect, test } from 'vitest'
import { keepConnections } from '../../../mounts/hosts/connections.ts'

test('a connection from the port of one whose end is heard of late is known as well, and ends with the others', () => {
  const server = Object.assign(new EventEmitter(), { setTimeout: () => undefined })
  const limits = { connections: 10, connectionsPerPeer: 10, stallMs: 1000 }
  const connections = keepConnections(server as unknown as Server, limits)
  const ended: string[] = []
  const [first, second] = ['first', 'second'].map(name =>
    Object.assign(new EventEmitter(), {
      remoteAddress: '192.0.2.1',
      remotePort: 40_000,
      destroy: () => void ended.push(name),
    }),
  )
  server.emit('connection', first)
  server.emit('connection', second)
  first?.emit('close')
  connections.retire()
  expect(ended).toEqual(['second'])
  second?.emit('close')
  connections.destroy()
  expect(ended).toEqual(['second'])
})
