import { createSecureServer } from 'node:http2'
import { expect, onTestFinished, test } from 'vitest'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { REAL } from '../fakes/sealing.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

// A WebSocket through the proxy.

const textOf = (data: RawData) => Buffer.from(data as Buffer).toString()

const opened = async (world: ProxyWorld, headers: Record<string, string>) => {
  const { host: _, port, ...own } = world.dial
  const socket = new WebSocket(`wss://127.0.0.1:${port}${world.base}/live`, { ...own, headers } as never)
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return socket
}

test('a WebSocket is opened with the real credential; frames flow, and what echoes it is masked', async () => {
  await using world = await openProxyWorld({ service: { websocket: true } })
  const peers = new WebSocketServer({ server: world.upstream.server as never, perMessageDeflate: true })
  onTestFinished(() => peers.close())
  peers.on('connection', (peer, incoming) => {
    peer.on('message', data => peer.send(`${textOf(data)} ${incoming.headers.authorization}`))
  })
  const socket = await opened(world, bearer(await world.seal()))
  const answer = new Promise<string>(resolve => socket.once('message', data => resolve(textOf(data))))
  socket.send('hello')
  expect(await answer).toBe(`hello Bearer ${'*'.repeat(REAL.length)}`)
  const big = new Promise<number>(resolve => socket.once('message', data => resolve(textOf(data).length)))
  socket.send('x'.repeat(300_000))
  expect(await big).toBe(300_000 + ' Bearer '.length + REAL.length)
  socket.terminate()
  expect((await world.records()).filter(one => one['type'] === 'request')).toHaveLength(1)
})

test('a WebSocket hands a frame on as it ends, though it ends with what the credential begins with', async () => {
  await using world = await openProxyWorld({ service: { websocket: true } })
  const peers = new WebSocketServer({ server: world.upstream.server as never })
  onTestFinished(() => peers.close())
  peers.on('connection', peer => peer.on('message', data => peer.send(`${textOf(data)} ${REAL.slice(0, 1)}`)))
  const socket = await opened(world, bearer(await world.seal()))
  const answer = new Promise<string>(resolve => socket.once('message', data => resolve(textOf(data))))
  socket.send('hello')
  expect(await answer).toBe(`hello ${REAL.slice(0, 1)}`)
  socket.terminate()
})

test('a WebSocket is opened over HTTP/1.1 at a server that speaks HTTP/2, too', async () => {
  await using world = await openProxyWorld({ tls: true, host: 'api.test', service: { http2: true, websocket: true } })
  const { cert, key } = await world.ca.issue('api.test')
  const server = createSecureServer({ cert, key, allowHTTP1: true })
  const peers = new WebSocketServer({ server: server as never })
  onTestFinished(() => {
    peers.close()
    server.close()
  })
  peers.on('connection', (peer, incoming) => peer.on('message', () => peer.send(incoming.httpVersion)))
  await new Promise<void>(resolve => world.upstream.server.close(() => server.listen(world.upstream.port, '127.0.0.1', resolve)))
  const socket = await opened(world, bearer(await world.seal()))
  const answer = new Promise<string>(resolve => socket.once('message', data => resolve(textOf(data))))
  socket.send('hello')
  expect(await answer).toBe('1.1')
  socket.terminate()
})

test('a WebSocket is not opened where the upstream server opens none', async () => {
  await using world = await openProxyWorld({ service: { websocket: true } })
  await expect(opened(world, bearer(await world.seal()))).rejects.toThrow('502')
})
