import { describe, expect, test } from 'vitest'
import { listenHttp, openDoor } from './doors.ts'
import { bodyOf, dial, headerOf, listenRaw, requestText } from './wire.ts'

describe('a body that is larger than others', () => {
  const large = {
    bodyBytes: ({ path }: { path: string }) => (path === 'own/log' ? 4096 : undefined),
    limits: { bodyBytes: 1024, largeBytes: 6000 },
  }
  const post = (url: string, path: string, bytes: number) =>
    fetch(`${url}/v1/own/${path}`, { method: 'POST', body: 'x'.repeat(bytes) })

  test('is taken where the path has it, up to what it has', async () => {
    const { url } = await openDoor(large)
    const replies = [
      await post(url, 'log', 4096),
      await post(url, 'log', 4097),
      await post(url, 'other', 1025),
      await post(url, 'other', 1024),
    ]
    expect(replies.map(({ status }) => status)).toEqual([200, 413, 413, 200])
  })

  test('is not taken when it does not say how large it is', async () => {
    const line = await dial((await openDoor(large)).url)
    line.write(requestText('POST /v1/own/log', ['Transfer-Encoding: chunked'], `800\r\n${'x'.repeat(2048)}\r\n0\r\n\r\n`))
    expect(await line.until(/^HTTP\/1.1 \d+/)).toContain('413')
  })

  test('is told to come again while too much of such is held, and is taken after that', async () => {
    const { url } = await openDoor(large)
    const first = await dial(url)
    first.write(requestText('POST /v1/own/log', ['Content-Length: 4000'], 'x'))
    await expect.poll(async () => (await post(url, 'log', 2500)).status).toBe(503)
    expect((await post(url, 'log', 1000)).status).toBe(200)
    first.write('x'.repeat(3999))
    expect(await first.until(/^HTTP\/1.1 \d+/)).toContain('200')
    await expect.poll(async () => (await post(url, 'log', 2500)).status).toBe(200)
  })
})

describe('a request of our own', () => {
  test('arrives with its verb, its canonical path and its whole body', async () => {
    const line = await dial((await openDoor()).url)
    line.write(requestText('LIST /v1/%6fwn%2Fc/a%20b/?after=%31'))
    expect(JSON.parse(bodyOf(await line.until(/\}$/)))).toMatchObject({
      method: 'LIST',
      url: 'http://door.example/v1/own/c/a%20b/?after=%31',
      path: { path: 'own/c/a b', trailingSlash: true, query: 'after=%31' },
      body: '',
      same: true,
    })
    line.write(requestText('PUT /v1/own/b', ['Transfer-Encoding: chunked'], '2\r\n{"\r\n6\r\na": 1}\r\n0\r\n\r\n'))
    expect(await line.until('{\\"a\\": 1}')).toContain('"method":"PUT"')
  })

  test('of slashes that follow each other is led to the path without them', async () => {
    const { url } = await openDoor()
    const line = await dial(url)
    line.write(requestText('GET /v1/own//a?b=//'))
    expect(headerOf(await line.until('\r\n\r\n'), 'location')).toBe('/v1/own/a?b=//')
    line.write(requestText('GET /v1/own/on'))
    expect(await line.until('own/on')).toContain('200 OK')
    const sent = await fetch(`${url}/v1//own/a//`, { method: 'POST', body: '{"ttl":"1h"}' })
    expect(await sent.json()).toMatchObject({
      method: 'POST',
      path: { path: 'own/a', trailingSlash: true },
      body: '{"ttl":"1h"}',
    })
  })

  test.each(['GET', 'POST', 'LIST', 'DELETE', 'PATCH'])('%s has the same body for the app however it reads it', async method => {
    const { url } = await openDoor()
    const body = method === 'GET' ? {} : { body: '{"ttl":"1h"}' }
    const reply = (await (await fetch(`${url}/v1/own/a`, { method, ...body })).json()) as { same: boolean; body: string }
    expect(reply).toMatchObject({ same: true, body: method === 'GET' ? '' : '{"ttl":"1h"}' })
  })

  test('is asked about by verb, path and headers, and what nobody owns is absent', async () => {
    const asked: unknown[] = []
    const { url } = await openDoor({
      owns: (method, { path }, headers) => {
        asked.push([method, path, headers['x-a']])
        return false
      },
    })
    const reply = await fetch(`${url}/metrics`, { headers: { 'X-A': 'b' } })
    expect([reply.status, await reply.text(), reply.headers.get('content-type')]).toEqual([
      404,
      '{"errors":[]}\n',
      'application/json',
    ])
    expect(asked).toEqual([['GET', 'metrics', 'b']])
  })

  test('that fails says nothing of why', async () => {
    const logged: unknown[] = []
    const { url } = await openDoor({
      own: () => Promise.reject(new RangeError('token s.secret')),
      log: { error: (fields, message) => void logged.push(fields, message) },
    })
    const reply = await fetch(`${url}/v1/own/a`)
    expect([reply.status, await reply.text()]).toEqual([500, '{"errors":["internal error"]}\n'])
    expect(reply.headers.get('content-type')).toBe('application/json')
    expect(logged).toEqual([{ error: 'RangeError' }, 'a request failed unexpectedly'])
  })

  test('that nobody can tell the owner of fails alone', async () => {
    const logged: unknown[] = []
    const { url } = await openDoor({
      owns: () => {
        throw new TypeError('oops')
      },
      log: { error: fields => void logged.push(fields) },
    })
    expect((await fetch(`${url}/v1/own/a`)).status).toBe(500)
    expect(logged).toEqual([{ error: 'TypeError' }])
  })

  test('with a Host that is none is refused', async () => {
    const line = await dial((await openDoor()).url)
    line.write('GET /v1/own/a HTTP/1.1\r\nHost: a b\r\n\r\n')
    expect(await line.until('errors')).toMatch(/^HTTP\/1\.1 400 /)
  })
})

describe('bodies of our own', () => {
  const limits = { bodyBytes: 1000 }
  const table = [
    ['just fits', 200, requestText('POST /v1/own/a', ['Content-Length: 1000'], 'x'.repeat(1000))],
    [
      'just fits in chunks',
      200,
      requestText('POST /v1/own/a', ['Transfer-Encoding: chunked'], `3e8\r\n${'x'.repeat(1000)}\r\n0\r\n\r\n`),
    ],
    ['says that it is too large', 413, requestText('POST /v1/own/a', ['Content-Length: 1001'])],
    ['turns out too large', 413, requestText('POST /v1/own/a', ['Transfer-Encoding: chunked'], `3e9\r\n${'x'.repeat(1001)}\r\n`)],
    ['of a GET is too large', 413, requestText('GET /v1/own/a', ['Content-Length: 5000'], 'x')],
    ['does not come', 408, requestText('POST /v1/own/a', ['Content-Length: 10'], 'x')],
    ['does not end', 408, requestText('POST /v1/own/a', ['Transfer-Encoding: chunked'], '1\r\nx\r\n')],
  ] as const
  test.each(table)('one that %s: %i', async (_, status, bytes) => {
    let ran = false
    const door = await openDoor({
      // who is to be too slow is so soon, and nobody else is
      limits: { ...limits, ...(status === 408 && { bodyWithinMs: 300 }) },
      own: () => {
        ran = true
        return new Response('ran')
      },
    })
    const line = await dial(door.url)
    line.write(bytes)
    expect(await line.until(/\r\n\r\n.+/s)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(ran).toBe(status === 200)
    if (status !== 200) expect(headerOf(await line.closed, 'Connection')).toBe('close')
  })

  test('one that cannot be taken is not asked for', async () => {
    const door = await openDoor({ limits })
    const [small, large] = [await dial(door.url), await dial(door.url)]
    small.write(requestText('POST /v1/own/a', ['Expect: 100-continue', 'Content-Length: 2']))
    await small.until('HTTP/1.1 100 Continue\r\n\r\n')
    small.write('{}')
    await small.until('"body":"{}"')
    large.write(requestText('POST /v1/own/a', ['Expect: 100-continue', 'Content-Length: 1001']))
    expect(await large.closed).toMatch(/^HTTP\/1\.1 413 /)
  })

  test('a megabyte is enough when nothing else is said', async () => {
    const { url } = await openDoor()
    const send = async (bytes: number) => (await fetch(`${url}/v1/own/a`, { method: 'POST', body: 'x'.repeat(bytes) })).status
    expect(await send(2 ** 20)).toBe(200)
    expect(await send(2 ** 20 + 1)).toBe(413)
  })
})

describe('clients that dawdle', () => {
  test('a head that does not end', async () => {
    const { url } = await openDoor({ limits: { headWithinMs: 2000 } })
    const second = await dial(url)
    second.write(requestText('GET /v1/own/a'))
    await second.until('200 OK')
    const [silent, slow] = [await dial(url), await dial(url)]
    slow.write('GET /v1/own/a HTTP/1.1\r\nHost: a\r\n')
    second.write('GET /v1/own/b HTTP/1.1\r\n')
    for (const line of [silent, slow, second]) {
      const text = await line.closed
      expect(text).toContain('HTTP/1.1 408 Request Timeout\r\n')
      expect(text).toMatch(/\{"errors":\["the request did not arrive in time"\]\}\n$/)
    }
  })

  test('an upload to Vault that stops', async () => {
    const url = await listenRaw(() => {})
    const door = await openDoor({ upstream: { url }, limits: { stallMs: 300 } })
    const line = await dial(door.url)
    line.write(requestText('POST /v1/a', ['Content-Length: 10'], 'x'))
    expect(await line.closed).toMatch(/^HTTP\/1\.1 408 .*the request body did not arrive in time/s)
  })

  test('a reply that nobody takes', async () => {
    const cut = Promise.withResolvers<boolean>()
    const url = await listenHttp((_, outgoing) => {
      outgoing.once('close', () => cut.resolve(outgoing.writableFinished))
      outgoing.end(Buffer.alloc(64 * 2 ** 20))
    })
    const door = await openDoor({ upstream: { url }, limits: { stallMs: 300 } })
    const line = await dial(door.url)
    line.socket.pause()
    line.write(requestText('GET /v1/a'))
    expect(await cut.promise).toBe(false)
  })

  test('Vault may take its time', async () => {
    const url = await listenHttp((_, outgoing) => void setTimeout(() => outgoing.end('OK'), 900))
    const door = await openDoor({ upstream: { url }, limits: { stallMs: 200 } })
    expect(await (await fetch(`${door.url}/v1/a`)).text()).toBe('OK')
  })

  test('a connection that is not used', async () => {
    const { url } = await openDoor({ limits: { idleMs: 200 } })
    const line = await dial(url)
    line.write(requestText('GET /v1/own/a'))
    expect(await line.closed).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('a peer has so many connections and no more', async () => {
    const { url } = await openDoor({ limits: { connectionsPerPeer: 3 } })
    const lines = [await dial(url), await dial(url), await dial(url)]
    const [first] = lines
    const beyond = await dial(url)
    expect(await beyond.closed).toBe('')
    first?.socket.end()
    await first?.closed
    const again = await dial(url)
    again.write(requestText('GET /v1/own/a'))
    await again.until('200 OK')
  })
})
