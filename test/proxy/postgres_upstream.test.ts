import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createSecureContext, TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { logIn } from '../../proxy/postgres/upstream.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

// Whom a PostgreSQL server has to be that asks for no password. A real one: test/live.

const READY = Buffer.from('520000000800000000 4b0000000c00001267075bcd15 5a0000000549'.replaceAll(' ', ''), 'hex')

/** A server with a certificate for this name; how the proxy fares that takes it for that one. */
async function loggedIn(certified: string, host: string): Promise<number> {
  const ca = await newAuthority('databases')
  const { cert, key } = await ca.issue(certified)
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket.on('error', () => undefined))
    socket.once('data', () => {
      socket.write('S')
      const inner = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext({ cert, key }) })
      inner.on('error', () => undefined).once('data', () => inner.write(READY))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  sockets.add(socket)
  await new Promise(resolve => socket.once('connect', resolve))
  const who = { database: 'orders', user: 'builder', password: new Secret('p'), applicationName: '', options: '' }
  const upstream = await logIn({ ...who, encoding: undefined, host, port, tls: { ca: ca.ca }, socket, timeoutMs: 10_000 })
  sockets.add(upstream.socket)
  return upstream.processId
}

test.each([
  ['a name', 'db.test', 'db.test'],
  ['an IPv4 address', '127.0.0.1', '127.0.0.1'],
  ['an IPv6 address', '::1', '[::1]'],
])('a server that is declared by %s is known by its certificate', async (_, certified, host) => {
  expect(await loggedIn(certified, host)).toBe(4711)
})

test.each([
  ['another name', 'other.test', 'db.test'],
  ['another address', '::2', '[::1]'],
])('a certificate for %s is refused', async (_, certified, host) => {
  await expect(loggedIn(certified, host)).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
})
