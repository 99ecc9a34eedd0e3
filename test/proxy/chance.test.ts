import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import { constants, createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import { Agent, request } from 'node:https'
import type { Server } from 'node:net'
import fc from 'fast-check'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { until } from '../harness/process.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

// Chance as agents and as the server: what arrives is what was sent, once; each answer belongs to its request; nothing is left of any of them.

const plan = fc.record({
  /** bytes; none when negative */
  upload: fc.integer({ min: -100_000, max: 200_000 }),
  isCounted: fc.boolean(),
  /** bytes at a time */
  piece: fc.constantFrom(1000, 16_000, 300_000),
  agent: fc.constantFrom('stays', 'stays', 'stays', 'leaves'),
  server: fc.constantFrom('answers', 'answers', 'answers ahead', 'breaks off', 'drops'),
  status: fc.constantFrom(200, 201, 204, 304, 404, 500),
  answer: fc.integer({ min: 2, max: 200_000 }),
})
type Plan = typeof plan extends fc.Arbitrary<infer T> ? T : never
type Asked = Plan & { readonly id: string }
type Arrived = { readonly credential: string | undefined; readonly body: Promise<Buffer | undefined> }
type In = IncomingMessage | Http2ServerRequest
type Out = ServerResponse | Http2ServerResponse

const bytes = (id: string, length: number) => Buffer.alloc(Math.max(0, length), `${id} `)
const isBare = ({ status }: Plan) => status === 204 || status === 304

let plans: Map<string, Asked>
let arrived: Map<string, Arrived[]>
/** requests that the server has not seen the end of */
let open: number
beforeEach(() => {
  plans = new Map()
  arrived = new Map()
  open = 0
})

function serve(incoming: In, outgoing: Out): void {
  const asked = plans.get((incoming.url ?? '').slice(1)) as Asked
  open += 1
  outgoing.once('close', () => (open -= 1)).on('error', () => undefined)
  const body = bodyOf(incoming)
  arrived.set(asked.id, [...(arrived.get(asked.id) ?? []), { credential: incoming.headers.authorization, body }])
  if (asked.server === 'drops') breakOff(outgoing)
  else if (asked.server === 'answers ahead') answer(outgoing, asked)
  else void body.then(whole => whole && answer(outgoing, asked))
}

/** Undefined when it broke off. */
function bodyOf(incoming: In): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  return new Promise(resolve => {
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined)
    incoming.once('aborted', () => resolve(undefined))
    incoming.once('end', () => resolve(Buffer.concat(chunks)))
  })
}

function answer(outgoing: Out, asked: Asked): void {
  const said = bytes(asked.id, asked.answer)
  const headers: OutgoingHttpHeaders = isBare(asked) || !asked.isCounted ? {} : { 'content-length': said.length }
  if (asked.server === 'breaks off') headers['content-length'] = said.length
  ;(outgoing as ServerResponse).writeHead(asked.server === 'breaks off' ? 200 : asked.status, headers)
  if (asked.server === 'breaks off') (outgoing as ServerResponse).write(said.subarray(1), () => breakOff(outgoing))
  else (outgoing as ServerResponse).end(isBare(asked) ? '' : said)
}

function breakOff(outgoing: Out): void {
  if ('stream' in outgoing) outgoing.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  else outgoing.destroy()
}

/** Status and body, or what became of it instead. */
function ask(world: ProxyWorld, agent: Agent, headers: OutgoingHttpHeaders, asked: Asked): Promise<string> {
  const { id, upload, isCounted, piece } = asked
  const length = upload >= 0 && isCounted ? { 'Content-Length': upload } : {}
  const sent = request({
    ...world.dial,
    agent,
    method: upload >= 0 ? 'POST' : 'GET',
    path: `${world.base}/${id}`,
    headers: { ...headers, ...length },
  })
  const body = bytes(id, upload)
  const until = asked.agent === 'leaves' ? Math.floor(body.length / 2) : body.length
  for (let at = 0; at < until; at += piece) sent.write(body.subarray(at, Math.min(until, at + piece)))
  if (asked.agent === 'leaves') setImmediate(() => sent.destroy())
  else sent.end()
  return heard(sent)
}

function heard(sent: ReturnType<typeof request>): Promise<string> {
  return new Promise(resolve => {
    sent.on('error', () => resolve('broken'))
    sent.once('response', incoming => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => resolve('broken'))
      incoming.once('end', () => resolve(`${incoming.statusCode} ${Buffer.concat(chunks).toString()}`))
    })
  })
}

function due(asked: Asked): unknown {
  if (asked.server === 'drops') return expect.stringMatching(/^502 /)
  if (asked.server === 'breaks off') return 'broken'
  return `${asked.status} ${isBare(asked) ? '' : bytes(asked.id, asked.answer).toString()}`
}

async function checkArrived({ id, agent, upload, server }: Asked): Promise<void> {
  const all = arrived.get(id) ?? []
  expect(all.length).toBeLessThanOrEqual(1)
  for (const { credential, body } of all) {
    expect(credential).toBe(`Bearer ${REAL}`)
    const whole = server === 'drops' || server === 'answers ahead' ? undefined : await body
    if (agent === 'stays' && whole) expect(whole.equals(bytes(id, upload))).toBe(true)
    if (agent === 'leaves' && upload > 0) expect(whole).toBeUndefined()
  }
}

/** What all of them ask for, each connection one after the other. */
async function storm(world: ProxyWorld, headers: OutgoingHttpHeaders, connections: readonly (readonly Plan[])[]): Promise<void> {
  const named = connections.map((line, at) => line.map((one, nth) => ({ ...one, id: `${plans.size}-${at}-${nth}` })))
  for (const one of named.flat()) plans.set(one.id, one)
  await Promise.all(
    named.map(async line => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      for (const one of line) {
        const answered = await ask(world, agent, headers, one)
        if (one.agent === 'stays') expect(answered).toEqual(due(one))
      }
      agent.destroy()
    }),
  )
  await until('the server to have seen the end of all', async () => open === 0)
  for (const one of named.flat()) await checkArrived(one)
}

const servers: Readonly<Record<string, (world: ProxyWorld) => Promise<Server>>> = {
  'HTTP/1.1': async () => createServer(serve),
  'HTTP/2': async world => createSecureServer(await world.ca.issue('api.test'), serve),
}

describe.each(Object.keys(servers))('a server that speaks %s', name => {
  test('hears what agents say, and each agent what is said to it, whatever becomes of the others', async () => {
    const isSecond = name === 'HTTP/2'
    const service = { http2: isSecond, connections: 3 }
    await using world = await openProxyWorld({ service, ...(isSecond ? { tls: true, host: 'api.test' } : {}) })
    const server = (await servers[name]?.(world)) as Server
    onTestFinished(() => void server.close())
    const { port } = world.upstream
    await new Promise<void>(resolve => world.upstream.server.close(() => server.listen(port, '127.0.0.1', resolve)))
    const headers = bearer(await world.seal())
    const lines = fc.array(fc.array(plan, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(lines, all => storm(world, headers, all)),
      { numRuns: 30 },
    )
    await until('all to be gone', async () => /assay_proxy_connections 0/.test(await world.metrics.text()))
    const swaps = (await world.records()).filter(one => one['type'] === 'request')
    expect(new Set(swaps.map(one => one['txn'])).size).toBe(swaps.length)
    expect(swaps.length).toBeGreaterThanOrEqual(arrived.size)
  })
})
