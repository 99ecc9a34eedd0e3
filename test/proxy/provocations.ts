import type { refusals } from '../../proxy/refusals.ts'
import { REAL } from '../fakes/sealing.ts'
import { type Answered, bearer, exchangeRaw, type ProxyWorld } from './world.ts'

/** What has the proxy refuse, and the answer to it. */
type Provocation = (world: ProxyWorld, token: string) => Promise<Answered>

const ask =
  (path: string, headers: Record<string, string> = {}, method = 'GET', body?: string): Provocation =>
  (world, token) =>
    world.ask({
      method,
      path: path.replace('BASE', world.base),
      headers: { ...bearer(token), ...headers },
      ...(body === undefined ? {} : { body }),
    })

const raw =
  (lines: (world: ProxyWorld, token: string) => readonly string[], body = ''): Provocation =>
  async (world, token) => {
    const socket = await world.connect()
    const received = await exchangeRaw(socket, `${lines(world, token).join('\r\n')}\r\n\r\n${body}`, text =>
      /"errors".*\]\}/.test(text),
    )
    socket.destroy()
    const [status = ''] = /\d{3}/.exec(received) ?? []
    const text = received.slice(received.indexOf('\r\n\r\n') + 4)
    return {
      status: Number(status),
      headers: {},
      body: Buffer.from(text),
      text,
      code: /\{"code":"([A-Z_]+)"/.exec(text)?.[1] ?? '',
    }
  }

const line = (world: ProxyWorld, rest = '/') => `GET ${world.base}${rest} HTTP/1.1`

/** One provocation, or more, of each refusal of a request. */
export const provocations: readonly (readonly [string, keyof typeof refusals, Provocation])[] = [
  [
    'HTTP/1.0 without Host',
    'REQUEST_FORM',
    raw((world, token) => [`GET ${world.base}/ HTTP/1.0`, `Authorization: Bearer ${token}`]),
  ],
  [
    'an upgrade of a POST',
    'REQUEST_FORM',
    raw((world, token) => [
      `POST ${world.base}/repos/a HTTP/1.1`,
      'Host: a',
      `Authorization: Bearer ${token}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
    ]),
  ],
  [
    'length and chunks',
    'REQUEST_FORM',
    raw(
      (world, token) => [
        `POST ${world.base}/ HTTP/1.1`,
        'Host: a',
        `Authorization: Bearer ${token}`,
        'Content-Length: 3',
        'Transfer-Encoding: chunked',
      ],
      '0\r\n\r\n',
    ),
  ],
  [
    'obfuscated Transfer-Encoding',
    'REQUEST_FORM',
    raw((world, token) => [
      `POST ${world.base}/ HTTP/1.1`,
      'Host: a',
      `Authorization: Bearer ${token}`,
      'Transfer-Encoding: xchunked',
    ]),
  ],
  ['space before the colon', 'REQUEST_FORM', raw(world => [line(world), 'Host : a'])],
  ['a folded header', 'REQUEST_FORM', raw(world => [line(world), 'Host: a', 'X: a', ' b'])],
  ['two lengths', 'REQUEST_FORM', raw(world => [line(world), 'Host: a', 'Content-Length: 1', 'Content-Length: 2'])],
  ['another expectation', 'REQUEST_FORM', raw(world => [line(world), 'Host: a', 'Expect: 200-ok'])],
  ['a header that is too long', 'HEAD_TOO_LARGE', raw(world => [line(world), 'Host: a', `X: ${'a'.repeat(40_000)}`])],
  [
    'many headers',
    'HEAD_TOO_LARGE',
    raw(world => [line(world), 'Host: a', ...Array.from({ length: 200 }, (_, at) => `X-${at}: a`)]),
  ],
  ['two Hosts', 'HEADER_TWICE', raw((world, token) => [line(world), 'Host: a', 'Host: b', `Authorization: Bearer ${token}`])],
  [
    'two Authorizations',
    'HEADER_TWICE',
    raw((world, token) => [line(world), 'Host: a', `Authorization: Bearer ${token}`, `authorization: Bearer ${token}`]),
  ],
  [
    'two tokens',
    'HEADER_TWICE',
    raw((world, token) => [line(world), 'Host: a', `Assay-Token: ${token}`, `Assay-Token: ${token}`]),
  ],
  ...[
    '/a/../b',
    '/a/%2e%2e/b',
    '/a%2fb',
    '/a%5cb',
    '/a//b',
    '//a',
    '/a\\b',
    '/a%00b',
    '/a/%252e%252e/b',
    '/a%252f.%25252e%255cb',
    '/a/..%3b/b',
    '/a;b',
    '/./a',
    '/a/.',
    '/%zz',
    '/a?b#c',
  ].map(
    path =>
      [
        `the path ${path}`,
        'PATH',
        raw((world, token) => [line(world, path), 'Host: a', `Authorization: Bearer ${token}`]),
      ] as const,
  ),
  ['no destination', 'DESTINATION_UNCLEAR', ask('/anything')],
  ['two destinations', 'DESTINATION_UNCLEAR', ask('BASE/', { 'Assay-Destination': 'https://api.example.com' })],
  ['a destination that is no origin', 'DESTINATION_UNCLEAR', ask('/', { 'Assay-Destination': 'https://a@b/' })],
  ['a base path without a host', 'DESTINATION_UNCLEAR', ask('/_/')],
  [
    'absolute form with another Host',
    'HOST_MISMATCH',
    raw((world, token) => [
      `GET http://127.0.0.1:${world.upstream.port}/ HTTP/1.1`,
      'Host: evil.example',
      `Authorization: Bearer ${token}`,
    ]),
  ],
  ['no certificate', 'NO_CERTIFICATE', (world, token) => world.ask({ headers: bearer(token), as: undefined })],
  ['a foreign host', 'DESTINATION', ask('/_/evil.example/')],
  ['a host that begins alike', 'DESTINATION', ask('/_/127.0.0.1.evil.example/')],
  ['another port', 'DESTINATION', ask('/_/http:127.0.0.1:1/')],
  [
    'another scheme',
    'DESTINATION',
    (world, token) => world.ask({ path: `/_/127.0.0.1:${world.upstream.port}/`, headers: bearer(token) }),
  ],
  ['a metadata service', 'DESTINATION', ask('/_/http:169.254.169.254/latest/meta-data/')],
  ['a tunnel to a foreign host', 'DESTINATION', raw(() => ['CONNECT evil.example:443 HTTP/1.1', 'Host: evil.example:443'])],
  ['a tunnel without a port', 'DESTINATION_UNCLEAR', raw(() => ['CONNECT evil.example HTTP/1.1', 'Host: evil.example'])],
  ['a route that is not served', 'ROUTE', ask('BASE/admin')],
  ['a method that is not served', 'ROUTE', ask('BASE/repos/a', {}, 'DELETE')],
  ['a copy from elsewhere', 'ROUTE', ask('BASE/repos/a', { 'X-Amz-Copy-Source': '/other/secret' }, 'POST')],
  ['a copy to elsewhere', 'ROUTE', ask('BASE/repos/a', { Destination: '/other' }, 'POST')],
  ['a route that issues tokens', 'TOKEN_ROUTE', ask('BASE/repos/token', {}, 'POST')],
  ['no token', 'NO_TOKEN', world => world.ask({})],
  ['no authorization', 'NO_AUTHORIZATION', world => world.ask({ path: '/_/http:crates.test:81/' })],
  ['no password', 'NO_PASSWORD', ask('/_/http:basic.test:81/', { Authorization: 'Bearer x' })],
  ['basic where bearer is wanted', 'NO_TOKEN', (world, token) => world.ask({ headers: { Authorization: `Basic ${token}` } })],
  ['DPoP where bearer is wanted', 'NO_TOKEN', (world, token) => world.ask({ headers: { Authorization: `DPoP ${token}` } })],
  [
    'the token in a cookie too',
    'TOKEN_STRAY',
    (world, token) => world.ask({ headers: { ...bearer(token), Cookie: `a=${token}` } }),
  ],
  [
    'the token in the query too',
    'TOKEN_STRAY',
    (world, token) => world.ask({ path: `${world.base}/?a=${token}`, headers: bearer(token) }),
  ],
  [
    'the token in the User-Agent too',
    'TOKEN_STRAY',
    (world, token) => world.ask({ headers: { ...bearer(token), 'User-Agent': token } }),
  ],
  [
    'a token for another host',
    'TOKEN_DESTINATION',
    async world => world.ask({ headers: bearer(await world.seal({ destinations: ['https://api.example.com'] })) }),
  ],
  [
    'a token for another method',
    'TOKEN_DESTINATION',
    async world =>
      world.ask({ headers: bearer(await world.seal({ destinations: [`POST http://127.0.0.1:${world.upstream.port}`] })) }),
  ],
  [
    'a token for another path',
    'TOKEN_DESTINATION',
    async world =>
      world.ask({ headers: bearer(await world.seal({ destinations: [`http://127.0.0.1:${world.upstream.port}/repos/b`] })) }),
  ],
  [
    'a credential without the field',
    'CREDENTIAL_SHAPE',
    async world => world.ask({ headers: bearer(await world.seal({ fields: { other: REAL } })) }),
  ],
  [
    'a credential with a line break',
    'CREDENTIAL_SHAPE',
    async world => world.ask({ headers: bearer(await world.seal({ fields: { token: 'a\r\nX: b' } })) }),
  ],
  [
    'an upgrade',
    'UPGRADE',
    raw((world, token) => [
      line(world),
      'Host: a',
      `Authorization: Bearer ${token}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ]),
  ],
  [
    'AWS without a signature',
    'SIGNATURE_SHAPE',
    (world, token) => world.ask({ path: '/_/http:aws.test:81/', headers: { 'X-Amz-Security-Token': token } }),
  ],
  [
    'AWS with signed chunks',
    'SIGNATURE_SHAPE',
    (world, token) =>
      world.ask({
        path: '/_/http:aws.test:81/',
        headers: {
          'X-Amz-Security-Token': token,
          Authorization: signedFor('s3'),
          'X-Amz-Content-Sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
        },
      }),
  ],
  [
    'AWS for another service',
    'SIGNATURE_SHAPE',
    (world, token) =>
      world.ask({ path: '/_/http:aws.test:81/', headers: { 'X-Amz-Security-Token': token, Authorization: signedFor('iam') } }),
  ],
  [
    'a body without the placeholder',
    'BODY',
    (world, token) =>
      world.ask({
        method: 'POST',
        path: '/_/http:body.test:81/',
        headers: { ...bearer(token), 'Content-Type': 'application/json' },
        body: '{}',
      }),
  ],
  [
    'a body of another type',
    'BODY',
    (world, token) =>
      world.ask({
        method: 'POST',
        path: '/_/http:body.test:81/',
        headers: { ...bearer(token), 'Content-Type': 'text/plain' },
        body: '{{token}}',
      }),
  ],
  [
    'a body that is too long',
    'BODY_TOO_LARGE',
    (world, token) =>
      world.ask({
        method: 'POST',
        path: '/_/http:body.test:81/',
        headers: { ...bearer(token), 'Content-Type': 'application/json' },
        body: 'a'.repeat(2000),
      }),
  ],
  [
    'a name that leads to this machine',
    'ADDRESS',
    (world, token) => world.ask({ path: '/_/http:inside.test:81/', headers: bearer(token) }),
  ],
  ['nobody listens', 'UPSTREAM', (world, token) => world.ask({ path: '/_/http:down.test:1/', headers: bearer(token) })],
  ['an answer that breaks off before its head', 'UPSTREAM', ask('BASE/repos/broken')],
  ['an encoded answer', 'UPSTREAM_ENCODED', ask('BASE/repos/gzip')],
  ['an answer that does not come', 'UPSTREAM_SLOW', ask('BASE/repos/never')],
  [
    'a head that does not end',
    'REQUEST_SLOW',
    async world => {
      const socket = await world.connect()
      const received = await exchangeRaw(socket, `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\n`)
      return {
        status: Number(/\d{3}/.exec(received)?.[0]),
        headers: {},
        body: Buffer.from(''),
        text: received,
        code: /"code":"([A-Z_]+)"/.exec(received)?.[1] ?? '',
      }
    },
  ],
]

const signedFor = (service: string) =>
  `AWS4-HMAC-SHA256 Credential=AKIA/20261121/eu-west-1/${service}/aws4_request, SignedHeaders=host;x-amz-date, Signature=${'0'.repeat(64)}`
