import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { fetchLists } from '../../engine/attest/list_fetch.ts'
import { openHttp, Unanswered } from '../../engine/http.ts'
import { offered } from '../fakes/client_hello.ts'
import { alive } from '../fakes/heap.ts'

test('of an answer in the smallest of pieces its bytes are kept, and not the pieces', async () => {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const asked = once(server, 'connection') as Promise<[Socket]>
  const http = openHttp({ deadlineMs: 60_000 })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const pieces: WeakRef<object>[] = []
  let next = Promise.withResolvers<void>()
  const taken = (message: unknown) => {
    pieces.push(new WeakRef((message as { chunk: Buffer }).chunk))
    next.resolve()
  }
  subscribe('undici:request:bodyChunkReceived', taken)
  const answered = http.send({ method: 'GET', url })
  const [socket] = await asked
  onTestFinished(async () => {
    unsubscribe('undici:request:bodyChunkReceived', taken)
    socket.destroy()
    server.close()
    await http.close()
  })
  const whole = 'abcdefghij'.repeat(200)
  socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
  // one after the other: pieces that are there together would be read together
  for (const letter of whole) {
    next = Promise.withResolvers()
    socket.write(`1\r\n${letter}\r\n`)
    await next.promise
    await new Promise(setImmediate)
  }
  const kept = await alive(pieces)
  socket.write('0\r\n\r\n')
  expect((await answered).body.toString()).toBe(whole)
  expect(pieces).toHaveLength(whole.length)
  expect(kept).toBeLessThan(whole.length / 10)
})

test('a server that says nothing but that an answer will come is not listened to until the deadline', async () => {
  const early = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'
  const good = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', sent => socket.write(early.repeat(String(sent).startsWith('POST') ? 17 : 16) + good))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const http = openHttp({ deadlineMs: 60_000 })
  onTestFinished(async () => {
    server.close()
    await http.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  expect((await http.send({ method: 'GET', url })).status).toBe(200)
  await expect(http.send({ method: 'POST', url })).rejects.toThrow(new Unanswered('said too much'))
})

test.each([
  [
    'to a provider',
    (port: number) => openHttp({ deadlineMs: 60_000 }).send({ method: 'GET', url: `https://127.0.0.1:${port}/` }),
  ],
  ['for a list', (port: number) => fetchLists(`https://127.0.0.1:${port}/`, [`127.0.0.1:${port}`])],
])('no server chooses the prime of a connection %s', async (_, connect) => {
  const { all, dhe } = await offered(connect)
  expect(all).toBeGreaterThan(3)
  expect(dhe).toEqual([])
})
