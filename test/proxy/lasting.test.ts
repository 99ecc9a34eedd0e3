import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { text } from 'node:stream/consumers'
import { connect as tlsConnect } from 'node:tls'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { until } from '../harness/process.ts'
import { bearer, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// What lasts ends with the token that let it through, with what revokes that, and with the certificate of its connection; the server at the other end hears of it. (PostgreSQL and SSH: their own files.)

let world: ProxyWorld
let token: string
beforeEach(async () => {
  world = await openProxyWorld({
    tls: true,
    host: 'api.test',
    intercept: true,
    service: { websocket: true },
    config: { limits: { watch_ms: 50 } },
  })
  token = await world.seal()
})
afterEach(() => world[Symbol.asyncDispose]())

/** How it ends at the agent. */
type Begun = { readonly over: Promise<string> }
/** Begins something that never ends by itself. Resolves once it is under way. */
type Lasting = (left: (socket: { once: (event: 'close', done: () => void) => unknown }) => void) => Promise<Begun>

function asked(path: string, more: object = {}) {
  return request({ ...world.dial, path: `${world.base}${path}`, headers: bearer(token), agent: false, ...more })
}

/** An answer that has begun breaks off: nobody takes it for a whole one. */
const answered = async (path: string, begin: string): Promise<Begun> => {
  const sent = asked(path).end()
  const answer = await new Promise<IncomingMessage>((resolve, reject) => sent.once('response', resolve).once('error', reject))
  const over = new Promise<string>(resolve => {
    answer.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? '')).once('end', () => resolve('whole'))
  })
  const first = await new Promise<string>(resolve => answer.setEncoding('utf8').once('data', resolve))
  expect(first).toContain(begin)
  answer.on('data', () => undefined)
  return { over }
}

const lasting: Readonly<Record<string, Lasting>> = {
  'a stream of events': async left => {
    world.upstream.answer = (incoming, outgoing) => {
      left(incoming.socket)
      outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n')
    }
    return answered('/events', 'data: first')
  },
  'a download': async left => {
    world.upstream.answer = (incoming, outgoing) => {
      left(incoming.socket)
      outgoing.writeHead(200, { 'Content-Length': 10 ** 9 }).write('half')
    }
    return answered('/large', 'half')
  },
  'an upload': async left => {
    world.upstream.server.removeAllListeners('request')
    const arrived = new Promise<void>(resolve => {
      world.upstream.server.once('request', incoming => {
        left(incoming.socket)
        incoming.once('data', () => resolve()).on('error', () => undefined)
      })
    })
    const sent = asked('/upload', { method: 'POST' })
    const over = new Promise<string>(resolve => {
      sent.once('response', answer => resolve(String(answer.resume().statusCode))).once('error', error => resolve(error.message))
    })
    sent.write('begin')
    await arrived
    return { over }
  },
  'a stream of events in a tunnel': async left => {
    world.upstream.answer = (incoming, outgoing) => {
      left(incoming.socket)
      outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n')
    }
    const place = `api.test:${world.upstream.port}`
    const outer = await world.connect()
    await exchangeRaw(outer, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`, text => text.includes('\r\n\r\n'))
    outer.removeAllListeners('data')
    const inner = tlsConnect({ socket: outer, servername: 'api.test', ca: world.ca.ca })
    const head = `GET /events HTTP/1.1\r\nHost: ${place}\r\nAuthorization: Bearer ${token}\r\n\r\n`
    const over = new Promise<string>(resolve => inner.once('close', () => resolve('closed')).on('error', () => undefined))
    await exchangeRaw(inner, head, text => text.includes('data: first'))
    return { over }
  },
  'a WebSocket': async left => {
    const peers = new WebSocketServer({ server: world.upstream.server as never })
    peers.on('connection', (_, incoming) => left(incoming.socket))
    const { host: _, port, ...own } = world.dial
    const socket = new WebSocket(`wss://127.0.0.1:${port}${world.base}/live`, { ...own, headers: bearer(token) } as never)
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    return { over: new Promise<string>(resolve => socket.once('close', code => resolve(String(code)))) }
  },
}
const ends: Readonly<Record<string, string>> = {
  'a stream of events': 'ECONNRESET',
  'a download': 'ECONNRESET',
  'an upload': '403',
  'a stream of events in a tunnel': 'closed',
  'a WebSocket': '1006',
}

const causes: Readonly<Record<string, () => unknown>> = {
  TOKEN_EXPIRED: () => world.pass(601_000),
  TOKEN_REVOKED: () => world.sealing.revocations.deny('jti-1'),
  // the certificates are good for a day
  NO_CERTIFICATE: () => world.pass(25 * 3_600_000),
}

describe.each(Object.keys(causes))('%s ends', code => {
  beforeEach(async () => {
    const expiresAt = Math.floor(Date.now() / 1000) + 48 * 3600
    if (code === 'NO_CERTIFICATE') token = await world.seal({ expiresAt })
  })

  test.each(Object.keys(lasting))('%s', async name => {
    const socket = Promise.withResolvers<unknown>()
    const begun = await lasting[name]?.(one => one.once('close', () => socket.resolve(undefined)))
    await causes[code]?.()
    expect(await begun?.over).toBe(ends[name])
    await socket.promise
    const recorded = async () => (await world.records()).filter(one => one['type'] === 'refusal').map(one => one['code'])
    await until('the end to be on record', async () => (await recorded()).includes(code))
  })
})

test('what was let through goes on while its token lives, beside others that end', async () => {
  const other = await world.seal({ jti: 'jti-2' })
  let say: () => void = () => undefined
  world.upstream.answer = (incoming, outgoing) => {
    outgoing.writeHead(200).write('first')
    if (incoming.headers['x-which'] === 'other') say = () => outgoing.end(' and last')
  }
  const sent = asked('/a', { headers: { ...bearer(other), 'X-Which': 'other' } }).end()
  const goesOn = await new Promise<IncomingMessage>((resolve, reject) => sent.once('response', resolve).once('error', reject))
  const { over } = await answered('/b', 'first')
  await world.sealing.revocations.deny('jti-1')
  expect(await over).toBe('ECONNRESET')
  say()
  expect(await text(goesOn)).toBe('first and last')
})

test('an agent that leaves before its WebSocket is open leaves nothing behind that would have to end', async () => {
  const [asked, found] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const resolve = async () => {
    asked.resolve()
    await found.promise
    return ['127.0.0.1']
  }
  const config = { limits: { watch_ms: 50 } }
  await using slow = await openProxyWorld({ host: 'api.test', service: { websocket: true }, resolve, config })
  const peers = new WebSocketServer({ server: slow.upstream.server as never })
  onTestFinished(() => peers.close())
  const { host: _, port, ...own } = slow.dial
  const headers = bearer(await slow.seal())
  const socket = new WebSocket(`wss://127.0.0.1:${port}${slow.base}/live`, { ...own, headers } as never)
  socket.on('error', () => undefined)
  await asked.promise
  socket.terminate()
  await until('the proxy to have noticed', async () => /assay_proxy_connections 0/.test(await slow.metrics.text()))
  found.resolve()
  const refusals = async () => (await slow.records()).filter(one => one['type'] === 'refusal').map(one => one['code'])
  slow.pass(601_000)
  await until('it to be known again what is revoked', async () => slow.sealing.watch.current())
  // what is under way is looked at: this one ends by it, and alone
  slow.upstream.answer = (_incoming, outgoing) => void outgoing.writeHead(200).write('first')
  const late = request({ ...slow.dial, path: slow.base, headers: bearer(await slow.seal({ jti: 'late' })), agent: false }).end()
  const answer = await new Promise<IncomingMessage>(done => late.once('response', done))
  await slow.sealing.revocations.deny('late')
  await new Promise(done => answer.once('error', done).resume())
  expect(await refusals()).toEqual(['TOKEN_REVOKED'])
})

test('what is under way ends as it began when the services are taken over anew, however long it lasts', async () => {
  await using of = await openProxyWorld({ config: { shutdown_seconds: 0 } })
  let say: () => void = () => undefined
  of.upstream.answer = (_, outgoing) => {
    outgoing.writeHead(200).write('first')
    say = () => outgoing.end(' and last')
  }
  const sent = request({ ...of.dial, path: of.base, headers: bearer(await of.seal()), agent: false }).end()
  const answer = await new Promise<IncomingMessage>(resolve => sent.once('response', resolve))
  const { connectors } = await import('../../proxy/connectors/index.ts')
  const place = { name: 'upstream', scheme: 'http', hosts: [`127.0.0.1:${of.upstream.port}`], addresses: ['127.0.0.1'] }
  const inject = [{ header: { name: 'Authorization', value: 'Bearer {token}' } }]
  await of.proxy.reload([connectors.http.schema.parse({ kind: 'http', ...place, inject })])
  // long enough for what is cut off at once to be cut off: another request has come and gone
  of.upstream.answer = (_, outgoing) => void outgoing.end('other')
  expect((await of.ask({ headers: bearer(await of.seal()) })).text).toBe('other')
  say()
  expect(await text(answer)).toBe('first and last')
})

test('who is about to stop ends each connection with the answer that is due next, and takes new ones until it does', async () => {
  await using of = await openProxyWorld()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ask = async () => {
    const sent = request({ ...of.dial, path: of.base, headers: bearer(await of.seal()), agent }).end()
    const answer = await new Promise<IncomingMessage>((resolve, reject) => sent.once('response', resolve).once('error', reject))
    await text(answer)
    return [sent.reusedSocket, answer.headers.connection]
  }
  expect(await ask()).toEqual([false, 'keep-alive'])
  of.proxy.leave()
  expect(await ask()).toEqual([true, 'close'])
  expect(await ask()).toEqual([false, 'close'])
  agent.destroy()
})
