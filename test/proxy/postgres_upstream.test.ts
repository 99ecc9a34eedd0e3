import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { createSecureContext, TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { logIn } from '../../proxy/postgres/upstream.ts'
import { askScram, asks, authentication, loggedIn, message } from '../fakes/postgres.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

// Whom a PostgreSQL server has to be, and how it may ask for the password. A real one: test/live.

const READY = loggedIn(4711, 123_456_789)
const PASSWORD = 'the real password'
const who = { database: 'orders', user: 'builder', password: new Secret(PASSWORD), applicationName: '', options: '' }
const common = { ...who, encoding: undefined, timeoutMs: 60_000 }

/** A server with a certificate for this name; how the proxy fares that takes it for that one. */
async function processOf(certified: string, host: string): Promise<number> {
  const ca = await newAuthority('databases')
  const { cert, key } = await ca.issue(certified)
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket.on('error', () => undefined))
    socket.once('data', () => {
      socket.write('S')
      const inner = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext({ cert, key }) })
      inner.on('error', () => undefined).once('data', () => askScram(inner, PASSWORD, READY))
    })
  })
  const { port, socket } = await connectedTo(server, sockets)
  const upstream = await logIn({ ...common, host, port, tls: { ca: ca.ca }, socket })
  sockets.add(upstream.socket)
  return upstream.processId
}

async function connectedTo(server: Server, sockets: Set<Socket>): Promise<{ readonly port: number; readonly socket: Socket }> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  sockets.add(socket)
  await new Promise(resolve => socket.once('connect', resolve))
  return { port, socket }
}

test.each([
  ['a name', 'db.test', 'db.test'],
  ['an IPv4 address', '127.0.0.1', '127.0.0.1'],
  ['an IPv6 address', '::1', '[::1]'],
])('a server that is declared by %s is known by its certificate', async (_, certified, host) => {
  expect(await processOf(certified, host)).toBe(4711)
})

test.each([
  ['another name', 'other.test', 'db.test'],
  ['another address', '::2', '[::1]'],
])('a certificate for %s is refused', async (_, certified, host) => {
  await expect(processOf(certified, host)).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
})

/** A login without TLS at a server that does this once it has the startup message; all that the server hears from then on. */
async function attempt(begun: (socket: Socket) => void) {
  const sockets = new Set<Socket>()
  let heard = ''
  const left = Promise.withResolvers<string>()
  const server = createServer(socket => {
    sockets.add(socket.on('error', () => undefined))
    socket.once('close', () => left.resolve(heard))
    socket.once('data', () => {
      socket.on('data', chunk => {
        heard += chunk.toString('latin1')
      })
      begun(socket)
    })
  })
  const { port, socket } = await connectedTo(server, sockets)
  return { left: left.promise, upstream: logIn({ ...common, host: '127.0.0.1', port, tls: undefined, socket }) }
}

const notice = message('N', Buffer.from('SNOTICE\0C00000\0Mhello\0\0'))
const begins = (socket: Socket, then: Buffer) => {
  socket.once('data', () => socket.write(then))
  socket.write(asks.scram)
}

/** As many challenges of SCRAM, all at once. */
function challenges(socket: Socket, count: number): void {
  socket.once('data', first => {
    const [nonce = ''] = /(?<=r=)[^,\0]+/.exec(first.toString('latin1')) ?? []
    const challenge = authentication(11, `r=${nonce}server,s=${Buffer.alloc(16).toString('base64')},i=4096`)
    socket.write(Buffer.concat(Array<Buffer>(count).fill(challenge)))
    socket.once('data', () => socket.end())
  })
  socket.write(asks.scram)
}

test.each<[string, (socket: Socket) => unknown]>([
  ['wants more than one proof', socket => challenges(socket, 2)],
  ['asks for the password in clear', socket => socket.write(asks.cleartext)],
  ['asks for its MD5', socket => socket.write(asks.md5)],
  ['begins with SCRAM and then asks for it in clear', socket => begins(socket, asks.cleartext)],
  ['begins with SCRAM and then asks for its MD5', socket => begins(socket, asks.md5)],
  ['asks for nothing', socket => socket.write(READY)],
  ['begins with SCRAM and then wants no proof', socket => begins(socket, READY)],
  ['takes the proof and has none of its own', socket => askScram(socket, PASSWORD, READY, Buffer.alloc(0))],
])('a server that %s is left, and hears neither the password nor its MD5', async (_, begun) => {
  const { upstream, left } = await attempt(begun)
  await expect(upstream).rejects.toMatchObject({ code: 'NOT_SCRAM' })
  expect(await left).not.toMatch(new RegExp(`${PASSWORD}|md5[0-9a-f]{32}`))
})

test('a server whose message does not end is left', async () => {
  const { upstream, left } = await attempt(socket => {
    socket.write(Buffer.from([0x4e, 0x7f, 0xff, 0xff, 0xff]))
    const more = () => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
    }
    socket.on('drain', more)
    more()
  })
  await expect(upstream).rejects.toMatchObject({ code: 'MESSAGE_TOO_LONG' })
  await left
})

test('a server whose proof is of another password is left', async () => {
  const { upstream, left } = await attempt(socket => askScram(socket, PASSWORD, READY, authentication(12, 'v=bm90IGl0')))
  await expect(upstream).rejects.toThrow('server signature')
  await left
})

test('what a server says in one piece with being ready is the agent’s, also when it is a part of a message', async () => {
  const rest = Promise.withResolvers<() => void>()
  const { upstream } = await attempt(socket => {
    askScram(socket, PASSWORD, Buffer.concat([READY, notice, notice.subarray(0, 7)]))
    rest.resolve(() => socket.end(notice.subarray(7)))
  })
  const { socket } = await upstream
  ;(await rest.promise)()
  expect(await buffer(socket)).toEqual(Buffer.concat([notice, notice]))
})
