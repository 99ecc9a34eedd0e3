import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { Secret } from '#engine'
import { logIn, type Upstream } from '../../proxy/postgres/upstream.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { run } from '../harness/process.ts'
import { discard, scratch } from '../harness/scratch.ts'
import { type Authority, openAuthority } from './certificates.ts'

// SCRAM-SHA-256-PLUS at a real PostgreSQL server: who stands in between, with whatever certificate, gets no session.

type Files = { readonly cert: string; readonly key: string }

let parts = new AsyncDisposableStack()
let ca: Authority
let own: Files
let database: Postgres
beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  ca = opening.use(await openAuthority())
  own = await ca.issue('database')
  database = opening.use(await startPostgres(own))
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

async function session({ port, user, password }: Postgres, at: number, trusted: string): Promise<Upstream> {
  const socket = connect(at, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  const who = { database: 'postgres', user, password: new Secret(password), applicationName: '', options: '' }
  const tls = { ca: await readFile(trusted, 'utf8') }
  return logIn({ ...who, encoding: undefined, timeoutMs: 60_000, host: '127.0.0.1', port, tls, socket })
}

/** Takes something away from what the server says. */
type Change = (said: Buffer) => Buffer
const ASK_TLS = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])

/** Ends the TLS of both sides. @returns its port */
async function between(shown: Files, change: Change = said => said): Promise<number> {
  const secureContext = createSecureContext({ cert: await readFile(shown.cert), key: await readFile(shown.key) })
  const sockets = new Set<Socket>()
  const keep = <T extends Socket>(socket: T): T => {
    sockets.add(socket.on('error', () => undefined))
    return socket
  }
  const serve = async (socket: Socket) => {
    await once(socket, 'data')
    const upstream = keep(await overTls(database.port))
    const agent = keep(new TLSSocket(socket, { isServer: true, secureContext }))
    socket.write('S')
    agent.pipe(upstream)
    upstream.on('data', (said: Buffer) => agent.write(change(said))).once('close', () => agent.end())
  }
  const server = createServer(socket => void serve(keep(socket)))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function overTls(port: number): Promise<TLSSocket> {
  const socket = connect(port, '127.0.0.1')
  socket.write(ASK_TLS)
  await once(socket, 'data')
  return connectTls({ socket, rejectUnauthorized: false })
}

/** Without the better one in the list of what the server can. @see PostgreSQL documentation, 55.7 Message Formats, AuthenticationSASL */
const downgraded: Change = said => {
  const list = said.toString('latin1')
  return list.includes(PLUS) ? Buffer.from('R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0', 'latin1') : said
}
const PLUS = 'SCRAM-SHA-256-PLUS\0'

test('the server itself lets the proxy in', async () => {
  const { processId } = await session(database, database.port, ca.ca)
  expect(processId).toBeGreaterThan(0)
})

test('so it does behind one who has its own key, and cannot be told from it', async () => {
  const { processId } = await session(database, await between(own), ca.ca)
  expect(processId).toBeGreaterThan(0)
})

test('who shows another certificate of the same authority gets no session', async () => {
  const port = await between(await ca.issue('another'))
  await expect(session(database, port, ca.ca)).rejects.toMatchObject({
    code: '28000',
    message: expect.stringMatching(/channel binding check failed/),
  })
})

test('nor who says in place of the server that it cannot bind', async () => {
  const port = await between(own, downgraded)
  await expect(session(database, port, ca.ca)).rejects.toMatchObject({
    code: '28000',
    message: expect.stringMatching(/channel binding negotiation error/),
  })
})

test.each([
  ['RSA and SHA-1, which count as SHA-256', ['-sha1']],
  ['RSA and SHA-512', ['-sha512']],
  ['RSA-PSS and SHA-384', ['-sha384', '-sigopt', 'rsa_padding_mode:pss']],
])('a certificate that is signed with %s is bound to', async (_, how) => {
  const folder = await scratch('assay-binding-')
  onTestFinished(() => discard(folder))
  const files = { cert: join(folder, 'own.pem'), key: join(folder, 'own.key') }
  const about = ['-subj', '/CN=database', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '1']
  const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', files.key, '-out', files.cert, ...how, ...about]
  expect(await run('openssl', made)).toMatchObject({ code: 0 })
  await using another = await startPostgres(files)
  expect((await session(another, another.port, files.cert)).processId).toBeGreaterThan(0)
})
