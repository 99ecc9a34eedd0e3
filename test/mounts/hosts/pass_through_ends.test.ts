import type { ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Passed } from '../../../mounts/hosts/pass_through.ts'
import { body, doorBeforeRaw, OK } from './behind.ts'
import { newAuthority } from './certificates.ts'
import { listenHttp, openDoor } from './doors.ts'
import { dial, type Line, listenRaw, requestText } from './wire.ts'

describe('whoever leaves takes the other along', () => {
  test('a client that leaves while it waits', async () => {
    const left = Promise.withResolvers<void>()
    const passed = Promise.withResolvers<Passed>()
    const line = await doorBeforeRaw(
      upstream => {
        upstream.socket.once('data', () => line.socket.destroy())
        upstream.socket.once('close', left.resolve)
      },
      { onPassThrough: passed.resolve },
    )
    line.write(requestText('GET /v1/a'))
    await left.promise
    expect(await passed.promise).toMatchObject({ status: 0, whole: false })
  })

  test('a client that leaves within its upload', async () => {
    const left = Promise.withResolvers<string>()
    const line = await doorBeforeRaw(upstream => {
      upstream.socket.once('data', () => line.socket.destroy())
      void upstream.closed.then(left.resolve)
    })
    line.write(requestText('POST /v1/a', ['Transfer-Encoding: chunked'], '3\r\nabc\r\n'))
    expect(await left.promise).not.toContain('0\r\n\r\n')
  })

  test('a client that leaves a stream', async () => {
    const left = Promise.withResolvers<void>()
    const line = await doorBeforeRaw(upstream => {
      upstream.socket.once('data', () => upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n'))
      upstream.socket.once('close', left.resolve)
    })
    line.write(requestText('GET /v1/sys/monitor'))
    await line.until('one')
    line.socket.destroy()
    await left.promise
  })

  test.each([
    ['a counted reply', 'Content-Length: 10\r\n\r\nhalf'],
    ['a chunked reply', 'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
  ])('Vault that leaves within %s: nobody takes the half for the whole', async (_, rest) => {
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const passed = Promise.withResolvers<Passed>()
      const line = await doorBeforeRaw(
        upstream => {
          upstream.socket.once('data', () => upstream.write(`HTTP/1.1 200 OK\r\n${rest}`))
          void line.until('half').then(() => upstream.socket[leave]())
        },
        { onPassThrough: passed.resolve },
      )
      line.write(requestText('GET /v1/a'))
      const text = await line.closed
      expect(text).toContain('half')
      expect(text).not.toContain('0\r\n\r\n')
      expect(await passed.promise).toMatchObject({ status: 200, whole: false })
    }
  })
})

describe('no reply: 503 and a sentence, in time', () => {
  const unavailable = (message: string) =>
    new RegExp(`^HTTP/1\\.1 503 .*Retry-After: 1\\r\\n.*\\r\\n\\r\\n\\{"errors":\\["${message}"\\]\\}\\n$`, 's')

  test('Vault is down', async () => {
    const line = await dial((await openDoor()).url)
    line.write(requestText('GET /v1/a'))
    expect(await line.until('errors')).toMatch(unavailable('Vault cannot be reached'))
    line.write(requestText('GET /v1/own/a'))
    await line.until('200 OK') // and the connection goes on
  })

  test('Vault is down when an upload comes', async () => {
    const line = await dial((await openDoor()).url)
    line.write(requestText('POST /v1/a', ['Content-Length: 1000000'], 'x'.repeat(1000)))
    const text = await line.closed
    expect(text).toMatch(unavailable('Vault cannot be reached'))
    expect(text).toContain('Connection: close')
  })

  test('no connection comes about', async () => {
    // one connection is all there may be, and somebody else has it
    const url = await listenRaw(() => {})
    const door = await openDoor({ upstream: { url, connections: 1, connectWithinMs: 200 } })
    const [first, second] = [await dial(door.url), await dial(door.url)]
    first.write(requestText('GET /v1/a'))
    second.write(requestText('GET /v1/b'))
    const late = await Promise.race([first.until('503'), second.until('503')])
    expect(late).toMatch(unavailable('Vault did not accept a connection within 0\\.2 s'))
  })

  test('TLS never comes about', async () => {
    const url = (await listenRaw(() => {})).replace('http:', 'https:')
    const line = await dial((await openDoor({ upstream: { url, connectWithinMs: 200 } })).url)
    line.write(requestText('GET /v1/a'))
    expect(await line.until('errors')).toMatch(unavailable('Vault did not accept a connection within 0\\.2 s'))
  })

  test('Vault takes the request and says nothing', async () => {
    const line = await doorBeforeRaw(() => {}, { upstream: { answerWithinMs: 200 } })
    line.write(requestText('GET /v1/a'))
    expect(await line.until('errors')).toMatch(unavailable('Vault did not answer within 0\\.2 s'))
  })

  describe('by a clock that goes on when it is told to', () => {
    beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
    afterEach(() => void vi.useRealTimers())

    /** An upstream that answers a request when it is told to, and when each has arrived there. */
    async function answering() {
      const arrived = new Map<string, ServerResponse>()
      const url = await listenHttp(({ url: path = '' }, outgoing) => void arrived.set(path, outgoing))
      const of = async (path: string) => {
        await expect.poll(() => arrived.has(path)).toBe(true)
        return arrived.get(path)
      }
      return { url, of }
    }

    test('an upload that moves buys time, a stream has no limit', async () => {
      let vault: Line | undefined
      const serve = (upstream: Line) => {
        vault = upstream
      }
      const line = await doorBeforeRaw(serve, { upstream: { answerWithinMs: 300 } })
      line.write(requestText('POST /v1/a', ['Content-Length: 100']))
      for (let at = 1; at <= 10; at += 1) {
        line.write('x'.repeat(10))
        await expect.poll(() => vault && body(vault.text()).length).toBe(10 * at)
        vi.advanceTimersByTime(200)
      }
      vault?.write(OK)
      await line.until('\r\n\r\nOK')

      const { url, of } = await answering()
      const endless = await dial((await openDoor({ upstream: { url, answerWithinMs: 100 } })).url)
      endless.write(requestText('GET /v1/sys/monitor'))
      const outgoing = await of('/v1/sys/monitor')
      vi.advanceTimersByTime(60_000)
      outgoing?.end()
      expect(await endless.until('\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
    })

    test('a connection that somebody else has given back stands already', async () => {
      const { url, of } = await answering()
      const asked: string[] = []
      const owns = (_: string, { path }: { path: string }) => {
        asked.push(path)
        return false
      }
      const door = await openDoor({ owns, upstream: { url, connections: 1, connectWithinMs: 600 } })
      const [first, second] = [await dial(door.url), await dial(door.url)]
      first.write(requestText('GET /v1/a'))
      const held = await of('/v1/a')
      second.write(requestText('GET /v1/b'))
      await expect.poll(() => asked).toEqual(['a', 'b'])
      vi.advanceTimersByTime(400) // for the connection
      held?.end()
      const given = await of('/v1/b')
      vi.advanceTimersByTime(400) // for the answer
      given?.end()
      for (const line of [first, second]) expect(await line.until('\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
    })

    test('a connection that stands needs none, a reply that has begun may last, a stream takes nobody’s place', async () => {
      const standing = await answering()
      const line = await dial((await openDoor({ upstream: { url: standing.url, connectWithinMs: 200 } })).url)
      line.write(requestText('GET /v1/a'))
      ;(await standing.of('/v1/a'))?.end('first;')
      await line.until('first;')
      line.write(requestText('GET /v1/b'))
      const late = await standing.of('/v1/b')
      vi.advanceTimersByTime(400)
      late?.end('second;')
      await line.until('second;')

      const { url, of } = await answering()
      const door = await openDoor({ upstream: { url, connections: 1, answerWithinMs: 100, connectWithinMs: 300 } })
      const [stream, other] = [await dial(door.url), await dial(door.url)]
      stream.write(requestText('GET /v1/sys/monitor'))
      ;(await of('/v1/sys/monitor'))?.write('begun;')
      await stream.until('begun;')
      other.write(requestText('GET /v1/a'))
      const begun = await of('/v1/a')
      begun?.write('begun;')
      await other.until('begun;')
      vi.advanceTimersByTime(400)
      begun?.end('ended;')
      await other.until('ended;')
    })
  })

  test.each([
    ['closes', (line: Line) => line.socket.end(), 'Vault closed the connection before it answered'],
    ['resets', (line: Line) => line.socket.resetAndDestroy(), 'Vault closed the connection before it answered'],
    ['talks nonsense', (line: Line) => line.write('SSH-2.0-OpenSSH_9.2\r\n\r\n'), 'Vault sent something that is not HTTP'],
    [
      'sends two lengths',
      (line: Line) => line.write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n${OK.slice(17)}`),
      'Vault sent something that is not HTTP',
    ],
    [
      'sends a head without end',
      (line: Line) => line.write(`HTTP/1.1 200 OK\r\nX: ${'a'.repeat(200_000)}`),
      'Vault sent something that is not HTTP',
    ],
  ])('Vault %s', async (_, act, message) => {
    const passed = Promise.withResolvers<Passed>()
    const line = await doorBeforeRaw(upstream => upstream.socket.once('data', () => act(upstream)), {
      onPassThrough: passed.resolve,
    })
    line.write(requestText('GET /v1/a'))
    expect(await line.until('errors')).toMatch(unavailable(message))
    expect(await passed.promise).toMatchObject({ status: 503, whole: true, failure: message })
  })

  test('what was sent once is not sent again', async () => {
    let requests = 0
    const line = await doorBeforeRaw(upstream => {
      upstream.socket.on('data', () => {
        requests += 1
        if (requests === 1) upstream.write(OK)
        else upstream.socket.resetAndDestroy() // a kept connection that dies under its second request
      })
    })
    line.write(requestText('GET /v1/database/creds/a'))
    await line.until('\r\n\r\nOK')
    line.write(requestText('GET /v1/database/creds/a'))
    await line.until('503')
    expect(requests).toBe(2)
  })

  test('Vault is back: so are we', async () => {
    let broken = true
    const line = await doorBeforeRaw(upstream =>
      upstream.socket.on('data', () => (broken ? upstream.socket.destroy() : upstream.write(OK))),
    )
    line.write(requestText('GET /v1/a'))
    await line.until('503')
    broken = false
    line.write(requestText('GET /v1/a'))
    await line.until('\r\n\r\nOK')
  })
})

describe('Vault behind TLS', () => {
  test('is who its certificate says, or there is no connection', async () => {
    const [ours, theirs] = await Promise.all([newAuthority('ours'), newAuthority('theirs')])
    const server = createTlsServer(await ours.issue('localhost'), (_, outgoing) => outgoing.end('secret'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.close()
      server.closeAllConnections()
    })
    const url = `https://127.0.0.1:${(server.address() as { port: number }).port}`
    const through = async (ca: string | undefined, to = url) =>
      (await fetch(`${(await openDoor({ upstream: { url: to, ca } })).url}/v1/a`)).text()
    const none = '{"errors":["no trusted connection to Vault can be made"]}\n'
    expect(await through(ours.ca)).toBe('secret')
    expect(await through(theirs.ca)).toBe(none)
    expect(await through(undefined)).toBe(none)
    expect(await through(ours.ca, url.replace('127.0.0.1', '127.0.0.2'))).toMatch(/Vault cannot be reached/)
  })
})
