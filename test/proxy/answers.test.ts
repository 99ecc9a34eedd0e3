import type { OutgoingHttpHeaders } from 'node:http'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { openScrubber } from '../../proxy/http/scrub.ts'
import { REAL } from '../fakes/sealing.ts'
import { bearer, exchangeRaw, openProxyWorld } from './world.ts'

const spelled: readonly (readonly [string, string])[] = [
  ['raw', REAL],
  ['base64', Buffer.from(REAL).toString('base64')],
  ['base64 after one byte', Buffer.from(`x${REAL}y`).toString('base64')],
  ['base64 after two bytes', Buffer.from(`xy${REAL}zz`).toString('base64')],
  ['base64url', Buffer.from(`user:${REAL}`).toString('base64url')],
  ['hex', Buffer.from(REAL).toString('hex')],
  ['HEX', Buffer.from(REAL).toString('hex').toUpperCase()],
  ['percent', [...Buffer.from(REAL)].map(byte => `%${byte.toString(16)}`).join('')],
  ['JSON escapes', [...Buffer.from(REAL)].map(byte => `\\u00${byte.toString(16)}`).join('')],
]

describe('scrubbing', () => {
  test.each(spelled)('finds it %s, in two pieces cut at each place', (_, text) => {
    const whole = Buffer.from(`{"a":"${text}","b":"${text.slice(0, -1)}"}`)
    const scrubber = openScrubber([REAL])
    if (!scrubber) throw new Error('nothing to look for')
    for (let cut = 0; cut <= whole.length; cut++) {
      const stream = scrubber.stream()
      const pieces = [whole.subarray(0, cut), whole.subarray(cut)].map(piece => Buffer.from(stream.push(Buffer.from(piece))))
      const out = Buffer.concat([...pieces, stream.end()])
      expect(out.length).toBe(whole.length)
      expect(out.includes(text)).toBe(false)
      expect(Buffer.from(out.toString().match(/[A-Za-z0-9+/_-]{20,}/)?.[0] ?? '', 'base64').includes(REAL)).toBe(false)
    }
  })

  test('finds what JSON and URLs spell otherwise', () => {
    const awkward = 'p"a/s\\s wörd&=+%'
    const scrubber = openScrubber([awkward])
    const texts = [JSON.stringify(awkward), JSON.stringify(awkward).replaceAll('/', '\\/'), encodeURIComponent(awkward), awkward]
    for (const text of texts) {
      const bytes = Buffer.from(`-${text}-`)
      expect(scrubber?.whole(bytes)).toBe(true)
      expect(bytes.toString()).toMatch(/^-"?\*+"?-$/)
    }
  })

  test.each([
    ['Python in a path', 'abcd/efgh+ijkl=', 'abcd/efgh%2Bijkl%3D'],
    ['the URL standard in a form', "p!a'ss (wo)rd~x*", String(new URLSearchParams({ a: "p!a'ss (wo)rd~x*" })).slice(2)],
    ['JavaScript in a URL', 'wörd/and+more', encodeURI('wörd/and+more')],
    ['Go in JSON', 'abc<def>ghi&jkl', 'abc\\u003cdef\\u003eghi\\u0026jkl'],
    ['Gson in JSON', "it's=abc<def", 'it\\u0027s\\u003dabc\\u003cdef'],
    ['Python in JSON', 'wörd-wörd-wörd', 'w\\u00f6rd-w\\u00f6rd-w\\u00f6rd'],
    ['PHP in JSON', 'wörd/wörd', 'w\\u00f6rd\\/w\\u00f6rd'],
    ['.NET in JSON', 'ab"cd+efgh==', 'ab\\u0022cd\\u002Befgh=='],
  ])('finds what %s spells otherwise', (_, value, spelling) => {
    const bytes = Buffer.from(`-${spelling}-`)
    expect(openScrubber([value])?.whole(bytes)).toBe(true)
    expect(bytes.toString()).toBe(`-${'*'.repeat(Buffer.byteLength(spelling))}-`)
  })

  test('finds all that overlap, are in one another or begin alike, in whatever pieces they come', () => {
    const secret = fc.array(fc.constantFrom('a', 'b'), { minLength: 8, maxLength: 12 }).map(letters => letters.join(''))
    const given = fc.array(secret, { minLength: 1, maxLength: 3 }).chain(secrets => {
      const piece = fc.oneof(
        fc.constantFrom(...secrets),
        fc.constantFrom('a', 'b', '-'),
        fc.constantFrom(...secrets.map(one => one.slice(0, 6))),
      )
      return fc.record({
        secrets: fc.constant(secrets),
        pieces: fc.array(piece, { maxLength: 12 }),
        cut: fc.integer({ min: 1, max: 9 }),
      })
    })
    fc.assert(
      fc.property(given, ({ secrets, pieces, cut }) => {
        const text = pieces.join('')
        const starts = secrets.flatMap(one =>
          Array.from(text).flatMap((_, at) => (text.startsWith(one, at) ? [{ at, to: at + one.length }] : [])),
        )
        const stream = openScrubber(secrets)?.stream()
        const out: Buffer[] = []
        for (let at = 0; at < text.length; at += cut)
          out.push(Buffer.from(stream?.push(Buffer.from(text.slice(at, at + cut))) ?? []))
        const said = Buffer.concat([...out, stream?.end() ?? Buffer.alloc(0)]).toString()
        expect(said.length).toBe(text.length)
        for (const [at, letter] of Array.from(said).entries()) {
          // the first byte of eight may have gone on before it was known what it begins
          const [isIn, begins] = [starts.some(one => one.at <= at && at < one.to), starts.some(one => one.at === at)]
          expect(isIn ? letter === '*' || (begins && letter === text[at]) : letter === text[at]).toBe(true)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('does not wait for more when all that a message ends with is a letter that something begins with', () => {
    const stream = openScrubber([REAL])?.stream()
    expect(String(stream?.push(Buffer.from('pong')))).toBe('pong')
    expect(String(stream?.push(Buffer.from(`${REAL.slice(1)}, ghs_16C`)))).toBe(`${'*'.repeat(REAL.length - 1)}, `)
    expect(String(stream?.end())).toBe('ghs_16C')
  })

  test('leaves everything else as it is, byte by byte', () => {
    const scrubber = openScrubber([REAL])
    const stream = scrubber?.stream()
    const text = Buffer.from(REAL.slice(0, -1).repeat(50))
    const out = Buffer.concat([
      ...Array.from(text, byte => Buffer.from(stream?.push(Buffer.from([byte])) ?? [])),
      stream?.end() ?? Buffer.alloc(0),
    ])
    expect(out).toEqual(text)
  })

  test('overwrites what it looks for when that is over, and lets nothing through from then on', () => {
    const scrubber = openScrubber([REAL])
    const fill = vi.spyOn(Buffer.prototype, 'fill')
    scrubber?.wipe()
    const filled = fill.mock.contexts as readonly Buffer[]
    fill.mockRestore()
    expect(filled.length).toBeGreaterThan(spelled.length)
    expect(filled.every(bytes => bytes.every(byte => byte === 0))).toBe(true)
    const text = Buffer.from('something else')
    expect(scrubber?.whole(text)).toBe(true)
    expect(`${text.toString()} ${scrubber?.stream().push(Buffer.from('in pieces')).toString()}`).toMatch(/^\*+ \*+$/)
  })

  test('looks for nothing that would be everywhere', () => {
    expect(openScrubber(['short'])).toBeUndefined()
    expect(openScrubber([])).toBeUndefined()
  })
})

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
