import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { frame, framesOf, kinds, written } from '../../proxy/ssh/frames.ts'
import { until } from '../harness/process.ts'
import { credential, ed25519, KEXINIT, NEWKEYS, reply, VERSION } from './ssh_parts.ts'
import { type Client, openProxyWorld, type ProxyWorld } from './world.ts'

// The port of an SSH service, and what companions that are none may do there. The server behind it does what a test wants.

const host = ed25519()
let world: ProxyWorld
let server: Server
let serve: (socket: Socket) => unknown
let sockets: Set<Socket>

beforeEach(async () => {
  sockets = new Set()
  serve = socket => void socket.write(Buffer.concat([VERSION, KEXINIT]))
  server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    serve(socket)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
  for (const socket of sockets) socket.destroy()
  server.close()
})

const place = () => `127.0.0.1:${(server.address() as AddressInfo).port}`
const open = async (more: object = {}, config: object = {}) => {
  const service = {
    kind: 'ssh',
    name: 'hosts',
    listen: { port: 0 },
    server: place(),
    addresses: ['127.0.0.1'],
    host_keys: [host.line],
  }
  world = await openProxyWorld({ more: [{ ...service, start_within_ms: 60_000, watch_ms: 50, ...more }], config })
}
const port = () => world.proxy.ports()['hosts'] ?? 0

function connected(as: Client | 'nobody' = world.agent): Promise<TLSSocket> {
  const own = as === 'nobody' ? {} : { cert: as.cert, key: as.key }
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host: '127.0.0.1', port: port(), ca: world.ca.ca, servername: 'proxy.test', ...own })
    socket.once('secureConnect', () => resolve(socket)).once('error', reject)
  })
}

async function hello(more: object = {}, wanted: { expiresAt?: number } = {}): Promise<Buffer> {
  const token = await world.seal({ destinations: [`ssh://${place()}/deploy`], fields: credential().fields, ...wanted })
  const [name = '', at] = place().split(':')
  return frame(kinds.hello, Buffer.from(JSON.stringify({ token, user: 'deploy', host: name, port: Number(at), ...more })))
}

/** What comes until the other side ends: bytes of the session, and the refusal. */
async function all(socket: TLSSocket): Promise<{ data: Buffer; refusal: string | undefined }> {
  const data: Buffer[] = []
  let refusal: string | undefined
  for await (const { kind, body } of framesOf(socket)) {
    if (kind === kinds.data) data.push(body)
    else refusal = body.toString()
  }
  return { data: Buffer.concat(data), refusal }
}

const code = ({ refusal = '' }: { refusal: string | undefined }) => refusal.split(':')[0]
const recorded = async () => (await world.records()).filter(record => record['type'] === 'refusal').map(record => record['code'])

describe('what is no companion is refused:', () => {
  test('one without a certificate', async () => {
    await open()
    const socket = await connected('nobody')
    socket.write(await hello())
    expect(code(await all(socket))).toBe('NO_CERTIFICATE')
  })

  test.each([25, -50])('one whose certificate is not in force, by %i hours from now', async hours => {
    await open()
    world.pass(hours * 3_600_000)
    const socket = await connected()
    socket.write(await hello({}, { expiresAt: Math.floor(Date.now() / 1000) + 48 * 3600 }))
    expect(code(await all(socket))).toBe('NO_CERTIFICATE')
    expect(sockets.size).toBe(0)
  })

  test.each<[string, object, string]>([
    ['one that wants another server', { host: 'elsewhere.test' }, 'DESTINATION'],
    ['one that wants another port', { port: 1 }, 'DESTINATION'],
    ['one that wants a user who is not served', { user: 'root' }, 'ROUTE'],
    ['one that has no token', { token: '' }, 'NO_TOKEN'],
  ])('%s', async (_, more, expected) => {
    await open({ users: ['deploy'] })
    const socket = await connected()
    socket.write(await hello(more))
    expect(code(await all(socket))).toBe(expected)
    expect(sockets.size).toBe(0)
  })

  test.each<[string, (first: Buffer) => Buffer]>([
    ['no frame', () => Buffer.from('SSH-2.0-OpenSSH_9.2\r\n\r\n')],
    ['a frame of an impossible length', () => Buffer.from([0, 0xff, 0xff, 0xff, 0xff])],
    ['another frame first', () => frame(kinds.data, Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'))],
    ['a first frame that is no JSON', () => frame(kinds.hello, Buffer.from('{"token":'))],
    ['a first frame that lacks something', () => frame(kinds.hello, Buffer.from('{"token":"x"}'))],
    ['a user that reads as a path', first => Buffer.from(first.toString('latin1').replace('"deploy"', '"../../"'), 'latin1')],
  ])('%s', async (_, change) => {
    await open()
    const socket = await connected()
    socket.write(change(await hello()))
    await all(socket).catch(() => undefined)
    await until('the refusal to be on record', async () => (await recorded()).includes('REQUEST_FORM'))
    expect(sockets.size).toBe(0)
  })

  test('one that says nothing in time', async () => {
    await open({ start_within_ms: 100 })
    await all(await connected()).catch(() => undefined)
    await until('the refusal to be on record', async () => (await recorded()).includes('REQUEST_SLOW'))
  })

  test('one that does not log in in time, though it has a token', async () => {
    await open({ start_within_ms: 500 })
    const socket = await connected()
    socket.write(await hello())
    expect(code(await all(socket))).toBe('REQUEST_SLOW')
    await until('the server to be left', async () => [...sockets].every(one => one.destroyed || one.readableEnded))
  })
})

test('a server that does not speak SSH is not spoken to', async () => {
  serve = socket => void socket.write(Buffer.alloc(70_000, 'HTTP/1.1 200 OK\r\n'))
  await open()
  const socket = await connected()
  socket.write(await hello())
  expect(code(await all(socket))).toBe('UPSTREAM')
})

const another = ed25519().blob
const shows = reply(another, Buffer.from('a signature'))

test.each<[string, string, readonly Buffer[]]>([
  ['at once', 'HOST_KEY', [VERSION, KEXINIT, shows]],
  [
    'behind the right one, in a reply that no client expects',
    'HOST_KEY',
    [VERSION, KEXINIT, reply(host.blob, Buffer.from('any'), 33), shows],
  ],
  ['behind a version that the proxy does not read', 'UPSTREAM', [Buffer.from('SSH-1.99-sly\r\n'), KEXINIT, shows]],
  ['behind many lines', 'UPSTREAM', [Buffer.alloc(9000, 'welcome\r\n'), VERSION, KEXINIT, shows]],
])('a server with another key does not reach the client with it: %s, in one piece or in many', async (_, expected, pieces) => {
  await open()
  for (const sent of [[Buffer.concat(pieces)], pieces]) {
    serve = async socket => {
      for (const piece of sent) await written(socket.setNoDelay(true), piece).catch(() => undefined)
    }
    const socket = await connected()
    socket.write(await hello())
    const { data, refusal } = await all(socket)
    expect(code({ refusal })).toBe(expected)
    expect(data.includes(another)).toBe(false)
  }
})

test('what a server says behind its NEWKEYS waits for that of the client, which may have passed it over', async () => {
  const clear = Buffer.concat([VERSION, reply(host.blob, Buffer.from('any')), NEWKEYS])
  serve = socket => void socket.write(Buffer.concat([clear, KEXINIT, shows]))
  await open()
  const socket = await connected()
  socket.write(Buffer.concat([await hello(), frame(kinds.data, Buffer.concat([VERSION, KEXINIT]))]))
  let seen: Buffer = Buffer.alloc(0)
  let answered = false
  for await (const { kind, body } of framesOf(socket)) {
    // the proxy's ssh-agent answers behind whatever went on before
    if (kind === kinds.agent) answered = socket.write(frame(kinds.data, NEWKEYS))
    else seen = Buffer.concat([seen, body])
    if (kind === kinds.agent || seen.length <= clear.length) expect(seen).toEqual(clear.subarray(0, seen.length))
    if (kind === kinds.data && seen.length === clear.length) socket.write(frame(kinds.agent, Buffer.from([11])))
    if (seen.includes(another)) break
  }
  expect(seen.length).toBe(clear.length + KEXINIT.length + shows.length)
  expect(answered).toBe(true)
})

test('a client that speaks no SSH is refused', async () => {
  await open()
  const socket = await connected()
  socket.write(Buffer.concat([await hello(), frame(kinds.data, Buffer.alloc(70_000, 'GET / HTTP/1.1\r\n'))]))
  expect(code(await all(socket))).toBe('REQUEST_FORM')
})

test('a signature for what is no session of the server is refused, and on record', async () => {
  await open()
  const socket = await connected()
  socket.write(await hello())
  socket.write(frame(kinds.agent, Buffer.from([11])))
  socket.write(frame(kinds.agent, Buffer.concat([Buffer.from([13]), Buffer.alloc(12)])))
  const answers: Buffer[] = []
  for await (const { kind, body } of framesOf(socket)) {
    if (kind === kinds.agent && answers.push(body) === 2) break
  }
  expect(answers).toEqual([Buffer.from([5]), Buffer.from([5])])
  expect(await recorded()).toEqual(['SESSION_SIGNATURE'])
})

/** Until the client's own encryption begins. */
const clientHead = frame(kinds.data, Buffer.concat([VERSION, KEXINIT, NEWKEYS]))

test('bytes go both ways as they are', async () => {
  const shows = Buffer.concat([VERSION, KEXINIT, reply(host.blob, Buffer.from('a signature')), NEWKEYS])
  serve = socket => {
    socket.write(shows)
    socket.on('data', bytes => socket.write(bytes)).once('end', () => socket.end())
  }
  await open()
  const socket = await connected()
  const sent = Buffer.concat([VERSION, KEXINIT, NEWKEYS, Buffer.alloc(300_000, 'abc')])
  socket.write(await hello())
  for (let at = 0; at < sent.length; at += 60_000) socket.write(frame(kinds.data, sent.subarray(at, at + 60_000)))
  let seen = 0
  socket.on('data', chunk => {
    seen += chunk.length
    if (seen > sent.length + shows.length) socket.end()
  })
  const { data } = await all(socket)
  expect(data.equals(Buffer.concat([shows, sent]))).toBe(true)
})

test('a client that does not read holds the server up, and nothing is piled up for it', async () => {
  const piece = Buffer.alloc(65_536, 'x')
  let taken = 0
  serve = socket => {
    socket.write(Buffer.concat([VERSION, KEXINIT, reply(host.blob, Buffer.from('a signature')), NEWKEYS]))
    const more = () => {
      while (!socket.destroyed && socket.write(piece, () => (taken += piece.length)));
    }
    socket.on('drain', more)
    more()
  }
  await open()
  const socket = await connected()
  socket.pause()
  socket.write(Buffer.concat([await hello(), clientHead]))
  let [before, still] = [-1, 0]
  await until(
    'the server to be held up',
    async () => {
      still = taken > 0 && taken === before ? still + 1 : 0
      before = taken
      return still > 50
    },
    30_000,
  )
  expect(taken).toBeLessThan(64 * 2 ** 20)
  socket.resume()
  await until('the server to go on', async () => taken > before + 2 ** 20)
  socket.destroy()
  await until('the server to be left', async () => [...sockets].every(one => one.destroyed))
})

test('a client that does not read is left when its token ends', async () => {
  serve = socket => {
    socket.write(Buffer.concat([VERSION, KEXINIT, reply(host.blob, Buffer.from('a signature')), NEWKEYS]))
    const more = () => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
    }
    socket.on('drain', more)
    more()
  }
  await open()
  const socket = await connected()
  socket.pause()
  socket.on('error', () => undefined)
  socket.write(Buffer.concat([await hello(), clientHead]))
  await until('the session to run', async () => sockets.size === 1)
  world.pass(3_600_000)
  await until('the server to be left', async () => [...sockets].every(one => one.destroyed))
  expect(await recorded()).toContain('TOKEN_EXPIRED')
})

test('a session ends with the certificate of the agent, whatever its token says', async () => {
  await open()
  const socket = await connected()
  socket.write(await hello({}, { expiresAt: Math.floor(Date.now() / 1000) + 48 * 3600 }))
  await until('the session to run', async () => sockets.size === 1)
  world.pass(25 * 3_600_000)
  expect(code(await all(socket))).toBe('NO_CERTIFICATE')
  await until('the server to be left', async () => [...sockets].every(one => one.destroyed || one.readableEnded))
})
