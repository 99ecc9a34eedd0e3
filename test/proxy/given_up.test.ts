import type { ServerResponse } from 'node:http'
import { constants, createSecureServer, type ServerHttp2Stream } from 'node:http2'
import { expect, onTestFinished, test } from 'vitest'
import { until } from '../harness/process.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

// Requests that do not come to their end: what the server is told, what is on record, and that nobody waits for them for ever.

/** A world whose server speaks HTTP/2, does as told with each request, and keeps the code with which its stream was closed. */
async function overHttp2(serve: (stream: ServerHttp2Stream, path: string) => void, initialWindowSize = 65_535) {
  const world = await openProxyWorld({
    tls: true,
    host: 'api.test',
    service: { http2: true, head_within_ms: 500 },
    config: { limits: { watch_ms: 50 } },
  })
  const closed: number[] = []
  const server = createSecureServer({ ...(await world.ca.issue('api.test')), settings: { initialWindowSize } })
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined).once('close', () => closed.push(stream.rstCode))
    serve(stream, String(headers[':path']))
  })
  await new Promise<void>(resolve => world.upstream.server.close(() => server.listen(world.upstream.port, '127.0.0.1', resolve)))
  onTestFinished(async () => {
    await world[Symbol.asyncDispose]()
    server.close()
  })
  return { world, closed }
}

/** The agent has said so much of what it wants to upload, and no more. */
async function begun(world: ProxyWorld, said = 'half', length = 1000) {
  const socket = await world.connect()
  const lines = [
    `POST ${world.base}/ HTTP/1.1`,
    'Host: a',
    `Authorization: Bearer ${await world.seal({ jti: 'jti-1' })}`,
    `Content-Length: ${length}`,
  ]
  socket.on('error', () => undefined).resume()
  socket.write(`${lines.join('\r\n')}\r\n\r\n${said}`)
  return socket
}

test.each(['whose agent leaves', 'whose token ends', 'that the server answers without it'])(
  'an upload %s is no whole one for a server that speaks HTTP/2, and does not last there',
  async how => {
    const arrived = Promise.withResolvers<unknown>()
    const { world, closed } = await overHttp2(stream => {
      stream.once('data', arrived.resolve)
      if (!how.startsWith('that')) return
      stream.respond({ ':status': 413 })
      stream.end('no')
    })
    const socket = await begun(world)
    await arrived.promise
    if (how === 'whose agent leaves') socket.destroy()
    if (how === 'whose token ends') await world.sealing.revocations.deny('jti-1')
    await until('the stream to end at the server', async () => closed.length === 1)
    expect(closed).toEqual([constants.NGHTTP2_CANCEL])
    socket.destroy()
  },
)

const whole = [1000, 50_000]
test.each(
  ['whose agent leaves', 'whose token ends', 'that the server answers without it', 'that is not answered in time'].flatMap(how =>
    whole.map(length => [length, how] as const),
  ),
)('of a whole upload of %d bytes %s the server is not left with what it does not take', async (length, how) => {
  const arrived = Promise.withResolvers<unknown>()
  const { world, closed } = await overHttp2((stream, path) => {
    if (path !== '/first') stream.once('readable', arrived.resolve) // and nothing is read
    if (path !== '/first' && !how.startsWith('that the server')) return
    stream.respond({ ':status': 200 })
    stream.end('taken')
  }, 100)
  // until then nobody knows how little the server takes
  await world.ask({ path: `${world.base}/first`, headers: bearer(await world.seal()) })
  await until('the first to end at the server', async () => closed.splice(0).length === 1)
  const socket = await begun(world, 'a'.repeat(length), length)
  await arrived.promise
  if (how === 'whose agent leaves') socket.destroy()
  if (how === 'whose token ends') await world.sealing.revocations.deny('jti-1')
  await until('the stream to end at the server', async () => closed.length === 1)
  expect(closed).toEqual([constants.NGHTTP2_CANCEL])
  socket.destroy()
})

test('an agent that leaves was refused by nobody', async () => {
  await using world = await openProxyWorld()
  const left = Promise.withResolvers<unknown>()
  world.upstream.answer = (incoming, outgoing) => {
    incoming.socket.once('close', left.resolve)
    outgoing.writeHead(200, { 'Content-Length': 1000 }).write('half')
  }
  const socket = await world.connect()
  socket.write(`GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`)
  await new Promise(resolve => socket.once('data', resolve))
  socket.destroy()
  await left.promise
  expect((await world.records()).map(one => one['type'])).toEqual(['system', 'request', 'system'])
})

test('a request for which no place at the server becomes free is answered, and goes nowhere later', async () => {
  await using world = await openProxyWorld({ service: { connections: 1, connect_within_ms: 50, head_within_ms: 1000 } })
  const began = Promise.withResolvers<ServerResponse>()
  world.upstream.answer = (_, outgoing) => {
    outgoing.writeHead(200).write('it lasts')
    began.resolve(outgoing)
  }
  const headers = bearer(await world.seal())
  const first = world.ask({ path: `${world.base}/first`, headers })
  const outgoing = await began.promise
  expect((await world.ask({ path: `${world.base}/second`, headers })).code).toBe('UPSTREAM_SLOW')
  outgoing.end()
  await first
  world.upstream.answer = (_, next) => void next.end('fine')
  expect((await world.ask({ path: `${world.base}/third`, headers })).text).toBe('fine')
  expect(world.upstream.seen.map(one => one.url)).toEqual(['/first', '/third'])
})
