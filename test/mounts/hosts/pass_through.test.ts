import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { body, doorBefore, doorBeforeRaw, head, OK } from './behind.ts'
import { listenHttp, openDoor } from './doors.ts'
import { dial, type Line, requestText } from './wire.ts'

const FROM = 'X-Forwarded-For: 127.0.0.1'

describe('what goes on to Vault', () => {
  test('verb, path, query and headers as they came, to the authority of Vault', async () => {
    const { line, seen } = await doorBefore(OK)
    const headers = ['X-Vault-Token: s.a', 'x-vault-REQUEST: true', 'X-Vault-MFA: a', 'X-Vault-MFA: b', 'Accept: */*', 'X_Odd: 1']
    line.write(requestText('LIST /v1/kv/a%20b?after=x&limit=%31', headers))
    await line.until('\r\n\r\nOK')
    expect(head(seen()).split('\r\n')).toEqual([
      'LIST /v1/kv/a%20b?after=x&limit=%31 HTTP/1.1',
      expect.stringMatching(/^host: 127\.0\.0\.1:\d+$/),
      'connection: keep-alive',
      FROM,
      ...headers,
    ])
  })

  test('nothing of this hop, and nothing that Vault might believe of a trusted peer', async () => {
    const { line, seen } = await doorBefore(OK, { upstream: { strip: ['X-Our-Proxy-Says'] } })
    const gone = [
      'Connection: X-Named, close',
      'X-Named: 1',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic x',
      'TE: trailers',
      'Trailer: X-Late',
      'Forwarded: for=10.0.0.1',
      'X-Forwarded-For: 10.0.0.1',
      'X_Forwarded_For: 10.0.0.1',
      'X-Real-IP: 10.0.0.1',
      'Client-Cert: :MIIC:',
      'Client-Cert-Chain: :MIIC:',
      'X-Forwarded-Client-Cert: x',
      'X-SSL-Client-Cert: x',
      'X_SSL_CERT: x',
      'x-our_proxy-SAYS: x',
    ]
    line.write(requestText('GET /v1/a', [...gone, 'X-Kept: 1']))
    await line.until('\r\n\r\nOK')
    expect(head(seen()).split('\r\n').slice(2)).toEqual(['connection: keep-alive', FROM, 'X-Kept: 1'])
  })

  test('a client cannot name away what decides on whose behalf a request is', async () => {
    const { line, seen } = await doorBefore(OK)
    const kept = ['X-Vault-Token: s.a', 'X-Vault-Namespace: team', 'Authorization: Bearer s.a', 'Content-Type: application/json']
    line.write(
      requestText('GET /v1/a', ['Connection: X-Vault-Token, x-vault-namespace, Authorization, Content-Type, Host', ...kept]),
    )
    await line.until('\r\n\r\nOK')
    for (const header of [...kept, 'host: ']) expect(head(seen())).toContain(header)
  })

  test.each([
    ['GET', []],
    ['HEAD', []],
    ['DELETE', []],
    ['OPTIONS', []],
    ['POST', ['content-length: 0']],
    ['PUT', ['content-length: 0']],
    ['PATCH', ['content-length: 0']],
    ['LIST', []],
    ['HELP', []],
  ])('%s without a body has none at Vault either', async (verb, framing) => {
    const { line, seen } = await doorBefore(OK)
    line.write(requestText(`${verb} /v1/a`))
    await line.until('200 OK')
    const connection = verb === 'HEAD' ? 'connection: close' : 'connection: keep-alive'
    expect(head(seen()).split('\r\n').slice(2)).toEqual([connection, FROM, ...framing])
    expect(body(seen())).toBe('')
  })

  test('a namespace that is not the root makes every path Vault’s', async () => {
    const { line, seen } = await doorBefore(OK)
    for (const namespace of ['team', 'team/', 'a/b', 'roots'])
      line.write(requestText('GET /v1/own/a', [`X-Vault-Namespace: ${namespace}`]))
    await line.until(/(?:OK.*){8}/s)
    expect(seen().match(/GET \/v1\/own\/a/g)).toHaveLength(4)
    const root = await dial((await openDoor()).url)
    for (const namespace of ['', '/', 'root', 'root/', '/root/']) {
      root.write(
        requestText(`GET /v1/own/${encodeURIComponent(`<${namespace}>`).replaceAll('%2F', '-')}`, [
          `X-Vault-Namespace: ${namespace}`,
        ]),
      )
      await root.until(`<${namespace.replaceAll('/', '-')}>`)
    }
  })
})

describe('what comes back', () => {
  test('status, reason and headers as Vault sent them, without those of its hop', async () => {
    const reply = [
      'HTTP/1.1 472 Disaster Recovery',
      'content-TYPE: application/json',
      'Set-Cookie: a=1',
      'Set-Cookie: b=2',
      'Date: Thu, 01 Jan 1970 00:00:00 GMT',
      'Connection: close, X-Hop',
      'X-Hop: 1',
      'Keep-Alive: timeout=1',
      'Content-Length: 2',
      '',
      '{}',
    ]
    const { line } = await doorBefore(reply.join('\r\n'))
    line.write(requestText('GET /v1/a'))
    const text = await line.until('\r\n\r\n{}')
    expect(head(text).split('\r\n')).toEqual([
      'HTTP/1.1 472 Disaster Recovery',
      'content-TYPE: application/json',
      'Set-Cookie: a=1',
      'Set-Cookie: b=2',
      'Date: Thu, 01 Jan 1970 00:00:00 GMT',
      'Content-Length: 2',
      'Connection: keep-alive',
      'Keep-Alive: timeout=65',
    ])
  })

  test('a redirect is not followed, and one to Vault itself leads to us', async () => {
    const table = [
      ['http://VAULT/v1/a?b=c', '/v1/a?b=c'],
      ['http://leader.example:8200/v1/a', 'http://leader.example:8200/v1/a'],
      ['https://VAULT/v1/a', 'https://VAULT/v1/a'],
      ['/ui/', '/ui/'],
    ] as const
    for (const [sent, wanted] of table) {
      const line = await doorBeforeRaw(upstream => {
        const own = `127.0.0.1:${upstream.socket.localPort}`
        const location = sent.replace('VAULT', own)
        upstream.socket.on('data', () =>
          upstream.write(`HTTP/1.1 307 Temporary Redirect\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`),
        )
      })
      line.write(requestText('GET /v1/a'))
      const text = await line.until('\r\n\r\n')
      expect(text).toMatch(/^HTTP\/1\.1 307 /)
      expect(text).toMatch(new RegExp(`Location: ${wanted.replace('VAULT', '127\\.0\\.0\\.1:\\d+').replaceAll('?', '\\?')}\r\n`))
    }
  })

  test.each([
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n', 'Content-Length: 50'],
    ['HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', 'Date'],
    ['GET', 'HTTP/1.1 204 No Content\r\n\r\n', 'Date'],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', 'ETag: "a"'],
  ])('%s and a reply without a body leave the connection usable', async (verb, reply, header) => {
    const { line } = await doorBefore(reply)
    for (const times of [1, 2]) {
      line.write(requestText(`${verb} /v1/a`))
      const text = await line.until(new RegExp(`(?:HTTP/1\\.1 .*?\\r\\n\\r\\n){${times}}$`, 's'))
      expect(text).toContain(header)
      expect(body(text).startsWith(times === 1 ? '' : 'HTTP/1.1')).toBe(true)
    }
  })

  test('trailers', async () => {
    const { line } = await doorBefore(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nOK\r\n0\r\nX-Sum: abc\r\n\r\n',
    )
    line.write(requestText('GET /v1/a'))
    expect(body(await line.until('X-Sum: abc\r\n\r\n'))).toBe('2\r\nOK\r\n0\r\nX-Sum: abc\r\n\r\n')
  })

  test('a stream flows: its head at once, each piece as it comes', async () => {
    let vault: Line | undefined
    const line = await doorBeforeRaw(upstream => {
      vault = upstream
      upstream.socket.on('data', () => upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'))
    })
    line.write(requestText('GET /v1/sys/monitor?log_level=debug'))
    await line.until(/^HTTP\/1\.1 200 .*\r\n\r\n/s)
    for (const word of ['one', 'two']) {
      vault?.write(`3\r\n${word}\r\n`)
      await line.until(`3\r\n${word}\r\n`)
    }
  })

  test('interim replies of Vault’s end here', async () => {
    const { line } = await doorBefore(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${OK}`)
    line.write(requestText('GET /v1/a'))
    expect(await line.until('\r\n\r\nOK')).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('a client that waits to be asked for its body is asked, and Vault sees a body like any other', async () => {
    const { line, seen } = await doorBefore(OK)
    line.write(requestText('POST /v1/a', ['Expect: 100-continue', 'Content-Length: 4']))
    expect(await line.until('\r\n\r\n')).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    line.write('\r\n\r\n')
    await line.until('\r\n\r\nOK')
    expect(body(seen())).toBe('\r\n\r\n')
    expect(seen()).not.toMatch(/expect/i)
  })
})

describe('bodies', () => {
  const MANY = 32 * 2 ** 20

  test.each(['counted', 'chunked'])('32 MiB up and as many down, %s', async framing => {
    const hash = createHash('sha256')
    const url = await listenHttp((incoming, outgoing) => {
      incoming.on('data', piece => hash.update(piece))
      incoming.on('end', () => outgoing.end(Buffer.alloc(MANY, 'y')))
    })
    const door = await openDoor({ upstream: { url } })
    const whole = Buffer.alloc(MANY, 'x')
    const reply = await fetch(`${door.url}/v1/sys/storage/raft/snapshot`, {
      method: 'POST',
      body: framing === 'counted' ? whole : ReadableStream.from([whole.subarray(0, MANY / 2), whole.subarray(MANY / 2)]),
      duplex: 'half',
    })
    const down = Buffer.from(await reply.arrayBuffer())
    expect(hash.digest('hex')).toBe(createHash('sha256').update(whole).digest('hex'))
    expect(down.equals(Buffer.alloc(MANY, 'y'))).toBe(true)
  })

  /** Resolves when a count has not changed for a while: that nothing moves any more is no event. */
  async function stillness(count: () => number): Promise<number> {
    for (let last = -1; ; ) {
      if (count() > 0 && count() === last) return last
      last = count()
      await new Promise(resolve => setTimeout(resolve, 200))
    }
  }

  test('Vault that does not read slows the client down: nothing is kept here', async () => {
    const line = await doorBeforeRaw(upstream => void upstream.socket.pause())
    line.write(requestText('POST /v1/a', [`Content-Length: ${MANY}`]))
    const block = Buffer.alloc(64 * 1024)
    let taken = 0
    const more = () => {
      while (line.socket.writableLength === 0 && taken < MANY) {
        taken += block.length
        line.socket.write(block, more)
      }
    }
    more()
    expect(await stillness(() => taken)).toBeLessThan(MANY / 2) // what the kernel's four buffers hold, and little more
  })

  test('a client that does not read slows Vault down: nothing is kept here', async () => {
    let sent = 0
    const url = await listenHttp((_, outgoing) => {
      const more = () => {
        while (sent < MANY) {
          sent += 65_536
          if (!outgoing.write(Buffer.alloc(65_536))) return
        }
        outgoing.end()
      }
      outgoing.on('drain', more)
      more()
    })
    const door = await openDoor({ upstream: { url } })
    const line = await dial(door.url)
    line.socket.pause()
    line.write(requestText('GET /v1/a'))
    expect(await stillness(() => sent)).toBeLessThan(MANY / 2)
    line.socket.resume()
    await new Promise<void>(resolve => line.socket.on('data', () => sent >= MANY && resolve()))
  })

  test('Vault that has said all and hangs up while the client still reads: all of it arrives', async () => {
    const length = 256 * 1024
    for (let turn = 0; turn < 20; turn += 1) {
      const line = await doorBeforeRaw(upstream =>
        upstream.socket.once('data', () => {
          upstream.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n`)
          upstream.socket.end(Buffer.alloc(length, 'a'))
        }),
      )
      line.write(requestText('GET /v1/a', ['Connection: close']))
      await line.closed
      expect(body(line.text())).toHaveLength(length)
    }
  })

  test('Vault that pauses is no fault of the client', async () => {
    const line = await doorBeforeRaw(
      upstream => {
        setTimeout(() => upstream.socket.resume(), 2500) // longer than a client may pause
        let bytes = 0
        upstream.socket.on('data', piece => {
          bytes += piece.length
          if (bytes > MANY) upstream.write(OK)
        })
        upstream.socket.pause()
      },
      { limits: { stallMs: 1000 } },
    )
    line.write(requestText('POST /v1/a', [`Content-Length: ${MANY}`]))
    line.socket.write(Buffer.alloc(MANY))
    expect(await line.until('\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('a reply that comes before the end of the upload arrives whole', async () => {
    const line = await doorBeforeRaw(upstream => {
      upstream.socket.once('data', () => {
        upstream.write('HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlots')
        upstream.socket.end()
      })
    })
    line.write(requestText('POST /v1/a', ['Content-Length: 50000000'], 'x'.repeat(100_000)))
    await line.until('\r\n\r\nlots')
    line.write('x'.repeat(100_000))
    expect(await line.closed).toMatch(/^HTTP\/1\.1 413 .*\r\n\r\nlots$/s)
  })
})
