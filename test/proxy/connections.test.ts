import type { ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import { bearer, exchangeRaw, openProxyWorld } from './world.ts'

// Who is let in, and who is cut off.

test('TLS 1.2 is not spoken', async () => {
  await using world = await openProxyWorld()
  const socket = tlsConnect({ ...world.dial, maxVersion: 'TLSv1.2' })
  const error = await new Promise<Error>(resolve => socket.once('error', resolve))
  expect(error.message).toMatch(/version/i)
})

test('a session is never resumed', async () => {
  await using world = await openProxyWorld()
  const first = tlsConnect(world.dial)
  const sessions: Buffer[] = []
  first.on('session', session => sessions.push(session))
  await exchangeRaw(first, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', text => text.includes('\r\n\r\n'))
  first.destroy()
  const [session] = sessions
  const again = tlsConnect({ ...world.dial, ...(session ? { session } : {}) })
  await new Promise(resolve => again.once('secureConnect', resolve))
  expect(again.isSessionReused()).toBe(false)
  again.destroy()
})

test('with an authority named, certificates of others are not let in', async () => {
  await using world = await openProxyWorld({ clientCa: true })
  await using foreign = await openProxyWorld()
  expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
  await expect(world.ask({ headers: bearer(await world.seal()), as: foreign.agent })).rejects.toThrow()
})

test('a client that stops in the middle of a body is cut off, others are served', async () => {
  await using world = await openProxyWorld({ config: { limits: { stall_ms: 1000 } } })
  const socket = await world.connect()
  const token = await world.seal()
  const lines = [`POST ${world.base}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${token}`, 'Content-Length: 1000']
  const slow = exchangeRaw(socket, `${lines.join('\r\n')}\r\n\r\nhalf`)
  expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
  expect(await slow).not.toContain('200 OK')
})

test('a request that was sent ahead of an answer is waited for like any other', async () => {
  await using world = await openProxyWorld({ config: { limits: { stall_ms: 1000 } } })
  const began = Promise.withResolvers<ServerResponse>()
  world.upstream.answer = ({ url }, outgoing) => (url === '/first' ? void outgoing.end('one') : began.resolve(outgoing))
  const socket = await world.connect()
  const token = await world.seal()
  const head = (path: string) => `GET ${world.base}${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`
  expect(await exchangeRaw(socket, head('/first') + head('/second'), text => text.endsWith('one'))).toContain('200 OK')
  const outgoing = await began.promise
  const silent = await world.connect()
  // who is to be cut off is cut off by then
  await new Promise(resolve => silent.once('close', resolve).resume())
  const second = exchangeRaw(socket, '', text => text.endsWith('two'))
  outgoing.end('two')
  expect(await second).toContain('two')
  socket.destroy()
})

test('a server that has said all and hangs up while the agent still reads: all of it arrives', async () => {
  await using world = await openProxyWorld()
  // more than the kernel holds for who does not read
  const said = Buffer.alloc(24 * 2 ** 20 + 40_000, 'a')
  world.upstream.answer = (_, outgoing) => {
    outgoing.shouldKeepAlive = false
    outgoing.end(said)
  }
  const socket = await world.connect()
  const lines = [`GET ${world.base}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${await world.seal()}`, 'Connection: close']
  const ended = new Promise(resolve => socket.once('close', resolve))
  let taken = 0
  socket.on('data', chunk => {
    taken += chunk.length
    socket.pause()
    setTimeout(() => socket.resume(), 1)
  })
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  await ended
  expect(taken).toBeGreaterThan(said.length)
})

test('a hundred clients that send a byte and wait are cut off', async () => {
  await using world = await openProxyWorld({ config: { limits: { head_within_ms: 2000 } } })
  const ends = Array.from({ length: 100 }, async () => exchangeRaw(await world.connect(), 'G'))
  expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
  for (const end of await Promise.all(ends)) expect(end === '' || end.includes('REQUEST_SLOW')).toBe(true)
})

test.each([
  ['asks for a tunnel', 'CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n'],
  ['asks for a WebSocket', 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
])('a client without a certificate that %s, is refused and holds its connection open all the same, is left', async (_, head) => {
  await using world = await openProxyWorld()
  const { cert: _cert, key: _key, ...nobody } = world.dial
  const wire: Socket = connect({ port: world.port, host: '127.0.0.1', allowHalfOpen: true })
  const socket = tlsConnect({ ...nobody, socket: wire })
  for (const one of [wire, socket]) one.on('error', () => undefined)
  expect(await exchangeRaw(socket, head, text => text.endsWith(']}'))).toContain('NO_CERTIFICATE')
  const held = async () => /assay_proxy_connections (\d+)/.exec(await world.metrics.text())?.[1]
  await until('the proxy to leave', async () => (await held()) === '0')
  wire.destroy()
})
