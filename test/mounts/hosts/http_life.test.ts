import { describe, expect, test } from 'vitest'
import { listenHttp, openDoor } from './doors.ts'
import { bodyOf, dial, headerOf, listenRaw, requestText } from './wire.ts'

describe('what is not opened', () => {
  test('a door in clear beyond the loopback', async () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.com', '127.evil.example'])
      await expect(openDoor({ listen: { host, port: 0 } })).rejects.toThrow(`the loopback only, not on ${host}`)
    await expect(openDoor({ listen: { host: 'localhost', port: 0 } })).resolves.toBeDefined()
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

  test('is told before: connections end with the reply that is due next, and new ones are taken', async () => {
    const door = await openDoor({ own: async () => new Response('answered') })
    const kept = await dial(door.url)
    kept.write(requestText('GET /v1/own/a'))
    await kept.until('answered')
    door.leave()
    kept.write(requestText('GET /v1/own/a'))
    expect(headerOf((await kept.closed).split('answered')[1] ?? '', 'Connection')).toBe('close')
    const next = await dial(door.url)
    next.write(requestText('GET /v1/own/a'))
    const text = await next.closed
    expect([bodyOf(text), headerOf(text, 'Connection')]).toEqual(['answered', 'close'])
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
