import { type ConnectionOptions, connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { bearer, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// What somebody tries who holds a good token and its certificate, beyond the one provocation of each refusal.

let world: ProxyWorld
let token: string
beforeAll(async () => {
  world = await openProxyWorld({ service: { allow: ['/**'], token_routes: ['POST /oauth/{tenant}/Token', '/keys/**'] } })
  token = await world.seal()
})
afterAll(() => world[Symbol.asyncDispose]())
const nothingWent = async (code: string, ask: Promise<{ code: string }>) => {
  const before = world.upstream.seen.length
  expect((await ask).code).toBe(code)
  expect(world.upstream.seen).toHaveLength(before)
}

describe('a destination that is spelled to be taken for another', () => {
  const spelled = [
    '2852039166',
    '0xa9fea9fe',
    '0251.0376.0251.0376',
    '169.254.43518',
    '[::ffff:a9fe:a9fe]',
    '[64:ff9b::a9fe:a9fe]',
    'metadata.google.internal.',
    'localhost',
    '127.0.0.1.nip.example',
    'xn--127-0-0-1.example',
  ]
  test.each(spelled)('%s is none that is declared', host =>
    nothingWent('DESTINATION', world.ask({ path: `/_/http:${host}:${world.upstream.port}/`, headers: bearer(token) })),
  )

  test.each(['user@127.0.0.1', '127.0.0.1%23.evil.example', '127.0.0.1%00', '１２７.0.0.1', '127.0.0.1\\evil'])(
    '%s is no host at all',
    async host => {
      const socket = await world.connect()
      const lines = [`GET /_/http:${host}:${world.upstream.port}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${token}`]
      const answered = await exchangeRaw(socket, `${lines.join('\r\n')}\r\n\r\n`, text => text.includes(']}'))
      socket.destroy()
      expect(answered).toMatch(/^HTTP\/1\.1 400 .*"code":"(?:DESTINATION_UNCLEAR|REQUEST_FORM|PATH)"/s)
    },
  )
})

describe('framing that two readers would read in two ways', () => {
  const heads: readonly (readonly [string, (place: string) => string])[] = [
    ['a bare LF', place => `GET ${place} HTTP/1.1\nHost: a\nAuthorization: Bearer TOKEN\n\n`],
    ['a bare CR in a value', place => `GET ${place} HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\nAuthorization: Bearer TOKEN\r\n\r\n`],
    ['NUL in a value', place => `GET ${place} HTTP/1.1\r\nHost: a\r\nX: a\0\r\nAuthorization: Bearer TOKEN\r\n\r\n`],
    ['a line that is no header', place => `GET ${place} HTTP/1.1\r\nHost: a\r\nX\r\nAuthorization: Bearer TOKEN\r\n\r\n`],
    [
      'a length with a sign',
      place => `POST ${place} HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\nAuthorization: Bearer TOKEN\r\n\r\nabc`,
    ],
    [
      'a length of two numbers',
      place => `POST ${place} HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\nAuthorization: Bearer TOKEN\r\n\r\nabc`,
    ],
    [
      'two codings',
      place =>
        `POST ${place} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\nAuthorization: Bearer TOKEN\r\n\r\n0\r\n\r\n`,
    ],
    [
      'a chunk size that is none',
      place => `POST ${place} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer TOKEN\r\n\r\nzz\r\n`,
    ],
    ['another version', place => `GET ${place} HTTP/2.0\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\n\r\n`],
  ]
  test.each(heads)('%s: the connection ends, and no whole request went out', async (_, head) => {
    const before = world.upstream.seen.length
    const socket = await world.connect()
    const answered = await exchangeRaw(socket, head(`${world.base}/`).replace('TOKEN', token))
    expect(answered === '' || answered.startsWith('HTTP/1.1 400')).toBe(true)
    expect(world.upstream.seen).toHaveLength(before)
  })

  test('what follows a whole request on its connection is a request of its own, and is asked for its token', async () => {
    const before = world.upstream.seen.length
    const socket = await world.connect()
    const first = `GET ${world.base}/first HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`
    const second = `GET ${world.base}/second HTTP/1.1\r\nHost: a\r\n\r\n`
    const answered = await exchangeRaw(socket, first + second, text => text.includes('NO_TOKEN'))
    socket.destroy()
    expect(answered).toMatch(/^HTTP\/1\.1 200[\s\S]*HTTP\/1\.1 403/)
    expect(world.upstream.seen.slice(before).map(one => one.url)).toEqual(['/first'])
  })
})

test.each([-400, 400])('a certificate that is not in force, by %i days, lets nobody in', async days => {
  await using late = await openProxyWorld()
  const headers = bearer(await late.seal())
  late.pass(days * 86_400_000)
  expect((await late.ask({ headers })).code).toBe('NO_CERTIFICATE')
})

test.each([
  ['HTTP/2', { ALPNProtocols: ['h2'] }, 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL'],
  ['TLS 1.2', { maxVersion: 'TLSv1.2' }, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION'],
] satisfies [string, ConnectionOptions, string][])('%s is not spoken to agents', async (_, options, code) => {
  const socket = tlsConnect({ ...world.dial, ...options })
  const error = await new Promise<Error & { code?: string }>(resolve => socket.once('error', resolve))
  expect(error.code).toBe(code)
})

test('no session is taken up again: each handshake proves the key anew', async () => {
  const sessions: Buffer[] = []
  const first = tlsConnect(world.dial).on('session', session => sessions.push(session))
  await exchangeRaw(first, `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\n\r\n`, text => text.includes('NO_TOKEN'))
  for (const session of [...sessions, first.getSession()]) {
    const again = tlsConnect({ ...world.dial, ...(session ? { session } : {}) })
    await new Promise((resolve, reject) => again.once('secureConnect', resolve).once('error', reject))
    expect(again.isSessionReused()).toBe(false)
    again.destroy()
  }
  first.destroy()
})

test('no header has the server do another method, or look at another path, than the one that was decided on', async () => {
  const sly = [
    'X-HTTP-Method-Override',
    'X-HTTP-Method',
    'X-Method-Override',
    'X_HTTP_Method_Override',
    'X-Original-URL',
    'X-Rewrite-URL',
    'X-Original-Host',
    'X.HTTP.Method.Override',
    'X~Rewrite~URL',
    'SCRIPT_NAME',
    'PATH_INFO',
  ]
  const headers = { ...bearer(token), ...Object.fromEntries(sly.map(name => [name, 'DELETE'])) }
  expect((await world.ask({ path: `${world.base}/`, headers })).status).toBe(200)
  expect(JSON.stringify(world.upstream.seen.at(-1)?.rawHeaders)).not.toContain('DELETE')
})

test.each([
  'X-Amz-Copy-Source',
  'X_Amz_Copy_Source',
  'x.ms.rename.source',
  'X-Ms-File-Rename-Source',
  'X-Copy-From',
  'DESTINATION',
])('no header has the server read or write elsewhere: %s', name =>
  nothingWent('ROUTE', world.ask({ method: 'PUT', path: `${world.base}/`, headers: { ...bearer(token), [name]: '/other' } })),
)

test.each(['/a%252fb', '/100%25', '/a%3Bb', '/...', '/..a%3B', '/a..%3B'])('%s is a path like any other', async path => {
  expect((await world.ask({ path: `${world.base}${path}`, headers: bearer(token) })).status).toBe(200)
  expect(world.upstream.seen.at(-1)?.url).toBe(path)
})

test('no server is asked to repeat a request with the credential in it', () =>
  nothingWent('ROUTE', world.ask({ method: 'TRACE', path: `${world.base}/`, headers: bearer(token) })))

describe('a route that issues tokens', () => {
  test.each([
    '/oauth/a/Token',
    '/oauth/a/token',
    '/OAUTH/a/TOKEN',
    '/oauth/a/token/',
    '/oauth/a/%54oken',
    '/oauth/a/token.json',
    '/oauth/a/Token.XML/',
    '/keys/1',
    '/keys/1/',
    '/Keys/1/2',
  ])('is refused as %s before anything goes out, so that no status and no shape of an answer can hand it on', path =>
    nothingWent('TOKEN_ROUTE', world.ask({ method: 'POST', path: `${world.base}${path}`, headers: bearer(token) })),
  )

  test('leaves others as they are', async () => {
    expect((await world.ask({ method: 'POST', path: `${world.base}/oauth/a/tokens`, headers: bearer(token) })).status).toBe(200)
    expect((await world.ask({ path: `${world.base}/oauth/a/token`, headers: bearer(token) })).status).toBe(200)
    expect((await world.ask({ method: 'POST', path: `${world.base}/oauth/a/b.token`, headers: bearer(token) })).status).toBe(200)
  })
})

test.each([
  'POST /oauth/token',
  'POST /OAuth2/Token/',
  'POST /login/oauth/access_token',
  'POST /acme/oauth2/v2.0/token',
  'GET /token?service=registry.example.com&scope=repository:acme/app:pull',
  'GET /jwt/auth?service=registry.example.com',
  'POST /api/v1/namespaces/default/serviceaccounts/deployer/token',
  'POST /v3/auth/tokens',
])('a service that says nothing of routes that issue tokens refuses %s', async line => {
  await using silent = await openProxyWorld()
  const headers = bearer(await silent.seal())
  const [method = '', path = ''] = line.split(' ')
  expect((await silent.ask({ method, path: `${silent.base}${path}`, headers })).code).toBe('TOKEN_ROUTE')
  expect(silent.upstream.seen).toEqual([])
  expect((await silent.ask({ path: `${silent.base}/v3/auth/tokens`, headers })).status).toBe(200)
})

describe('a header of the service that is there twice', () => {
  const own = {
    match: 'header DD-API-KEY',
    inject: ['DD-API-KEY', 'X-Real'].map(name => ({ header: { name, value: '{token}' } })),
  }
  const asked = async (of: ProxyWorld, lines: readonly string[]) => {
    const socket = await of.connect()
    const head = [`GET ${of.base}/ HTTP/1.1`, 'Host: a', ...lines].join('\r\n')
    const answered = await exchangeRaw(socket, `${head}\r\n\r\n`, text => /\]\}$|fine$/.test(text))
    socket.destroy()
    return /"code":"([A-Z_]+)"/.exec(answered)?.[1] ?? answered.slice(9, 12)
  }

  test.each([
    ['the token behind something else', ['DD-API-KEY: other', 'DD-API-KEY: TOKEN'], 'HEADER_TWICE'],
    ['the token before something else', ['DD-API-KEY: TOKEN', 'dd-api-key: other'], 'HEADER_TWICE'],
    ['its twin with underscores, which goes nowhere', ['DD-API-KEY: TOKEN', 'DD_API_KEY: other'], '200'],
    ['one where the credential goes', ['DD-API-KEY: TOKEN', 'X-Real: a', 'X-Real: b'], 'HEADER_TWICE'],
    ['one that is none of them', ['DD-API-KEY: TOKEN', 'X-Other: a', 'X-Other: b'], '200'],
  ])('%s', async (_, lines, expected) => {
    await using of = await openProxyWorld({ service: own })
    const sealed = await of.seal()
    const said = lines.map(line => line.replace('TOKEN', sealed))
    expect(await asked(of, said)).toBe(expected)
    expect(of.upstream.seen).toHaveLength(expected === '200' ? 1 : 0)
  })
})

describe('a prompt-injected agent', () => {
  test('that sends its token to an allowed server in a body gets and gives nothing but the sealed token', async () => {
    world.upstream.answer = (incoming, outgoing, body) =>
      void outgoing.end(`${incoming.headers.authorization} ${body.toString()}`)
    const body = JSON.stringify({ files: { a: { content: token } } })
    const answered = await world.ask({ method: 'POST', path: `${world.base}/gists`, headers: bearer(token), body })
    world.upstream.answer = (_, outgoing) => void outgoing.end('fine')
    expect(world.upstream.seen.at(-1)?.body.toString()).toBe(body)
    expect(answered.text).toBe(`Bearer ${'*'.repeat(REAL.length)} ${body}`)
  })

  test('reads nothing in the words of a status', async () => {
    world.upstream.answer = (_, outgoing) => void outgoing.writeHead(200, `OK ${REAL}`).end()
    const socket = await world.connect()
    const request = `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`
    const answered = await exchangeRaw(socket, request, text => text.includes('\r\n\r\n'))
    socket.destroy()
    world.upstream.answer = (_, outgoing) => void outgoing.end('fine')
    expect(answered).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  })
})

describe.each([
  ['a header', { header: { name: 'X-Api-Key', value: '{token}' } }],
  ['basic authentication', { basic: { user: 'a', password: '{token}' } }],
  ['the query', { query: { name: 'client_secret', value: '{token}' } }],
  ['the body', { body: { placeholder: '{{client_secret}}', value: '{token}' } }],
])('a redirect of a request with the credential in %s', (_, injection) => {
  test.each([301, 302, 303, 307, 308])('with %i goes nowhere', async status => {
    await using evil = await openProxyWorld()
    await using one = await openProxyWorld({ service: { inject: [injection] } })
    const aim = `http://127.0.0.1:${evil.upstream.port}/collect`
    one.upstream.answer = (_incoming, outgoing) =>
      void outgoing.writeHead(status, { Location: aim, Refresh: `0; url=${aim}` }).end()
    const headers = { 'Assay-Token': await one.seal(), 'Content-Type': 'application/json' }
    const answered = await one.ask({ method: 'POST', headers, body: '{"client_secret":"{{client_secret}}"}' })
    expect(answered).toMatchObject({ status })
    expect([answered.headers.location, answered.headers['refresh']]).toEqual([undefined, undefined])
    expect(one.upstream.seen).toHaveLength(1)
    expect(evil.upstream.seen).toEqual([])
  })
})

test('who does not take an answer is cut off, and the upstream server is not read to the end for it', async () => {
  await using slow = await openProxyWorld({ config: { limits: { stall_ms: 1000 } } })
  let left = 0
  const gone = new Promise<void>(resolve => {
    slow.upstream.answer = (incoming, outgoing) => {
      const megabyte = Buffer.alloc(2 ** 20)
      const more = () => {
        while (left < 200 && outgoing.write(megabyte)) left += 1
      }
      outgoing.on('drain', more)
      incoming.socket.once('close', () => resolve())
      more()
    }
  })
  const socket = await slow.connect()
  socket.on('error', () => {})
  socket.pause()
  socket.write(`GET ${slow.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await slow.seal()}\r\n\r\n`)
  await gone
  socket.destroy()
  expect(left).toBeLessThan(100)
  expect((await slow.records()).some(one => one['operation'] === 'swap')).toBe(true)
})
