import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Companion, openCompanion } from '../../agent/proxied/companion.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'

// The companion before a server that stands in for the proxy.

const SECRET = 'of-this-test'
let authority: Authority
let proxy: Server
let sockets: Set<Socket>
let answer: (outgoing: ServerResponse) => void
let companion: Companion
let said: string[]

beforeAll(async () => {
  authority = await newAuthority('companion')
  sockets = new Set()
  proxy = createServer(
    { ...(await authority.issue('proxy.test')), requestCert: true, rejectUnauthorized: false },
    (_, outgoing) => answer(outgoing),
  )
  proxy.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
})
afterAll(() => {
  proxy?.close()
  for (const socket of sockets) socket.destroy()
})
beforeEach(async () => {
  said = []
  companion = await openCompanion({
    proxy: {
      host: '127.0.0.1',
      name: 'proxy.test',
      port: (proxy.address() as AddressInfo).port,
      ca: authority.ca,
      deadlineMs: 5000,
    },
    identity: await ownIdentity({ now: Date.now, random: randomBytes }),
    secret: SECRET,
    say: line => void said.push(line),
  })
})
afterEach(() => companion[Symbol.asyncDispose]())

const port = () => Number(new URL(companion.proxyUrl).port)

/** What comes back on a connection of its own until its end. */
async function raw(head: string): Promise<string> {
  const socket = connect(port(), '127.0.0.1')
  socket.write(Buffer.from(head, 'latin1'))
  return await text(socket)
}

describe('who guesses the secret in letters that take two bytes each', () => {
  const letters = 'é'.repeat(SECRET.length)
  const basic = (word: string) => `Proxy-Authorization: Basic ${Buffer.from(word).toString('base64')}`
  const guess = `ass${letters.slice(0, 2)}:${letters}`

  test.each([
    [`GET http://api.test/ HTTP/1.1\r\nHost: x\r\n${basic(guess)}\r\n`, '403'],
    [`CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\n${basic(guess)}\r\n`, '407'],
  ])('is refused: %j', async (head, status) => {
    expect((await raw(`${head}Connection: close\r\n\r\n`)).split(' ')[1]).toBe(status)
  })
})

test('a command that runs for weeks is still known at the proxy', async () => {
  const { certificate } = await ownIdentity({ now: Date.now, random: randomBytes })
  expect(new X509Certificate(certificate).validToDate.getTime()).toBeGreaterThan(Date.now() + 300 * 86_400_000)
})

test('an answer that breaks off breaks off for the command, too', async () => {
  answer = outgoing => {
    outgoing.writeHead(200, { 'content-length': 1000 }).write('the first part', () => outgoing.socket?.destroy())
  }
  const asking = request(`${companion.baseUrl}/api.test/`).end()
  const [incoming] = (await once(asking, 'response')) as [IncomingMessage]
  await expect(text(incoming)).rejects.toThrow('aborted')
})
