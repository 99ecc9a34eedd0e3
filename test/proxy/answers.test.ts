import type { OutgoingHttpHeaders } from 'node:http'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { spelled } from './spellings.ts'
import { bearer, exchangeRaw, openProxyWorld } from './world.ts'

describe('an answer that echoes the credential', () => {
  test.each(spelled)('in its body, %s', async (_, text) => {
    await using world = await openProxyWorld()
    world.upstream.answer = (_incoming, outgoing) => void outgoing.end(`<${text}>`)
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.status).toBe(200)
    expect(answered.text).not.toContain(text)
    expect(answered.body.length).toBe(text.length + 2)
  })

  test('in a header, in the status, in a trailer, in an error page', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = (_, outgoing) => {
      outgoing.writeHead(500, `oops ${REAL}`, { 'X-Echo': `Bearer ${REAL}`, Trailer: 'X-Late' })
      outgoing.write('an error ')
      outgoing.addTrailers({ 'X-Late': REAL })
      outgoing.end(REAL)
    }
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.status).toBe(500)
    expect(JSON.stringify(answered.headers)).not.toContain(REAL)
    expect(answered.headers['x-echo']).toMatch(/^Bearer \*+$/)
    expect(answered.text).not.toContain(REAL)
  })

  test('as events, each of which arrives when it is sent', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = (_, outgoing) => {
      outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' })
      outgoing.write(`data: ${REAL}\n\n`)
      // the rest comes when the first was taken
      outgoing.once('drain', () => {})
      setImmediate(() => outgoing.end('data: last\n\n'))
    }
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.text).toBe(`data: ${'*'.repeat(REAL.length)}\n\ndata: last\n\n`)
  })

  test('behind basic authentication, as the pair that was sent', async () => {
    await using world = await openProxyWorld({
      service: { inject: [{ basic: { user: 'x-access-token', password: '{token}' } }] },
    })
    world.upstream.answer = (incoming, outgoing) => void outgoing.end(String(incoming.headers.authorization))
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.text).toMatch(/^Basic \*+$/)
  })

  test('as a second service sends it, after a first one that sends it in another way', async () => {
    await using world = await openProxyWorld({
      service: { match: 'header X-Sealed', inject: [{ header: { name: 'X-Pin', value: '{pin}' } }] },
    })
    const place = world.upstream.port
    const { connectors } = await import('../../proxy/connectors/index.ts')
    const served = (inject: object) =>
      connectors.http.schema.parse({
        kind: 'http',
        name: 'u',
        scheme: 'http',
        hosts: [`127.0.0.1:${place}`],
        addresses: ['127.0.0.1'],
        inject: [inject],
      })
    world.upstream.answer = (incoming, outgoing) => void outgoing.end(String(incoming.headers.authorization))
    const token = await world.seal({ fields: { pin: '471147', token: REAL } })
    await world.ask({ headers: { 'X-Sealed': token } })
    await world.proxy.reload([served({ basic: { user: 'terminal', password: '{pin}' } })])
    expect((await world.ask({ headers: bearer(token) })).text).toMatch(/^Basic \*+$/)
  })

  test('encoded: it is not handed on, whatever it would become', async () => {
    await using world = await openProxyWorld()
    const bomb = gzipSync(Buffer.alloc(50_000_000))
    world.upstream.answer = (incoming, outgoing) => {
      expect(incoming.headers['accept-encoding']).toBe('identity')
      outgoing.setHeader('Content-Encoding', 'gzip').end(bomb)
    }
    const headers = { ...bearer(await world.seal()), 'Accept-Encoding': 'gzip, br' }
    expect(await world.ask({ headers })).toMatchObject({ status: 502, code: 'UPSTREAM_ENCODED' })
  })

  test('encoded for the transfer: it is not handed on either', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = ({ socket }) => {
      const body = gzipSync(REAL)
      socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n${body.length.toString(16)}\r\n`)
      socket.end(Buffer.concat([body, Buffer.from('\r\n0\r\n\r\n')]))
    }
    expect(await world.ask({ headers: bearer(await world.seal()) })).toMatchObject({ status: 502, code: 'UPSTREAM_ENCODED' })
  })

  test('encoded, where an operator lets it pass, as it is', async () => {
    await using world = await openProxyWorld({ service: { encoded_answers: 'pass' } })
    world.upstream.answer = (_, outgoing) => void outgoing.setHeader('Content-Encoding', 'gzip').end(gzipSync('fine'))
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.body).toEqual(gzipSync('fine'))
  })
})

test('what would log the agent in, or send its client elsewhere, is dropped', async () => {
  await using world = await openProxyWorld()
  const dropped = {
    'Set-Cookie': ['session=1'],
    'WWW-Authenticate': 'Basic',
    'Authentication-Info': 'x',
    'Proxy-Authenticate': 'Basic',
    'Alt-Svc': 'h3=":443"',
    Refresh: '0; url=https://evil.example',
    'X-Named': 'a',
    Connection: 'x-named',
  }
  world.upstream.answer = (_, outgoing) => void outgoing.writeHead(200, { ...dropped, 'X-Kept': 'b' }).end()
  const { headers } = await world.ask({ headers: bearer(await world.seal()) })
  expect(Object.keys(headers).filter(name => name !== 'connection' && name in lower(dropped))).toEqual([])
  expect(headers['x-kept']).toBe('b')
})

const lower = (names: object) => Object.fromEntries(Object.keys(names).map(name => [name.toLowerCase(), true]))

describe('an answer that says how long it is', () => {
  const cases: readonly (readonly [string, string, number, OutgoingHttpHeaders, string, string])[] = [
    ['and has no body, as nobody asked for one', 'HEAD', 200, { 'Content-Length': '5' }, '', ''],
    ['and has none, as it has not changed', 'GET', 304, { 'Content-Length': '5' }, '', ''],
    ['and is empty', 'GET', 200, { 'Content-Length': '0' }, '', ''],
    ['and ends with what begins a secret', 'GET', 200, {}, `a${REAL.slice(0, -1)}`, `a${REAL.slice(0, -1)}`],
    ['and ends with a secret', 'GET', 200, {}, `a${REAL}`, `a${'*'.repeat(REAL.length)}`],
  ]

  test.each(cases)('%s, is whole, and the connection goes on', async (_, method, status, headers, sent, shown) => {
    await using world = await openProxyWorld()
    world.upstream.answer = (_, outgoing) =>
      void outgoing.writeHead(status, { 'Content-Length': sent.length, ...headers, 'X-End': 'a' }).end(sent)
    const socket = await world.connect()
    const host = `Host: a\r\nAuthorization: Bearer ${await world.seal()}`
    const asked = `${method} ${world.base}/ HTTP/1.1\r\n${host}\r\n\r\n`
    const ends = (received: string) => received.split('X-End: a').length === 3 && received.endsWith(`\r\n\r\n${shown}`)
    const received = await exchangeRaw(socket, asked + asked, ends)
    const bodies = received.split(/HTTP\/1\.1 .*?\r\n\r\n/s)
    expect(bodies).toEqual(['', shown, shown])
    expect(world.upstream.seen).toHaveLength(2)
  })

  test('and comes in pieces is whole', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = (_, outgoing) => {
      outgoing.writeHead(200, { 'Content-Length': 3 + REAL.length }).write(`abc${REAL.slice(0, 9)}`)
      setImmediate(() => outgoing.end(REAL.slice(9)))
    }
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered.text).toBe(`abc${'*'.repeat(REAL.length)}`)
  })
})

describe.each([301, 302, 303, 307, 308])('a redirect with %i', status => {
  test('is handed on and not followed: nobody else hears of the credential', async () => {
    await using world = await openProxyWorld()
    await using evil = await openProxyWorld()
    const aims: readonly (readonly [string, string | undefined])[] = [
      [`http://127.0.0.1:${evil.upstream.port}/collect`, undefined],
      ['//evil.example/collect', undefined],
      ['https://user:pass@127.0.0.1/', undefined],
      ['javascript:alert(1)', undefined],
      [`http://127.0.0.1:${world.upstream.port}/next?a=b`, `${world.base}/next?a=b`],
      ['/next', `${world.base}/next`],
    ]
    for (const [location, shown] of aims) {
      world.upstream.answer = (_, outgoing) => void outgoing.writeHead(status, { Location: location }).end()
      const answered = await world.ask({
        method: 'POST',
        headers: { ...bearer(await world.seal()), 'X-Api-Key': 'own' },
        body: 'secret',
      })
      expect(answered.status).toBe(status)
      expect(answered.headers.location).toBe(shown)
    }
    expect(evil.upstream.seen).toEqual([])
    expect(world.upstream.seen).toHaveLength(aims.length)
  })
})

test.each([
  ['/\\evil.example/collect', undefined],
  ['/\t/evil.example/collect', undefined],
  ['/next', '/next'],
  ['five?a=b', '/v1/items/five?a=b'],
  ['?page=2', '/v1/items/?page=2'],
  ['../others', '/v1/others'],
])('a redirect to %j is what a client takes it for', async (location, shown) => {
  await using world = await openProxyWorld()
  world.upstream.answer = (_, outgoing) => void outgoing.writeHead(302, { Location: location }).end()
  const headers = bearer(await world.seal())
  const [named, based] = await Promise.all([
    world.ask({ path: '/v1/items/', headers: { ...headers, 'Assay-Destination': `http://127.0.0.1:${world.upstream.port}` } }),
    world.ask({ path: `${world.base}/v1/items/`, headers }),
  ])
  expect(named.headers.location).toBe(shown)
  expect(based.headers.location).toBe(shown && `${world.base}${shown}`)
})
