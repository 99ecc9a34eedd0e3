import { beforeEach, describe, expect, test } from 'vitest'
import { openDoor } from './doors.ts'
import { dial, listenRaw, requestText } from './wire.ts'

const HOST = 'Host: door.example'
const lines = (...all: readonly string[]) => all.join('\r\n')
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`
/** What an attacker would like a server behind us to read as a request of its own. */
const HIDDEN = 'GET /v1/hidden HTTP/1.1\r\nHost: door.example\r\n\r\n'

let url: string
let received: () => string

beforeEach(async () => {
  const seen: string[] = []
  const upstream = await listenRaw(line => {
    line.socket.on('data', chunk => {
      seen.push(chunk.toString('latin1'))
      if (/(?:\r\n\r\n|\r\n\r\n\{\})$/.test(chunk.toString('latin1')))
        line.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK')
    })
  })
  received = () => seen.join('')
  url = (await openDoor({ upstream: { url: upstream } })).url
})

/** Sends the bytes, closes its side, and gives all that came back. */
async function send(bytes: string): Promise<string> {
  const line = await dial(url)
  line.socket.end(bytes, 'latin1')
  return line.closed
}

const status = (reply: string) => Number(reply.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length))

describe('refused, and Vault sees nothing of it', () => {
  const table: readonly (readonly [name: string, status: number, bytes: string])[] = [
    [
      'a length and chunks',
      400,
      lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: 5', 'Transfer-Encoding: chunked', '', chunk(HIDDEN)),
    ],
    [
      'chunks and a length',
      400,
      lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: chunked', 'Content-Length: 5', '', chunk(HIDDEN)),
    ],
    ['two lengths', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: 0', `Content-Length: ${HIDDEN.length}`, '', HIDDEN)],
    ['two equal lengths', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: 2', 'Content-Length: 2', '', '{}')],
    ['two lengths in one', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: 0, 5', '', 'GET /')],
    ['a negative length', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: -1', '', '')],
    ['a length with a sign', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: +2', '', '{}')],
    ['a length in hexadecimal', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length: 0x2', '', '{}')],
    ['a length without end', 400, lines('POST /v1/a HTTP/1.1', HOST, `Content-Length: ${'9'.repeat(30)}`, '', '{}')],
    ['an unknown coding', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: xchunked', '', chunk(HIDDEN))],
    ['a coding before chunked', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: gzip, chunked', '', chunk('x'))],
    ['a coding after chunked', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: chunked, identity', '', chunk('x'))],
    [
      'chunked twice',
      400,
      lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked', '', chunk('x')),
    ],
    ['identity', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: identity', '', chunk('x'))],
    ['chunked in quotes', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: "chunked"', '', chunk('x'))],
    ['a vertical tab before chunked', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding: \x0bchunked', '', chunk('x'))],
    ['a space before the colon', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding : chunked', '', chunk('x'))],
    ['a tab before the colon', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Content-Length\t: 5', '', 'GET /')],
    ['a folded header', 400, lines('POST /v1/a HTTP/1.1', HOST, 'X-Fold: a', ' Transfer-Encoding: chunked', '', '')],
    ['a folded coding', 400, lines('POST /v1/a HTTP/1.1', HOST, 'Transfer-Encoding:', ' chunked', '', chunk('x'))],
    ['a space before the first header', 400, lines('POST /v1/a HTTP/1.1', ` ${HOST}`, '', '')],
    ['a bare line feed', 400, `GET /v1/a HTTP/1.1\n${HOST}\n\n`],
    ['a bare line feed within the head', 400, `GET /v1/a HTTP/1.1\r\n${HOST}\nX: y\r\n\r\n`],
    ['a bare carriage return', 400, `GET /v1/a HTTP/1.1\r\n${HOST}\rX: y\r\n\r\n`],
    ['a NUL in a value', 400, lines('GET /v1/a HTTP/1.1', HOST, 'X: a\0b', '', '')],
    ['a NUL in a name', 400, lines('GET /v1/a HTTP/1.1', HOST, 'X\0: b', '', '')],
    ['a header without a name', 400, lines('GET /v1/a HTTP/1.1', HOST, ': b', '', '')],
    ['a header without a colon', 400, lines('GET /v1/a HTTP/1.1', HOST, 'Broken', '', '')],
    ['chunks in HTTP/1.0', 400, lines('POST /v1/a HTTP/1.0', HOST, 'Transfer-Encoding: chunked', '', chunk('x'))],
    ['HTTP/2 in clear', 400, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['HTTP/0.9', 400, 'GET /v1/a\r\n\r\n'],
    ['HTTP/1.2', 400, lines('GET /v1/a HTTP/1.2', HOST, '', '')],
    ['a tab in the request line', 400, lines('GET\t/v1/a\tHTTP/1.1', HOST, '', '')],
    ['no Host', 400, lines('GET /v1/a HTTP/1.1', '', '')],
    ['two Hosts', 400, lines('GET /v1/a HTTP/1.1', HOST, 'Host: evil.example', '', '')],
    ['two Hosts in other letters', 400, lines('GET /v1/a HTTP/1.1', HOST, 'hOST: door.example', '', '')],
    ['two tokens', 400, requestText('GET /v1/a', ['X-Vault-Token: a', 'x-vault-token: b'])],
    ['two Authorizations', 400, requestText('GET /v1/a', ['Authorization: Bearer a', 'Authorization: Bearer b'])],
    ['two namespaces', 400, requestText('GET /v1/own/a', ['X-Vault-Namespace: ', 'X-Vault-Namespace: team'])],
    ['two wrapping lives', 400, requestText('GET /v1/a', ['X-Vault-Wrap-TTL: 1s', 'X-Vault-Wrap-TTL: 1h'])],
    ['an absolute target', 400, lines('GET http://evil.example/v1/a HTTP/1.1', HOST, '', '')],
    ['an absolute target at ourselves', 400, lines('GET http://door.example/v1/a HTTP/1.1', HOST, '', '')],
    ['an asterisk', 400, lines('OPTIONS * HTTP/1.1', HOST, '', '')],
    ['a tunnel', 405, lines('CONNECT evil.example:443 HTTP/1.1', HOST, '', '')],
    ['a WebSocket', 400, requestText('GET /v1/a', ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'])],
    ['an unknown verb', 400, requestText('FOO /v1/a')],
    ['a verb in small letters', 400, requestText('get /v1/a')],
    ['raw bytes in the path', 400, lines('GET /v1/gr\xc3\xbc\xc3\x9fe HTTP/1.1', HOST, '', '')],
    ['an unknown expectation', 417, requestText('POST /v1/a', ['Expect: 200-maybe', 'Content-Length: 2'], '{}')],
    ['a head that is too large', 431, requestText('GET /v1/a', [`X-Long: ${'a'.repeat(40_000)}`])],
    ['a path that is too long', 431, requestText(`GET /v1/${'a'.repeat(40_000)}`)],
    [
      'too many headers',
      431,
      requestText(
        'GET /v1/a',
        Array.from({ length: 130 }, (_, at) => `X-${at}: a`),
      ),
    ],
  ]
  test.each(table)('%s: %i', async (_, expected, bytes) => {
    const reply = await send(bytes)
    expect(status(reply)).toBe(expected)
    expect(received()).toBe('')
    expect(reply.match(/HTTP\/1\.1 /g)).toHaveLength(1)
    expect(reply).toContain('Content-Type: application/json\r\n')
    expect(reply).toContain('Cache-Control: no-store\r\n')
    expect(reply).toMatch(/\r\n\r\n\{"errors":\["[^"]+"\]\}\n$/)
  })
})

describe('framing that breaks inside a body', () => {
  const table: readonly (readonly [name: string, body: string])[] = [
    ['a size that is no number', 'zz\r\nabc\r\n0\r\n\r\n'],
    ['a size that is too large', 'ffffffffffffffffff\r\nabc'],
    ['a negative size', '-3\r\nabc\r\n0\r\n\r\n'],
    ['a size in 0x', '0x3\r\nabc\r\n0\r\n\r\n'],
    ['a bare line feed after the size', '3\nabc\r\n0\r\n\r\n'],
    ['a bare line feed after the chunk', '3\r\nabc\n0\r\n\r\n'],
    ['more than the size says', '3\r\nabcd\r\n0\r\n\r\n'],
    ['a NUL after the size', '3\0\r\nabc\r\n0\r\n\r\n'],
    ['a length among the trailers', '3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n'],
    ['extensions without end', `3;${'a'.repeat(20_000)}\r\nabc\r\n0\r\n\r\n`],
  ]
  test.each(table)('%s', async (_, body) => {
    const line = await dial(url)
    line.write(requestText('POST /v1/a', ['Transfer-Encoding: chunked'], body + HIDDEN))
    const reply = await line.closed
    expect([400, 413]).toContain(status(reply))
    expect(reply.match(/HTTP\/1\.1 /g)).toHaveLength(1)
    expect(received()).not.toContain('hidden')
    expect(received()).not.toMatch(/0\r\n\r\n$/) // the body that Vault saw has no end
  })
})

test('what the parser takes leniently goes on in one form', async () => {
  const line = await dial(url)
  line.write('\r\nGET  /v1/%61/%7Eb HTTP/1.1\r\nHost:door.example\r\nX-Odd:\t a \t\r\n\r\n')
  await line.until('\r\n\r\nOK')
  expect(received()).toMatch(
    /^GET \/v1\/a\/~b HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\nconnection: keep-alive\r\nX-Forwarded-For: 127\.0\.0\.1\r\nX-Odd: a\r\n/,
  )
})

test('what looks like a request within a body is a body', async () => {
  const line = await dial(url)
  line.write(requestText('POST /v1/a', [`Content-Length: ${HIDDEN.length}`], HIDDEN))
  await line.until('\r\n\r\nOK')
  expect(received()).toMatch(/^POST \/v1\/a HTTP/)
  expect(received().endsWith(HIDDEN)).toBe(true)
})

test('chunk extensions and trailers of a request stay here', async () => {
  const line = await dial(url)
  const body = '2;a=b\r\n{}\r\n0\r\nX-Vault-Token: late\r\n\r\n'
  line.write(requestText('POST /v1/a', ['Transfer-Encoding: chunked', 'Trailer: X-Vault-Token'], body))
  await line.until('\r\n\r\nOK')
  expect(received()).toMatch(/\r\ncontent-length: 2\r\n\r\n\{\}$/) // all of it was there: counted now
  expect(received().toLowerCase()).not.toContain('late')
  expect(received().toLowerCase()).not.toContain('trailer')
})

test('h2c is not taken up, the request is answered as it is', async () => {
  const line = await dial(url)
  line.write(requestText('GET /v1/a', ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk']))
  await line.until('\r\n\r\nOK')
  expect(received()).not.toMatch(/upgrade|http2/i)
})

test('a client that sends ahead without end is cut off', async () => {
  const line = await dial(url)
  line.write(requestText('GET /v1/own/a').repeat(500))
  const reply = await line.closed
  expect(reply.match(/HTTP\/1\.1 200/g)?.length ?? 0).toBeLessThan(500)
})
