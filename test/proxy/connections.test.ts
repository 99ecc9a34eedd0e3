import type { ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import { bearer, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

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

test('who is refused, and reads once all of a long body is out, reads why', async () => {
  await using world = await openProxyWorld()
  const socket = (await world.connect()).pause()
  const long = Buffer.alloc(20_000_000)
  socket.write(`POST ${world.base}/ HTTP/1.1\r\nHost: a\r\nContent-Length: ${long.length}\r\n\r\n`)
  await new Promise<void>((resolve, reject) => socket.write(long, error => (error ? reject(error) : resolve())))
  expect(await text(socket)).toMatch(/^HTTP\/1.1 403 .*NO_TOKEN/s)
})

describe('of a server that answers a long body without reading it', () => {
  const begun = async (world: ProxyWorld, length: number) => {
    world.upstream.server.prependListener('request', (_, outgoing) => void outgoing.writeHead(413).end('too long'))
    world.upstream.answer = () => {}
    const socket = (await world.connect()).on('error', () => {})
    const lines = [`POST ${world.base}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${await world.seal()}`]
    socket.write(`${lines.join('\r\n')}\r\nContent-Length: ${length}\r\n\r\n`)
    return socket
  }

  test('the answer is there for who reads once all of it is out, and for what comes next on the connection', async () => {
    await using world = await openProxyWorld()
    const long = Buffer.alloc(20_000_000)
    const socket = (await begun(world, long.length)).pause()
    await new Promise<void>((resolve, reject) => socket.write(long, error => (error ? reject(error) : resolve())))
    socket.write(`GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
    expect(await text(socket)).toMatch(/^HTTP\/1.1 413 .*too long.*HTTP\/1.1 403 .*NO_TOKEN/s)
  })

  test('who goes on sending it is not kept for longer than somebody who owes bytes', async () => {
    await using world = await openProxyWorld({ config: { limits: { stall_ms: 1_000 } } })
    const socket = (await begun(world, 50_000_000)).resume()
    const closed = new Promise(resolve => socket.once('close', resolve))
    const sending = setInterval(() => socket.write('a'), 50)
    await closed
    clearInterval(sending)
  })
})

describe('requests that are sent ahead of answers', () => {
  const head = (world: ProxyWorld, token: string, path: string) =>
    `GET ${world.base}${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`

  test('go out one after the other, so that a connection takes one place at the server, and as many as may wait', async () => {
    await using world = await openProxyWorld({ service: { connections: 2 } })
    const first = Promise.withResolvers<ServerResponse>()
    world.upstream.answer = ({ url }, outgoing) => (url === '/0' ? first.resolve(outgoing) : void outgoing.end(`to ${url}.`))
    const [token, others] = [await world.seal(), await world.seal({ x5tS256: world.other.x5tS256 })]
    const heads = Array.from({ length: 20 }, (_, at) => head(world, token, `/${at}`))
    const socket = await world.connect()
    const all = exchangeRaw(socket, heads.join(''), text => (text.match(/CONNECTIONS:/g)?.length ?? 0) === 3)
    const outgoing = await first.promise
    expect((await world.ask({ path: `${world.base}/other`, headers: bearer(others), as: world.other })).status).toBe(200)
    expect(world.upstream.seen.map(one => one.url)).toEqual(['/0', '/other'])
    outgoing.end('to /0.')
    const answered = (await all).match(/to \/\d+\.|"code":"[A-Z]+"/g)
    socket.destroy()
    const served = Array.from({ length: 17 }, (_, at) => `to /${at}.`)
    expect(answered).toEqual([...served, ...Array<string>(3).fill('"code":"CONNECTIONS"')])
    expect((await world.records()).filter(one => one['type'] === 'refusal').map(one => one['code'])).toHaveLength(3)
  })

  test('go nowhere when their connection ends before their turn', async () => {
    await using world = await openProxyWorld()
    const gone = Promise.withResolvers<unknown>()
    const began = Promise.withResolvers<unknown>()
    world.upstream.answer = incoming => {
      incoming.socket.once('close', gone.resolve)
      began.resolve(undefined)
    }
    const token = await world.seal()
    const socket = await world.connect()
    socket.write(head(world, token, '/first') + head(world, token, '/second'))
    await began.promise
    socket.destroy()
    await gone.promise
    await until('the proxy to have noticed', async () => /assay_proxy_connections 0/.test(await world.metrics.text()))
    expect(world.upstream.seen.map(one => one.url)).toEqual(['/first'])
  })

  test.each(['CONNECT a.test:443 HTTP/1.1', 'GET BASE/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket'])(
    'and are of another protocol end the connection: %s',
    async line => {
      await using world = await openProxyWorld({ service: { websocket: true } })
      world.upstream.answer = () => undefined
      const token = await world.seal()
      const socket = await world.connect()
      const next = `${line.replace('BASE', world.base)}\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`
      expect(await exchangeRaw(socket, head(world, token, '/first') + next)).toBe('')
      const refused = (await world.records()).filter(one => one['type'] === 'refusal')
      expect(refused.map(one => one['code'])).toEqual(['REQUEST_FORM'])
    },
  )
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

describe('one certificate that holds all its places', () => {
  const config = { limits: { connections_per_agent: 2 } }
  const hear = (text: string) => /\]\}$|fine$/.test(text)

  /** A connection that has its place for certain: it was answered, and stays open. */
  const held = async (world: ProxyWorld): Promise<TLSSocket> => {
    const socket = await world.connect()
    const head = `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
    expect(await exchangeRaw(socket, head, hear)).toContain('200 OK')
    return socket
  }

  test('is told so on the next connection, others are served, and a place comes back when one is closed', async () => {
    await using world = await openProxyWorld({ config })
    const sockets = [await held(world), await held(world)]
    const mine = { headers: bearer(await world.seal()) }
    expect(await world.ask(mine)).toMatchObject({ status: 429, code: 'CONNECTIONS' })
    const theirs = { headers: bearer(await world.seal({ x5tS256: world.other.x5tS256, jti: 'theirs' })), as: world.other }
    expect((await world.ask(theirs)).status).toBe(200)
    expect((await world.ask({ as: undefined })).code).toBe('NO_CERTIFICATE')
    sockets[0]?.destroy()
    await until('the place to be free', async () => (await world.ask(mine)).status === 200)
    sockets[1]?.destroy()
    const codes = (await world.records()).map(one => one['code']).filter(code => code !== undefined)
    expect(new Set(codes)).toEqual(new Set(['CONNECTIONS', 'NO_CERTIFICATE']))
    expect(await world.metrics.text()).toMatch(/assay_proxy_refusals_total\{code="CONNECTIONS"\} [1-9]/)
  })

  test.each([
    ['a tunnel', 'CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n'],
    ['a WebSocket', 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
  ])('hears nothing else where it asks for %s', async (_, head) => {
    await using world = await openProxyWorld({ config })
    const sockets = [await held(world), await held(world)]
    const socket = await world.connect()
    expect(await exchangeRaw(socket, head)).toMatch(/^HTTP\/1\.1 429[^{]*\{"code":"CONNECTIONS"[^}]*\}$/)
    for (const one of sockets) one.destroy()
    expect((await world.records()).filter(one => one['type'] === 'refusal').map(one => one['code'])).toEqual(['CONNECTIONS'])
  })

  test('is not kept waiting by an address that shows no certificate, nor are others', async () => {
    await using world = await openProxyWorld({ config })
    const silent = [1, 2, 3].map(() => connect({ port: world.port, host: '127.0.0.1' }))
    const [one, two, three] = silent.map(socket => new Promise<void>(resolve => socket.once('close', () => resolve()).resume()))
    await three
    expect(silent.map(socket => socket.closed)).toEqual([false, false, true])
    const other = connect({ port: world.port, host: '127.0.0.1', localAddress: '127.0.0.2' })
    const theirs = tlsConnect({ ...world.dial, socket: other })
    const head = `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
    expect(await exchangeRaw(theirs, head, hear)).toContain('200 OK')
    theirs.destroy()
    for (const socket of silent) socket.destroy()
    await Promise.all([one, two])
    const mine = { headers: bearer(await world.seal()) }
    await until('the places to be free', async () => (await world.ask(mine).catch(() => undefined))?.status === 200)
  })

  test('leaves those without a certificate the places that they share', async () => {
    await using world = await openProxyWorld({ config })
    const { cert: _cert, key: _key, ...nobody } = world.dial
    const [one, two] = [tlsConnect(nobody), tlsConnect(nobody)]
    for (const socket of [one, two])
      expect(await exchangeRaw(socket, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', hear)).toContain('NO_CERTIFICATE')
    expect((await world.ask({ as: undefined })).code).toBe('CONNECTIONS')
    expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
    for (const socket of [one, two]) socket.destroy()
  })
})
