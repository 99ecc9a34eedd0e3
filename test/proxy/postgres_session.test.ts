import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { askScram, int32, loggedIn, message } from '../fakes/postgres.ts'
import { until } from '../harness/process.ts'
import { openProxyWorld, type ProxyWorld } from './world.ts'

// Sessions of PostgreSQL whose other end leaves at an awkward moment, and requests to cancel. The server is a small one of our own; the real one: test/live.

const [PID, SECRET] = [4711, 123_456_789]
const PASSWORD = 'the real password'
const letIn = (socket: Socket) => askScram(socket, PASSWORD, loggedIn(PID, SECRET))
const SSL_REQUEST = int32(8, 80_877_103)
const CANCEL = int32(16, 80_877_102, PID, SECRET)

/** Connections that the server has open, and what it does with a startup message and a request to cancel. */
const open = new Set<Socket>()
let onStartup: (socket: Socket, said: Buffer) => void
let cancelled: Buffer[]
let server: ReturnType<typeof createServer>
let world: ProxyWorld
beforeEach(async () => {
  cancelled = []
  server = createServer(socket => {
    open.add(socket)
    socket.once('close', () => open.delete(socket)).on('error', () => undefined)
    socket.once('data', (first: Buffer) => {
      if (first.readInt32BE(4) === 80_877_102) cancelled.push(first)
      else onStartup(socket, first)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  world = await openProxyWorld({ more: [service()] })
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
  for (const socket of open) socket.destroy()
  await new Promise(resolve => server.close(resolve))
})

const place = () => `127.0.0.1:${(server.address() as AddressInfo).port}`
const service = () => ({
  kind: 'postgres',
  name: 'db',
  listen: { port: 0 },
  server: place(),
  addresses: ['127.0.0.1'],
  tls: 'disable',
  watch_ms: 50,
})

/** A connection of an agent that asked for TLS and has it. */
async function secured(): Promise<{ readonly inner: TLSSocket; readonly wire: Socket }> {
  const wire = connect(world.proxy.ports()['db'] ?? 0, '127.0.0.1')
  wire.on('error', () => undefined)
  wire.write(SSL_REQUEST)
  await new Promise(resolve => wire.once('data', resolve))
  const { ca, cert, key } = world.dial
  const inner = tlsConnect({ socket: wire, ca, cert, key, servername: 'proxy.test' })
  inner.on('error', () => undefined)
  await new Promise((resolve, reject) => inner.once('secureConnect', resolve).once('error', reject))
  return { inner, wire }
}

/** @param more names and values of settings; where one says TOKEN the sealed token stands */
async function startup(
  more: readonly string[] = [],
  wanted: { expiresAt?: number } = {},
  options = '-c assay.token=TOKEN',
): Promise<Buffer> {
  const fields = { username: 'builder', password: PASSWORD }
  const token = await world.seal({ fields, destinations: [`postgres://${place()}/orders`], ...wanted })
  const said = ['user', 'agent', 'database', 'orders', 'options', options, ...more].map(one => one.replaceAll('TOKEN', token))
  const body = Buffer.concat([int32(196_608), Buffer.from(`${said.join('\0')}\0\0`)])
  return Buffer.concat([int32(body.length + 4), body])
}

/** A session that is open at both ends. */
async function session(wanted: { expiresAt?: number } = {}) {
  onStartup = letIn
  const { inner } = await secured()
  inner.write(await startup([], wanted))
  await new Promise(resolve => inner.once('data', resolve))
  return inner
}

/** What the proxy says first to who begins with this. */
async function answered(first: Buffer): Promise<string> {
  onStartup = letIn
  const { inner } = await secured()
  inner.write(first)
  const said = await new Promise<string>(resolve => inner.once('data', (bytes: Buffer) => resolve(bytes.toString())))
  inner.destroy()
  return said
}

const refusals = async () => (await world.records()).filter(one => one['type'] === 'refusal')

test('an agent that leaves while the proxy logs in leaves no session at the server, and nothing that looks at it', async () => {
  const begun = Promise.withResolvers<Socket>()
  onStartup = begun.resolve
  const { inner, wire } = await secured()
  inner.write(await startup())
  const there = await begun.promise
  const gone = new Promise(resolve => wire.once('close', resolve))
  wire.resetAndDestroy()
  await gone
  await until('the proxy to have noticed', async () => world.metrics.text().then(text => /assay_proxy_sessions 0/.test(text)))
  letIn(there)
  await until('the session at the server to end', async () => open.size === 0)
  expect(await refusals()).toEqual([])
})

test('settings that a client says first reach the server, and nothing of the token does', async () => {
  const said = Promise.withResolvers<string>()
  onStartup = (socket, first) => {
    said.resolve(first.toString('utf8', 8))
    letIn(socket)
  }
  const { inner } = await secured()
  inner.write(await startup(['TimeZone', 'Asia/Tokyo', 'DateStyle', 'German, DMY', 'search_path', 'a\\b', '_pq_.x', '1']))
  await new Promise(resolve => inner.once('data', resolve))
  const words = (await said.promise).split('\0')
  expect(words[words.indexOf('options') + 1]).toBe('-c TimeZone=Asia/Tokyo -c DateStyle=German,\\ DMY -c search_path=a\\\\b')
  inner.destroy()
})

test.each<[string, string, readonly string[]]>([
  ['twice in the options', '-c assay.token=TOKEN -c assay.token=TOKEN', []],
  ['in another option', '-c assay.token=TOKEN -c a.b=TOKEN', []],
  ['in the name of the application', '-c assay.token=TOKEN', ['application_name', 'TOKEN']],
  ['in a setting', '-c assay.token=TOKEN', ['a.b', 'TOKEN']],
])('a token that is to go on to the server too goes nowhere: %s', async (_, options, more) => {
  expect(await answered(await startup(more, {}, options))).toContain('TOKEN_STRAY')
  expect(open.size).toBe(0)
})

test('nobody gets all that a server writes down for its replicas', async () => {
  for (const value of ['database', 'true', '']) expect(await answered(await startup(['replication', value]))).toContain('ROUTE')
  expect(open.size).toBe(0)
})

test('who comes with a certificate that has ended, or has not begun, is not let in', async () => {
  const lasting = { expiresAt: Math.floor(Date.now() / 1000) + 48 * 3600 }
  for (const hours of [25, -50]) {
    world.pass(hours * 3_600_000)
    expect(await answered(await startup([], lasting))).toContain('NO_CERTIFICATE')
  }
  expect(open.size).toBe(0)
})

const shorter = (whole: Buffer) => Buffer.concat([int32(whole.length - 1), whole.subarray(4, -1)])
test.each<[string, (whole: Buffer) => Buffer | Promise<Buffer>]>([
  ['names something twice', () => startup(['database', 'hidden'])],
  ['names nothing', () => startup(['', 'x'])],
  ['lacks a value', () => startup(['x'])],
  ['lacks its end', whole => shorter(whole)],
  ['has something behind its end', whole => Buffer.concat([int32(whole.length + 1), whole.subarray(4), Buffer.from('x')])],
  ['ends in something else than a zero', whole => Buffer.concat([whole.subarray(0, -1), Buffer.from('x')])],
  ['lacks its end behind a name', async () => shorter(await startup(['x']))],
  ['is of another version', whole => Buffer.concat([whole.subarray(0, 4), int32(131_072), whole.subarray(8)])],
  ['is shorter than its length', () => int32(3, 196_608)],
])('a first message that %s is none', async (_, change) => {
  expect(await answered(await change(await startup()))).toMatch(/REQUEST_FORM/)
  expect(open.size).toBe(0)
})

test('a session ends with the certificate of the agent, whatever its token says', async () => {
  const inner = await session({ expiresAt: Math.floor(Date.now() / 1000) + 48 * 3600 })
  const left = new Promise(resolve => inner.once('close', resolve).resume())
  world.pass(25 * 3_600_000)
  await left
  await until('the session at the server to end', async () => open.size === 0)
  expect((await refusals()).map(one => one['code'])).toEqual(['NO_CERTIFICATE'])
})

const later = (whole: Buffer, minor: number) => Buffer.concat([whole.subarray(0, 4), int32(196_608 + minor), whole.subarray(8)])
test.each<[string, number, readonly string[], Buffer]>([
  ['a later version', 2, [], int32(196_608, 0)],
  ['an option', 0, ['_pq_.a', '1'], Buffer.concat([int32(196_608, 1), Buffer.from('_pq_.a\0')])],
  ['both', 9999, ['_pq_.a', '1', '_pq_.b', ''], Buffer.concat([int32(196_608, 2), Buffer.from('_pq_.a\0_pq_.b\0')])],
])('a client that asks for %s of the protocol hears what there is, and has its session', async (_, minor, more, told) => {
  onStartup = letIn
  const { inner } = await secured()
  const said: Buffer[] = []
  inner.on('data', (bytes: Buffer) => void said.push(bytes))
  inner.write(later(await startup(more), minor))
  await until('the session', async () => Buffer.concat(said).includes(message('Z', Buffer.from('I'))))
  expect(Buffer.concat(said)).toEqual(Buffer.concat([message('v', told), loggedIn(PID, SECRET)]))
  inner.destroy()
})

test.each([
  ['22023', /\0C22023\0MUPSTREAM: .*\0Dthe server answered with SQLSTATE 22023\0/],
  ['53300', /\0C53300\0MUPSTREAM: /],
  ['EPIPE', /\0C08006\0MUPSTREAM: [^\0]*\0\0$/],
])('a server that answers %s', async (state, told) => {
  onStartup = socket => void socket.write(message('E', Buffer.from(`SFATAL\0C${state}\0Mof "a database"\0\0`)))
  const { inner } = await secured()
  inner.write(await startup())
  const said = await new Promise<Buffer>(resolve => inner.once('data', resolve))
  expect(said.toString()).toMatch(told)
  expect(said.toString()).not.toContain('a database')
  inner.destroy()
})

test('a server that refuses and then holds its connection open is left', async () => {
  const fields = Buffer.from('SFATAL\0C28P01\0Mno\0\0')
  onStartup = socket => void socket.write(message('E', fields))
  const { inner } = await secured()
  inner.write(await startup())
  await new Promise(resolve => inner.once('data', resolve))
  await until('the connection to end', async () => open.size === 0)
  inner.destroy()
})

test('a client that is refused, and holds its connection open all the same, is left', async () => {
  const sessions = async () => /assay_proxy_sessions (\d+)/.exec(await world.metrics.text())?.[1]
  const wire = connect({ port: world.proxy.ports()['db'] ?? 0, host: '127.0.0.1', allowHalfOpen: true })
  wire.on('error', () => undefined).resume()
  wire.write('no startup message')
  await until('the refusal', async () => (await refusals()).length === 1)
  await until('the proxy to leave', async () => (await sessions()) === '0')
  wire.destroy()
})

test.each(['in clear, as libpq does it before 17', 'over TLS, as it does since'])('a request to cancel, %s', async how => {
  const inner = await session()
  const over = how.startsWith('over') ? (await secured()).inner : connect(world.proxy.ports()['db'] ?? 0, '127.0.0.1')
  const closed = new Promise(resolve => over.once('close', resolve).on('error', () => undefined))
  over.write(CANCEL)
  await until('the server to hear of it', async () => cancelled.length === 1)
  expect(cancelled[0]).toEqual(CANCEL)
  await closed
  expect(await refusals()).toEqual([])
  inner.destroy()
})

test('a request to cancel finds its session when the services were taken over anew', async () => {
  const inner = await session()
  const { connectors } = await import('../../proxy/connectors/index.ts')
  await world.proxy.reload([connectors.postgres.schema.parse(service())])
  const over = connect(world.proxy.ports()['db'] ?? 0, '127.0.0.1')
  over.on('error', () => undefined).end(CANCEL)
  await until('the server to hear of it', async () => cancelled.length === 1)
  inner.destroy()
})
