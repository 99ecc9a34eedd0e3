import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import { readBody } from '../../../mounts/hosts/body.ts'
import { heapUsed } from '../../fakes/heap.ts'

test('a body in the smallest of pieces takes no more memory than in one', async () => {
  const incoming = Object.assign(new EventEmitter(), { headers: { 'transfer-encoding': 'chunked' } })
  const bytes = 2 ** 20
  const body = readBody(incoming as unknown as IncomingMessage, { bytes, withinMs: 60_000 })
  const before = heapUsed()
  const whole = Buffer.alloc(bytes, 'x')
  for (let at = 0; at < bytes; at += 1) incoming.emit('data', whole.subarray(at, at + 1))
  expect(heapUsed() - before).toBeLessThan(8 * bytes)
  incoming.emit('end')
  expect(await body).toEqual({ ok: true, bytes: whole })
})
