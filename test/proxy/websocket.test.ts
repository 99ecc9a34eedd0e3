import { createSecureServer } from 'node:http2'
import type { Socket } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { REAL } from '../fakes/sealing.ts'
import { until } from '../harness/process.ts'
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

describe('a WebSocket that its server ends leaves no connection behind', () => {
  const none = (world: ProxyWorld) =>
    until('the connection to be left', async () => /assay_proxy_connections 0/.test(await world.metrics.text()))
  /** How a server ends that has said all, and has been sent more. */
  const ending = async () => {
    const world = await openProxyWorld({ service: { websocket: true } })
    world.upstream.server.on('upgrade', (_, socket: Socket) => {
      socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
    })
    const head = [`GET ${world.base}/ HTTP/1.1`, 'Host: a', 'Connection: Upgrade', 'Upgrade: websocket']
    const socket = await world.connect()
    socket.on('error', () => undefined)
    socket.write(`${head.join('\r\n')}\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`)
    return { world, socket }
  }

  test('of an agent that says more and goes', async () => {
    const { world, socket } = await ending()
    await using _ = world
    socket.once('data', () => socket.write(Buffer.alloc(100_000))).once('end', () => socket.destroy())
    await none(world)
  })

  test('of an agent that goes', async () => {
    const { world, socket } = await ending()
    await using _ = world
    socket.resume()
    await none(world)
  })

  test('of an agent that stays', async () => {
    const { world, socket } = await ending()
    await using _ = world
    await new Promise(resolve => socket.once('readable', resolve))
    await none(world)
    socket.destroy()
  })
})

test('a WebSocket is not opened where the upstream server opens none', async () => {
  await using world = await openProxyWorld({ service: { websocket: true } })
  await expect(opened(world, bearer(await world.seal()))).rejects.toThrow('502')
})
