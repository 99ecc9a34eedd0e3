import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { constants, createSecureServer, type Http2Session, type ServerHttp2Stream } from 'node:http2'
import { request } from 'node:https'
import type { AddressInfo, Server as NetServer, Socket } from 'node:net'
import { Writable } from 'node:stream'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { blockListOf } from '../../proxy/egress/addresses.ts'
import { openUpstreams, type Upstreams } from '../../proxy/egress/upstreams.ts'
import { type ExchangePorts, exchange, type UnderWay } from '../../proxy/http/exchange.ts'
import type { Swap } from '../../proxy/http/gate.ts'
import { Roster } from '../../proxy/http/roster.ts'
import { type Authority, newAuthority, type Pair } from '../mounts/hosts/certificates.ts'
import { bearer, openProxyWorld } from './world.ts'

// A server that hangs up while the agent has taken nothing yet. The agent's side takes one piece and holds it until the server's socket is closed: that is the
// order each time, whatever the kernel buffers.

const SAID = Buffer.alloc(60_000, 'abcdefghij')
let ca: Authority
let pair: Pair
beforeAll(async () => {
  ca = await newAuthority('servers')
  pair = await ca.issue('api.test')
})
const opened: (() => unknown)[] = []
afterEach(async () => {
  for (const close of opened.splice(0)) await close()
})

/** Takes one piece, then nothing until it is let go. */
class Slow extends Writable {
  headersSent = false
  readonly taken: Buffer[] = []
  readonly #holding = Promise.withResolvers<unknown>()
  readonly holding = this.#holding.promise
  #isFree = false
  #held: () => void = () => undefined
  constructor() {
    super({ highWaterMark: 1 })
  }
  writeHead(): void {
    this.headersSent = true
  }
  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.taken.push(Buffer.from(chunk))
    this.#holding.resolve(undefined)
    if (this.#isFree) done()
    else this.#held = done
  }
  letGo(): void {
    this.#isFree = true
    this.#held()
  }
}

/** What a server does with its one request, and when it has hung up. */
type HangsUp = { readonly origin: string; readonly http2: boolean; readonly gone: Promise<unknown> }

async function plain(serve: (outgoing: ServerResponse, socket: Socket) => void): Promise<HangsUp> {
  const gone = Promise.withResolvers<unknown>()
  const server: Server = createServer(({ socket }, outgoing) => {
    socket.once('close', gone.resolve)
    serve(outgoing, socket)
  })
  return { origin: await listening(server, 'http'), http2: false, gone: gone.promise }
}

async function second(serve: (stream: ServerHttp2Stream, session: Http2Session) => void): Promise<HangsUp> {
  const gone = Promise.withResolvers<unknown>()
  const server = createSecureServer({ ...pair })
  server.on('stream', stream => {
    const { session } = stream
    if (!session) throw new Error('a stream of no session')
    stream.on('error', () => undefined)
    stream.once('close', gone.resolve)
    session.on('error', () => undefined)
    serve(stream, session)
  })
  return { origin: await listening(server, 'https'), http2: true, gone: gone.promise }
}

async function listening(server: NetServer, scheme: string): Promise<string> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  opened.push(() => server.close())
  return `${scheme}://api.test:${(server.address() as AddressInfo).port}`
}

/** Sends one request there as the proxy does. */
function ask({ origin, http2 }: HangsUp, outgoing: Slow): string[] {
  const { protocol, hostname, port } = new URL(origin)
  const upstreams: Upstreams = openUpstreams({
    resolve: async () => ['127.0.0.1'],
    listed: blockListOf(['127.0.0.1']),
    timeoutMs: 10_000,
    http2,
    ca: ca.ca,
    connections: 1,
    headWithinMs: 10_000,
    stallMs: 10_000,
  })
  opened.push(() => upstreams.close())
  const failures: string[] = []
  const ports = {
    services: () => ({ find: () => undefined }),
    underWay: new Roster<UnderWay>(),
    held: { holder: { x5tS256: '', jkt: '' }, from: 0, until: Number.POSITIVE_INFINITY },
    failed: code => void failures.push(code),
    answered: () => undefined,
    limits: { stallMs: 10_000 },
  } satisfies ExchangePorts
  const destination = { scheme: protocol.slice(0, -1), host: hostname, port: Number(port), method: 'GET', path: '/' }
  const swap = {
    head: { destination, prefix: '' },
    service: { name: 'api', upstreams, injections: [], encodedAnswers: 'refuse' },
    known: { binding: { tenant: 'mount' }, fields: {}, scrubber: () => undefined },
    outgoing: { headers: [], query: '', body: undefined },
  } as unknown as Swap
  exchange(ports, swap, { headers: {} } as IncomingMessage, outgoing as unknown as ServerResponse, 'txn')
  return failures
}

const whole: Readonly<Record<string, () => Promise<HangsUp>>> = {
  'HTTP/1.1, with a length': () =>
    plain((outgoing, socket) => {
      outgoing.writeHead(200, { 'Content-Length': SAID.length, Connection: 'close' })
      outgoing.end(SAID, () => socket.destroySoon())
    }),
  'HTTP/1.1, in chunks': () =>
    plain((outgoing, socket) => {
      outgoing.shouldKeepAlive = false
      outgoing.write(SAID.subarray(0, 100))
      outgoing.end(SAID.subarray(100), () => socket.destroySoon())
    }),
  'HTTP/1.0, until the end': () =>
    plain((_, socket) => void socket.end(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\n\r\n'), SAID]))),
  'HTTP/2': () =>
    second((stream, session) => {
      stream.respond({ ':status': 200 })
      stream.end(SAID, () => session.close())
    }),
}

/** What an agent gets of it that takes the rest only when the server is gone. */
async function taken(opening: Promise<HangsUp>): Promise<{ agent: Slow; failures: string[] }> {
  const server = await opening
  const agent = new Slow()
  const done = new Promise(resolve => agent.once('close', resolve))
  const failures = ask(server, agent)
  await agent.holding
  await server.gone
  agent.letGo()
  await done
  return { agent, failures }
}

test.each(Object.entries(whole))('%s: what was said whole arrives whole', async (_, open) => {
  const { agent, failures } = await taken(open())
  expect({ whole: Buffer.concat(agent.taken).equals(SAID), ended: agent.writableFinished, failures }).toEqual({
    whole: true,
    ended: true,
    failures: [],
  })
})

const broken: Readonly<Record<string, () => Promise<HangsUp>>> = {
  'HTTP/1.1, with a length': () =>
    plain((outgoing, socket) => {
      outgoing.writeHead(200, { 'Content-Length': 2 * SAID.length })
      outgoing.write(SAID, () => socket.destroy())
    }),
  'HTTP/1.1, in chunks': () => plain((outgoing, socket) => void outgoing.write(SAID, () => socket.destroy())),
  'HTTP/1.1, by a reset': () => plain((outgoing, socket) => void outgoing.write(SAID, () => socket.resetAndDestroy())),
  'HTTP/2, the stream': () =>
    second((stream, session) => {
      stream.respond({ ':status': 200, 'content-length': 2 * SAID.length })
      stream.write(SAID, () => {
        stream.close(constants.NGHTTP2_INTERNAL_ERROR)
        session.close()
      })
    }),
  'HTTP/2, the session': () =>
    second((stream, session) => {
      stream.respond({ ':status': 200 })
      stream.write(SAID, () => session.destroy())
    }),
}

test.each(Object.entries(broken))('%s: what was broken off is not taken for a whole answer', async (_, open) => {
  const { agent, failures } = await taken(open())
  expect({ ended: agent.writableFinished, failures }).toEqual({ ended: false, failures: ['UPSTREAM'] })
})

test('a server that goes away in the middle of an upload: the agent hears of it, and others are served', async () => {
  await using world = await openProxyWorld()
  const headers = bearer(await world.seal())
  world.upstream.server.removeAllListeners('request')
  world.upstream.server.once('request', (incoming, outgoing) => {
    incoming.once('data', () => incoming.socket.resetAndDestroy()).on('error', () => undefined)
    world.upstream.server.on('request', (_, next) => void next.end('fine'))
    outgoing.on('error', () => undefined)
  })
  const sent = request({ ...world.dial, method: 'POST', path: `${world.base}/`, headers, agent: false })
  const heard = new Promise<unknown>((resolve, reject) => {
    sent.once('response', answer => resolve(answer.resume().statusCode)).once('error', reject)
  })
  sent.write('begin')
  expect(await heard).toBe(502)
  sent.destroy()
  expect((await world.ask({ headers })).text).toBe('fine')
})
