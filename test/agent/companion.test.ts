import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { type AddressInfo, connect, createServer as createPlainServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { createSecureContext, TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Companion, type CompanionOptions, openCompanion } from '../../agent/proxied/companion.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import type { ProxyPlace } from '../../agent/proxied/tunnel.ts'
import { run, until } from '../harness/process.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'
import { folder } from './tools.ts'

// The companion before a server that stands in for the proxy.

const SECRET = 'of-this-test'
let authority: Authority
let proxy: Server
let sockets: Set<Socket>
let answer: (outgoing: ServerResponse, incoming: IncomingMessage) => void
let companion: Companion
let said: string[]

beforeAll(async () => {
  authority = await newAuthority('companion')
  sockets = new Set()
  proxy = createServer(
    { ...(await authority.issue('proxy.test')), requestCert: true, rejectUnauthorized: false },
    (incoming, outgoing) => answer(outgoing, incoming),
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
  companion = await open()
})

async function open({ postgres, ...more }: Pick<CompanionOptions, 'postgres'> & Partial<ProxyPlace> = {}): Promise<Companion> {
  const { port } = proxy.address() as AddressInfo
  return await openCompanion({
    proxy: { host: '127.0.0.1', name: 'proxy.test', port, ca: authority.ca, deadlineMs: 5000, ...more },
    identity: await ownIdentity({ now: Date.now, random: randomBytes }),
    secret: SECRET,
    say: line => void said.push(line),
    postgres,
  })
}
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
    [`GET http://api.test/ HTTP/1.1\r\nHost: x\r\n${basic(guess)}\r\n`, '407'],
    [`CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\n${basic(guess)}\r\n`, '407'],
  ])('is refused: %j', async (head, status) => {
    expect((await raw(`${head}Connection: close\r\n\r\n`)).split(' ')[1]).toBe(status)
  })
})

test('a proxy that takes connections and answers nothing is not waited for', async () => {
  const stuck: Socket[] = []
  await using server = createPlainServer(socket => void stuck.push(socket))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  await using before = await open({ port: (server.address() as AddressInfo).port, deadlineMs: 200 })
  const [incoming] = (await once(request(`${before.baseUrl}/api.test/`).end(), 'response')) as [IncomingMessage]
  for (const socket of stuck) socket.destroy()
  expect(incoming.statusCode).toBe(502)
  expect(said).toEqual(['the proxy could not be reached: the proxy did not answer in time'])
})

describe('of a server that answers what Node reads and does not write', () => {
  const answers = ['HTTP/1.1 000 None\r\n', 'HTTP/1.1 099 None\r\n']

  test.each(answers)('%j ends the connection, and the next request goes on', async head => {
    answer = outgoing => void outgoing.socket?.end(`${head}Content-Length: 0\r\n\r\n`)
    await once(request(`${companion.baseUrl}/api.test/`).end(), 'error')
    answer = outgoing => outgoing.end('fine')
    const [incoming] = (await once(request(`${companion.baseUrl}/api.test/`).end(), 'response')) as [IncomingMessage]
    expect(await text(incoming)).toBe('fine')
  })

  test('a change of protocol that nobody asked for ends the connection', async () => {
    answer = outgoing => void outgoing.socket?.write('HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n')
    await once(request(`${companion.baseUrl}/api.test/`).end(), 'error')
  })

  test('trailers that are announced for no body are not', async () => {
    answer = outgoing => void outgoing.socket?.end('HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nContent-Length: 4\r\n\r\nfine')
    const [incoming] = (await once(request(`${companion.baseUrl}/api.test/`).end(), 'response')) as [IncomingMessage]
    expect(incoming.headers.trailer).toBeUndefined()
    expect(await text(incoming)).toBe('fine')
  })

  test('trailers that a command announces are not, either', async () => {
    answer = (outgoing, incoming) => outgoing.end(String(incoming.headers.trailer))
    expect(await raw(`GET /${SECRET}/_/api.test/ HTTP/1.1\r\nHost: x\r\nTrailer: x-sum\r\nConnection: close\r\n\r\n`)).toContain(
      'undefined',
    )
  })
})

test('git, which says who it is only when it is asked, is asked over plain HTTP, too', async () => {
  const asked: (string | undefined)[] = []
  answer = (outgoing, incoming) => {
    asked.push(incoming.url)
    outgoing.writeHead(404).end()
  }
  const env = { PATH: process.env['PATH'], http_proxy: companion.proxyUrl, GIT_TERMINAL_PROMPT: '0' }
  const { stderr } = await run('git', ['ls-remote', 'http://api.test/app.git'], { env })
  expect(stderr).toContain('not found')
  expect(asked).toEqual(['/_/http:api.test/app.git/info/refs?service=git-upload-pack'])
})

test('an address of the companion in a query stays as it is', async () => {
  const asked = Promise.withResolvers<string | undefined>()
  answer = (outgoing, incoming) => {
    asked.resolve(incoming.url)
    outgoing.end()
  }
  const query = `?back=${companion.baseUrl}/other.test/`
  await once(request(`${companion.baseUrl}/api.test/${query}`).end(), 'response')
  expect(await asked.promise).toBe(`/_/api.test/${query}`)
})

describe('a redirect that the proxy leads back to itself', () => {
  const curl = ['--silent', '--show-error', '--location', '--include', '--max-redirs', '1']
  const redirected = async (words: readonly string[]) => {
    const asked: (string | undefined)[] = []
    answer = (outgoing, { url = '' }) => {
      asked.push(url)
      if (url.endsWith('/old')) outgoing.writeHead(302, { Location: url.replace('old', 'new?a=b'), 'Content-Location': url })
      outgoing.end()
    }
    const { stdout } = await run('curl', [...curl, ...words], { env: { PATH: process.env['PATH'] } })
    return { asked, shown: [...stdout.matchAll(/^(?:content-)?location: (.*)\r$/gim)].map(([, location]) => location) }
  }

  test('leads a command with the base URL there', async () => {
    const base = `${companion.baseUrl}/api.test`
    expect(await redirected(['--noproxy', '*', `${base}/old`])).toEqual({
      asked: ['/_/api.test/old', '/_/api.test/new?a=b'],
      shown: [`${base}/new?a=b`, `${base}/old`],
    })
  })

  test('leads a command that asked a proxy to where it would lead it without one', async () => {
    expect(await redirected(['--proxy', companion.proxyUrl, 'http://api.test:81/old'])).toEqual({
      asked: ['/_/http:api.test:81/old', '/_/http:api.test:81/new?a=b'],
      shown: ['http://api.test:81/new?a=b', 'http://api.test:81/old'],
    })
  })

  test('leads a command that asked a proxy for `https:` without a tunnel to where it would lead it without one', async () => {
    answer = (outgoing, { url = '' }) => outgoing.writeHead(302, { Location: url.replace('old', 'new') }).end()
    const head = `GET https://api.test/old HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n`
    const said = `Proxy-Authorization: Basic ${btoa(`assay:${SECRET}`)}\r\n`
    expect(await raw(`${head}${said}\r\n`)).toMatch(/^HTTP\/1.1 302 .*location: https:\/\/api\.test\/new\r/is)
    expect(await raw(`${head}\r\n`)).toMatch(/^HTTP\/1.1 407 /)
  })

  test('stays as it is where it leads elsewhere', async () => {
    answer = outgoing => outgoing.writeHead(302, { Location: 'https://other.test/' }).end()
    const [incoming] = (await once(request(`${companion.baseUrl}/api.test/`).end(), 'response')) as [IncomingMessage]
    expect(incoming.headers.location).toBe('https://other.test/')
  })
})

describe('a command that leaves', () => {
  test('in the middle of a request hears of no trouble with the proxy, and its request there ends', async () => {
    const asked = Promise.withResolvers<ServerResponse>()
    answer = asked.resolve
    const asking = request(`${companion.baseUrl}/api.test/`).on('error', () => {})
    asking.end()
    const outgoing = await asked.promise
    asking.destroy()
    await once(outgoing, 'close')
    answer = other => other.end()
    await once(request(`${companion.baseUrl}/api.test/`).end(), 'response')
    expect(said).toEqual([])
  })

  test('while the proxy is dialled leaves no connection there', async () => {
    const head = `CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic ${btoa(`assay:${SECRET}`)}\r\n\r\n`
    const dialled = once(proxy, 'connection') as Promise<[Socket]>
    const socket = connect(port(), '127.0.0.1')
    socket.write(head)
    const [there] = await dialled
    proxy.once('connect', (_, held: Socket) => held.on('error', () => {}))
    socket.resetAndDestroy()
    await once(there, 'close')
  })
})

test('a base URL that a client asks for through a tunnel is served in it', async () => {
  answer = (outgoing, incoming) => outgoing.end(incoming.url)
  const { pathname, host } = new URL(`${companion.baseUrl}/api.test/in`)
  const words = ['--silent', '--proxytunnel', '--proxy', companion.proxyUrl, '--noproxy', '', `http://${host}${pathname}`]
  const { stdout } = await run('curl', words, { env: { PATH: process.env['PATH'] } })
  expect(stdout).toBe('/_/api.test/in')
})

describe('who is refused in the middle of an upload, and reads once all of it is out, reads that', () => {
  const LONG = Buffer.alloc(20_000_000)
  const uploaded = async (head: string) => {
    const socket = connect(port(), '127.0.0.1').pause()
    socket.write(`${head}Proxy-Authorization: Basic ${btoa(`assay:${SECRET}`)}\r\n\r\n`)
    await new Promise<void>((resolve, reject) => socket.write(LONG, error => (error ? reject(error) : resolve())))
    return await text(socket)
  }

  test('by the base URL', async () => {
    answer = (outgoing, incoming) => {
      outgoing.writeHead(403, { 'Content-Length': 2, Connection: 'close' }).write('no')
      incoming.resume().once('close', () => outgoing.end())
    }
    const head = `POST /${SECRET}/_/api.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${LONG.length}\r\n`
    expect(await uploaded(head)).toMatch(/^HTTP\/1.1 403 .*no$/s)
  })

  test('in a tunnel', async () => {
    proxy.once('connect', (_, socket: Socket) => {
      socket.write('HTTP/1.1 200 Fine\r\n\r\n')
      socket.on('error', () => {}).once('data', () => socket.end('no'))
    })
    expect(await uploaded('CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\n')).toMatch(/no$/)
  })
})

describe('a WebSocket by the base URL', () => {
  const head = (path: string) =>
    `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Twice: 1\r\nX-Twice: 2\r\nProxy-Authorization: a\r\n\r\n`

  test('is opened at the proxy, and passes both ways', async () => {
    let asked: IncomingMessage | undefined
    proxy.once('upgrade', (incoming: IncomingMessage, socket: Duplex) => {
      asked = incoming
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
      socket.pipe(socket)
    })
    const socket = connect(port(), '127.0.0.1')
    socket.write(`${head(`/${SECRET}/_/api.test/live?a=b`)}ping`)
    let seen = ''
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      seen += chunk.toString()
      if (seen.endsWith('ping')) break
    }
    expect(seen).toMatch(/^HTTP\/1.1 101 .*\r\n\r\nping$/s)
    expect(asked?.url).toBe('/_/api.test/live?a=b')
    expect(asked?.headersDistinct).toMatchObject({ upgrade: ['websocket'], 'x-twice': ['1', '2'] })
    expect(asked?.headers).not.toHaveProperty('proxy-authorization')
    expect(asked?.headers.host).toBe(`127.0.0.1:${(proxy.address() as AddressInfo).port}`)
  })

  test('is refused to who does not know the secret', async () => {
    expect((await raw(head('/another/_/api.test/live'))).split(' ')[1]).toBe('403')
  })
})

test('who reads slowly gets all of an answer behind which the proxy closes', async () => {
  await using place = await folder()
  const context = createSecureContext(await authority.issue('proxy.test'))
  // as PostgreSQL has it: one byte says that TLS may begin; then a line says how much to send
  let closed = 0
  await using server = createPlainServer(socket => {
    socket.once('close', () => closed++)
    socket.once('data', () => {
      socket.write('S')
      const secure = new TLSSocket(socket, { isServer: true, secureContext: context }).on('error', () => {})
      secure.once('data', line => secure.end(Buffer.alloc(Number(line))))
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  await using _ = await open({ postgres: { port: (server.address() as AddressInfo).port, folder: place.at('') } })
  // some of these fit into what the system holds for a socket, some do not, and of some it holds all but the end
  const SSL_REQUEST = '\x04\xd2\x16\x2f'
  const sizes = Array.from({ length: 40 }, (_, at) => 100_000 + at * 15_000)
  const readers = sizes.map(size =>
    connect(place.at('.s.PGSQL.5432')).on('connect', function (this: Socket) {
      this.write(`\0\0\0\x08${SSL_REQUEST}${`${size}\n`.padStart(8)}`, 'latin1')
    }),
  )
  await until('the small ones to have left the proxy', async () => closed >= 4)
  // who asks this socket for TLS is told with a byte that it has none
  const received = await Promise.all(readers.map(reader => buffer(reader)))
  expect(received.map(bytes => [String(bytes.subarray(0, 1)), bytes.length - 1])).toEqual(sizes.map(size => ['N', size]))
})

test('a command that runs for weeks is still known at the proxy', async () => {
  const { certificate } = await ownIdentity({ now: Date.now, random: randomBytes })
  expect(new X509Certificate(certificate).validToDate.getTime()).toBeGreaterThan(Date.now() + 300 * DAY_MS)
})

test.each([-360, 0, 360])('a command of a machine whose clock is %d days ahead is known at the proxy', async days => {
  const { certificate } = await ownIdentity({ now: () => Date.now() + days * DAY_MS, random: randomBytes })
  const { validFromDate, validToDate } = new X509Certificate(certificate)
  expect([validFromDate.getTime() < Date.now(), validToDate.getTime() > Date.now()]).toEqual([true, true])
})

const DAY_MS = 86_400_000

test('an answer that breaks off breaks off for the command, too', async () => {
  answer = outgoing => {
    outgoing.writeHead(200, { 'content-length': 1000 }).write('the first part', () => outgoing.socket?.destroy())
  }
  const asking = request(`${companion.baseUrl}/api.test/`).end()
  const [incoming] = (await once(asking, 'response')) as [IncomingMessage]
  await expect(text(incoming)).rejects.toThrow('aborted')
})
