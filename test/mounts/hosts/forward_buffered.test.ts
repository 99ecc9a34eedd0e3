import { describe, expect, onTestFinished, test } from 'vitest'
import { type BufferedRequest, forwardBuffered } from '../../../mounts/hosts/forward_buffered.ts'
import { openUpstream, type UpstreamOptions } from '../../../mounts/hosts/upstream.ts'
import { type Line, listenRaw } from './wire.ts'

const REQUEST = {
  method: 'POST',
  target: '/v1/sys/mounts/a?b=c',
  headers: ['Host', 'door.example'],
  from: '192.0.2.1',
  body: Buffer.from('{"type":"kv"}'),
}

/** Forwards to an upstream that does as told. */
async function forward(
  serve: (line: Line) => void,
  request: Partial<BufferedRequest> = {},
  options: Partial<UpstreamOptions> = {},
) {
  const upstream = openUpstream({ url: await listenRaw(serve), answerWithinMs: 90_000, ...options })
  onTestFinished(upstream.close)
  const reply = await forwardBuffered(upstream, { ...REQUEST, ...request })
  return { ...reply, body: reply.body.toString('latin1') }
}

const answer = (reply: string) => (line: Line) => void line.socket.once('data', () => line.write(reply))

test('sends and returns by the rules of what is passed on unread', async () => {
  let seen = ''
  const gone = ['Content-Length: 99', 'Expect: 100-continue', 'Accept-Encoding: gzip', 'Transfer-Encoding: chunked']
  const hop = ['Connection: X-Hop', 'X-Hop: 1', 'X-Forwarded-For: 10.0.0.1']
  const headers = ['Host: door.example', 'X-Vault-Token: s.a', ...gone, ...hop, 'X-Odd: b'].flatMap(header => header.split(': '))
  const reply = await forward(
    line => {
      void line.until('}').then(text => {
        seen = text
        line.write(
          'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\n{}',
        )
      })
    },
    { headers },
  )
  expect(reply).toEqual({ status: 200, headers: { 'Content-Type': 'application/json' }, body: '{}' })
  expect(seen.split('\r\n')).toEqual([
    'POST /v1/sys/mounts/a?b=c HTTP/1.1',
    expect.stringMatching(/^host: 127\.0\.0\.1:/),
    'connection: keep-alive',
    'X-Forwarded-For: 192.0.2.1',
    'X-Vault-Token: s.a',
    'X-Odd: b',
    'content-length: 13',
    '',
    '{"type":"kv"}',
  ])
})

test('a standby that names its leader is no answer: who went there would see tables without our mounts', async () => {
  const redirect =
    'HTTP/1.1 307 Temporary Redirect\r\nLocation: https://leader.example/v1/sys/mounts\r\nContent-Length: 0\r\n\r\n'
  const { status, headers, body } = await forward(answer(redirect))
  expect(status).toBe(503)
  expect(headers).not.toHaveProperty('Location')
  expect(body).toContain('Vault is a standby that does not reach its leader')
})

test('a request and a reply without a body', async () => {
  let seen = ''
  const serve = (line: Line) => {
    void line.until('\r\n\r\n').then(text => {
      seen = text
      line.write('HTTP/1.1 204 No Content\r\n\r\n')
    })
  }
  expect(await forward(serve, { method: 'DELETE', body: Buffer.alloc(0) })).toEqual({ status: 204, headers: {}, body: '' })
  expect(seen).not.toMatch(/content-length|transfer-encoding/i)
})

describe('no reply is a reply in Vault’s shape', () => {
  const unavailable = (message: string) => ({
    status: 503,
    headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', 'Retry-After': '1' },
    body: `{"errors":["${message}"]}\n`,
  })

  test.each([
    [
      'closes',
      (line: Line) => void line.socket.once('data', () => line.socket.end()),
      'Vault closed the connection before it answered',
    ],
    ['talks nonsense', answer('no\r\n\r\n'), 'Vault sent something that is not HTTP'],
    [
      'is cut off',
      (line: Line) => void line.socket.once('data', () => line.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{')),
      'Vault closed the connection before it answered',
    ],
  ])('Vault %s', async (_, serve, message) => {
    expect(await forward(serve)).toEqual(unavailable(message))
  })

  test('Vault says nothing', async () => {
    expect(await forward(() => {}, {}, { answerWithinMs: 200 })).toEqual(unavailable('Vault did not answer within 0.2 s'))
  })

  test('Vault takes longer than the request may', async () => {
    expect(await forward(answer('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{'), { withinMs: 200 })).toEqual(
      unavailable('Vault did not answer in time'),
    )
  })

  test('Vault is down', async () => {
    expect(await forward(() => {}, {}, { url: 'http://127.0.0.1:9' })).toEqual(unavailable('Vault cannot be reached'))
  })

  test('Vault sends without end', async () => {
    const endless = (line: Line) =>
      void line.socket.once('data', () => {
        line.write('HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n')
        line.socket.write(Buffer.alloc(40_000_000))
      })
    expect(await forward(endless)).toEqual(unavailable('Vault sent more than can be kept'))
  })
})
