import { createHash } from 'node:crypto'
import { connect, type SecureVersion, type TLSSocket } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { newAuthority } from './certificates.ts'
import { listenHttp, openDoor } from './doors.ts'
import { dial, listenRaw, requestText } from './wire.ts'

const headerOf = (text: string, name: string) => new RegExp(`^${name}: (.*)\r$`, 'im').exec(text)?.[1]
const bodyOf = (text: string) => text.slice(text.indexOf('\r\n\r\n') + 4)

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
    line.write(requestText('LIST /v1/%6fwn/a%20b/?after=%31'))
    expect(JSON.parse(bodyOf(await line.until(/\}$/)))).toMatchObject({
      method: 'LIST',
      url: 'http://door.example/v1/own/a%20b/?after=%31',
      path: { path: 'own/a b', trailingSlash: true, query: 'after=%31' },
      body: '',
      same: true,
    })
    line.write(requestText('PUT /v1/own/b', ['Transfer-Encoding: chunked'], '2\r\n{"\r\n6\r\na": 1}\r\n0\r\n\r\n'))
    expect(await line.until('{\\"a\\": 1}')).toContain('"method":"PUT"')
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
  const limits = { bodyBytes: 1000, bodyWithinMs: 300 }
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
      limits,
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
    const { url } = await openDoor({ limits: { headWithinMs: 300 } })
    const [silent, slow, second] = [await dial(url), await dial(url), await dial(url)]
    slow.write('GET /v1/own/a HTTP/1.1\r\nHost: a\r\n')
    second.write(requestText('GET /v1/own/a'))
    await second.until('200 OK')
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

describe('TLS', async () => {
  const [ours, theirs] = await Promise.all([newAuthority('ours'), newAuthority('theirs')])
  const [server, renewed, client, stranger] = await Promise.all([
    ours.issue('localhost'),
    ours.issue('localhost'),
    ours.issue('agent'),
    theirs.issue('agent'),
  ])
  const GET = requestText('GET /v1/own/a')
  const who: NonNullable<Parameters<typeof openDoor>[0]>['own'] = (_, { incoming }) => {
    const socket = incoming.socket as TLSSocket
    const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined
    return new Response(certificate ? createHash('sha256').update(certificate.raw).digest('hex') : 'nobody')
  }

  /** What a client with these options reads, or the code of what went wrong. */
  async function ask(url: string, options: object): Promise<string> {
    try {
      const line = await dial(url, { ca: ours.ca, ...options })
      line.write(GET)
      return bodyOf(await Promise.race([line.until(/\r\n\r\n.+/s), line.closed])) || 'refused'
    } catch {
      return 'refused'
    }
  }

  test.each([
    ['TLSv1.3', undefined, 'nobody'],
    ['TLSv1.2', undefined, 'refused'],
    ['TLSv1.2', 'TLSv1.2', 'nobody'],
    ['TLSv1.1', 'TLSv1.2', 'refused'],
  ] as const)('a client with %s at a door with %s: %s', async (version, minVersion, outcome) => {
    const { url } = await openDoor({ tls: { ...server, ...(minVersion && { minVersion }) }, own: who })
    expect(url).toMatch(/^https:/)
    expect(await ask(url, { minVersion: version as SecureVersion, maxVersion: version as SecureVersion })).toBe(outcome)
  })

  test('LIST and what goes on to Vault work the same', async () => {
    const upstream = await listenHttp((incoming, outgoing) => outgoing.end(`${incoming.method} at Vault;`))
    const line = await dial((await openDoor({ tls: server, upstream: { url: upstream } })).url, { ca: ours.ca })
    line.write(requestText('LIST /v1/a'))
    await line.until('LIST at Vault;')
    line.write(requestText('LIST /v1/own/a'))
    await line.until('"method":"LIST"')
  })

  test('a client certificate counts when our authority vouches for it', async () => {
    const asked = await openDoor({ tls: { ...server, clientCa: ours.ca }, own: who })
    const required = await openDoor({ tls: { ...server, clientCa: ours.ca, requireClientCert: true }, own: who })
    const unasked = await openDoor({ tls: server, own: who })
    const outcomes = async (options: object) => [
      await ask(asked.url, options),
      await ask(required.url, options),
      await ask(unasked.url, options),
    ]
    expect(await outcomes(client)).toEqual([client.sha256, client.sha256, 'nobody'])
    expect(await outcomes({})).toEqual(['nobody', 'refused', 'nobody'])
    expect(await outcomes(stranger)).toEqual(['nobody', 'refused', 'nobody'])
  })

  test('a header cannot stand in for a certificate', async () => {
    const line = await dial((await openDoor({ tls: { ...server, clientCa: ours.ca }, own: who })).url, { ca: ours.ca })
    line.write(requestText('GET /v1/own/a', ['Client-Cert: :MIIC:', 'X-SSL-Client-Cert: x', 'X-Client-Cert: x']))
    await line.until('nobody')
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('no session is resumed where clients have certificates (%s)', async version => {
    const { url } = await openDoor({ tls: { ...server, clientCa: ours.ca, minVersion: version }, own: who })
    const options = { port: Number(new URL(url).port), host: '127.0.0.1', ca: ours.ca, ...client, maxVersion: version }
    const first = connect(options)
    const sessions: Buffer[] = []
    first.on('session', session => sessions.push(session))
    first.write(GET)
    await new Promise(resolve => first.once('data', resolve))
    first.destroy()
    for (const session of sessions) {
      const second = connect({ ...options, session })
      await new Promise((resolve, reject) => second.once('secureConnect', resolve).once('error', reject))
      expect(second.isSessionReused()).toBe(false)
      second.destroy()
    }
    expect(sessions.length).toBeGreaterThan(0)
  })

  test('what is reloaded holds for the next connection, and there is one soon', async () => {
    const [reached, pending] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const door = await openDoor({
      tls: { ...server, clientCa: ours.ca, requireClientCert: true },
      own: async (request, env) => {
        if (request.url.endsWith('wait')) {
          reached.resolve()
          await pending.promise
        }
        return who(request, env)
      },
    })
    const trusted = { ca: ours.ca, ...client }
    const [idle, busy] = [await dial(door.url, trusted), await dial(door.url, trusted)]
    idle.write(GET)
    await idle.until(client.sha256)
    busy.write(requestText('GET /v1/own/wait'))
    await reached.promise
    door.reloadTls({ ...renewed, clientCa: theirs.ca })
    await idle.closed
    pending.resolve()
    expect(await busy.closed).toMatch(/^HTTP\/1\.1 200 .*Connection: close/s)
    expect(await ask(door.url, client)).toBe('refused')
    expect(await ask(door.url, stranger)).toBe(stranger.sha256)
    const line = await dial(door.url, { ca: ours.ca, ...stranger })
    const { fingerprint256 } = (line.socket as ReturnType<typeof connect>).getPeerCertificate()
    expect(fingerprint256.replaceAll(':', '').toLowerCase()).toBe(renewed.sha256)
  })

  test('HTTP in clear on a TLS port is closed', async () => {
    const { url } = await openDoor({ tls: server })
    const line = await dial(url.replace('https:', 'http:'))
    line.write(GET)
    expect(await line.closed).not.toContain('200')
  })

  test('there is nothing to reload without it', async () => {
    const door = await openDoor()
    expect(() => door.reloadTls(server)).toThrow('there is no TLS to reload: the front door listens without it')
  })
})

describe('what is not opened', () => {
  const listen = { host: '0.0.0.0', port: 0 }

  test('a door in clear beyond the loopback, unless it is said', async () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.com', '127.evil.example'])
      await expect(openDoor({ listen: { host, port: 0 } })).rejects.toThrow(`the loopback only, not on ${host}`)
    await expect(openDoor({ listen: { ...listen, plaintext: true } })).resolves.toBeDefined()
    await expect(openDoor({ listen: { host: 'localhost', port: 0 } })).resolves.toBeDefined()
  })

  test('a door where certificates are not checked', async () => {
    await expect(openDoor({ nodeTlsRejectUnauthorized: '0' })).rejects.toThrow('NODE_TLS_REJECT_UNAUTHORIZED=0')
    await expect(openDoor({ nodeTlsRejectUnauthorized: '1' })).resolves.toBeDefined()
  })

  test('a door that requires certificates of nobody', async () => {
    await expect(openDoor({ tls: { cert: '', key: '', requireClientCert: true } })).rejects.toThrow('say who issues them')
  })

  test('a door on a port that is taken', async () => {
    const { address } = await openDoor()
    await expect(openDoor({ listen: { host: '127.0.0.1', port: address.port } })).rejects.toThrow('EADDRINUSE')
  })

  test.each(['127.0.0.1:8200', 'ftp://a', 'http://a/v1', 'http://a:b@c', 'http://a?b', ''])('a door before %j', async url => {
    await expect(openDoor({ upstream: { url } })).rejects.toThrow('the address of Vault must be')
  })
})

describe('closing', () => {
  test('finishes what was begun, takes nothing new, and is done then', async () => {
    const [own, passed] = [Promise.withResolvers<Response>(), Promise.withResolvers<void>()]
    const reached = { own: Promise.withResolvers<void>(), vault: Promise.withResolvers<void>() }
    const url = await listenHttp((_, outgoing) => {
      outgoing.write('begun;')
      reached.vault.resolve()
      void passed.promise.then(() => outgoing.end('ended'))
    })
    const door = await openDoor({
      upstream: { url },
      own: () => {
        reached.own.resolve()
        return own.promise
      },
    })
    const [idle, silent, ours, theirs] = [await dial(door.url), await dial(door.url), await dial(door.url), await dial(door.url)]
    idle.write(requestText('GET /nothing'))
    await idle.until('404')
    ours.write(requestText('GET /v1/own/a'))
    theirs.write(requestText('GET /v1/a'))
    await Promise.all([reached.own.promise, reached.vault.promise, theirs.until('begun;')])
    const closed = door.close(10_000)
    await Promise.all([idle.closed, silent.closed])
    await expect(dial(door.url)).rejects.toThrow('ECONNREFUSED')
    own.resolve(new Response('answered'))
    passed.resolve()
    const text = await ours.closed
    expect([bodyOf(text), headerOf(text, 'Connection')]).toEqual(['answered', 'close'])
    expect(await theirs.closed).toMatch(/begun;.*ended.*0\r\n\r\n$/s)
    await closed
  })

  test('cuts off what does not end in time', async () => {
    const left = Promise.withResolvers<void>()
    const url = await listenRaw(upstream => {
      upstream.socket.once('data', () => upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n'))
      upstream.socket.once('close', left.resolve)
    })
    const door = await openDoor({ upstream: { url } })
    const line = await dial(door.url)
    line.write(requestText('GET /v1/sys/monitor'))
    await line.until('one')
    await door.close(100)
    expect(await line.closed).not.toContain('0\r\n\r\n')
    await left.promise
  })
})
