import { connect, type Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ed25519 } from './ssh_parts.ts'
import { bearer, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// Names of servers in a ClientHello as no library sends them, at each port and in a tunnel. The handshake may end or go on; nothing else does either.

let world: ProxyWorld
beforeAll(async () => {
  const common = { listen: { port: 0 }, server: '127.0.0.1:1', start_within_ms: 60_000 }
  world = await openProxyWorld({
    tls: true,
    host: 'api.test',
    intercept: true,
    more: [
      { ...common, kind: 'postgres', name: 'postgres' },
      { ...common, kind: 'ssh', name: 'ssh', host_keys: [ed25519().line] },
    ],
  })
})
afterAll(() => world[Symbol.asyncDispose]())

const uint16 = (value: number) => Buffer.from([value >> 8, value & 0xff])
const sized = (body: Buffer) => Buffer.concat([uint16(body.length), body])
const extension = (kind: number, body: Buffer) => Buffer.concat([uint16(kind), sized(body)])
const hostName = (name: Buffer) => Buffer.concat([Buffer.from([0]), sized(name)])

/** A ClientHello of TLS 1.3 that a server could go on with, but for the body of its extension 0 (RFC 8446, 4.1.2; RFC 6066, 3). */
function clientHello(serverName: Buffer): Buffer {
  const extensions = Buffer.concat([
    extension(0, serverName),
    extension(10, sized(uint16(0x001d))), // x25519
    extension(13, sized(Buffer.concat([uint16(0x0403), uint16(0x0804)]))),
    extension(43, Buffer.from([2, 3, 4])),
    extension(51, sized(Buffer.concat([uint16(0x001d), sized(Buffer.alloc(32, 9))]))),
  ])
  const suites = sized(uint16(0x1301))
  const body = Buffer.concat([
    uint16(0x0303),
    Buffer.alloc(32, 1),
    Buffer.from([0]),
    suites,
    Buffer.from([1, 0]),
    sized(extensions),
  ])
  const handshake = Buffer.concat([Buffer.from([1, 0]), sized(body)])
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(handshake)])
}

const list = (...names: readonly Buffer[]) => sized(Buffer.concat(names))
const named = (text: string) => list(hostName(Buffer.from(text, 'latin1')))
const names: readonly (readonly [string, Buffer])[] = [
  ['a name, so that the rest is right', named('api.test')],
  ['an empty name', named('')],
  ['one of 255 bytes', named('a'.repeat(255))],
  ['one of 256 bytes', named('a'.repeat(256))],
  ['one of 16000 bytes', named('a'.repeat(16_000))],
  ['an IPv4 address', named('127.0.0.1')],
  ['an IPv6 address', named('::1')],
  ['a name with NUL in it', named('api.test\0.evil.example')],
  ['NUL alone', named('\0')],
  ['bytes that are no text', named('\xff\xfe\x80')],
  ['names of objects', named('__proto__')],
  ['two names', list(hostName(Buffer.from('api.test')), hostName(Buffer.from('evil.example')))],
  ['no names', list()],
  ['a name of another kind', list(Buffer.concat([Buffer.from([7]), sized(Buffer.from('x'))]))],
  ['a list that is longer than it is', Buffer.concat([uint16(100), hostName(Buffer.from('api.test'))])],
  ['a name that is longer than its list', list(Buffer.concat([Buffer.from([0]), uint16(200), Buffer.from('api.test')]))],
  ['nothing at all', Buffer.alloc(0)],
]

/** The first that is said to it: a handshake (22) or an alert (21), or nothing before the end. */
function greeted(socket: Socket | TLSSocket, hello: Buffer): Promise<number | undefined> {
  return new Promise(resolve => {
    socket.removeAllListeners('data').once('data', (chunk: Buffer) => resolve(chunk[0]))
    socket.once('close', () => resolve(undefined)).on('error', () => undefined)
    socket.write(hello)
  })
}

const ways: Readonly<Record<string, () => Promise<Socket>>> = {
  'the port of agents': async () => connect(world.port, '127.0.0.1'),
  'a tunnel': async () => {
    const place = `api.test:${world.upstream.port}`
    const outer = await world.connect()
    await exchangeRaw(outer, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`, text => text.includes('\r\n\r\n'))
    return outer
  },
  'the port of PostgreSQL': async () => {
    const socket = connect(world.proxy.ports()['postgres'] ?? 0, '127.0.0.1')
    socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]))
    await new Promise(resolve => socket.once('data', resolve))
    return socket
  },
  'the port of SSH': async () => connect(world.proxy.ports()['ssh'] ?? 0, '127.0.0.1'),
}

test.each(Object.keys(ways))('%s: a hostile name is answered or left, and others are served', async way => {
  const answers = new Map<string, number | undefined>()
  for (const [what, serverName] of names) {
    const socket = (await ways[way]?.()) as Socket
    answers.set(what, await greeted(socket, clientHello(serverName)))
    socket.destroy()
  }
  expect(answers.get('a name, so that the rest is right')).toBe(22)
  expect([...answers.values()].every(first => first === undefined || first === 21 || first === 22)).toBe(true)
  expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
})

test.each(['', 'a'.repeat(255), 'other.test'])('a whole handshake that names %j is one like any other', async servername => {
  const own = { ...world.dial, servername, checkServerIdentity: () => undefined }
  const socket = tlsConnect(own)
  const head = `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
  expect(await exchangeRaw(socket, head, text => text.endsWith('fine'))).toContain('200 OK')
  socket.destroy()
})
