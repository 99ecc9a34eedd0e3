import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// What CONNECT opens.

const whole = (text: string) => text.includes('\r\n\r\n') && text.endsWith('fine')

const place = (world: ProxyWorld) => `api.test:${world.upstream.port}`

async function open(world: ProxyWorld, authority = place(world)): Promise<TLSSocket> {
  const outer = await world.connect()
  const line = `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`
  const head = await exchangeRaw(outer, line, text => text.includes('\r\n\r\n'))
  if (!head.startsWith('HTTP/1.1 200')) throw new Error(head)
  outer.removeAllListeners('data')
  const inner = tlsConnect({ socket: outer, servername: 'api.test', ca: world.ca.ca })
  await new Promise((resolve, reject) => inner.once('secureConnect', resolve).once('error', reject))
  return inner
}

const options = { tls: true, host: 'api.test', intercept: true }

test('a tunnel ends at the proxy, with a certificate of the host, and its requests are swapped', async () => {
  await using world = await openProxyWorld(options)
  const host = place(world)
  const inner = await open(world)
  const lines = ['GET /a HTTP/1.1', `Host: ${host}`, `Authorization: Bearer ${await world.seal()}`]
  expect(await exchangeRaw(inner, `${lines.join('\r\n')}\r\n\r\n`, whole)).toMatch(/^HTTP\/1.1 200/)
  expect(await exchangeRaw(inner, `${lines.join('\r\n')}\r\n\r\n`, whole)).toMatch(/^HTTP\/1.1 200/)
  inner.destroy()
  expect(world.upstream.seen[0]?.rawHeaders).toContain(`Bearer ${REAL}`)
})

test('a tunnel leads where it was asked for, whatever the requests in it say', async () => {
  await using world = await openProxyWorld(options)
  const host = place(world)
  const token = `Authorization: Bearer ${await world.seal()}`
  const attempts: readonly (readonly [string, readonly string[]])[] = [
    ['HOST_MISMATCH', ['GET /a HTTP/1.1', 'Host: evil.example']],
    ['DESTINATION_UNCLEAR', [`GET https://${host}/a HTTP/1.1`, `Host: ${host}`]],
    ['DESTINATION_UNCLEAR', ['GET /a HTTP/1.1', `Host: ${host}`, 'Assay-Destination: https://evil.example']],
    ['DESTINATION_UNCLEAR', [`CONNECT ${host} HTTP/1.1`, `Host: ${host}`]],
  ]
  for (const [code, lines] of attempts) {
    const inner = await open(world)
    expect(await exchangeRaw(inner, `${[...lines, token].join('\r\n')}\r\n\r\n`, text => text.endsWith(']}'))).toContain(
      `"code":"${code}"`,
    )
    inner.destroy()
  }
  expect(world.upstream.seen).toEqual([])
})

test('a tunnel is as good as the certificate of the connection that it is in', async () => {
  await using world = await openProxyWorld(options)
  const host = place(world)
  const inner = await open(world)
  const token = await world.seal({ x5tS256: world.other.x5tS256 })
  const request = `GET /a HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`
  expect(await exchangeRaw(inner, request, text => text.endsWith(']}'))).toContain('"code":"TOKEN"')
  inner.destroy()
})

test('a tunnel to a service with TLS is refused where nothing is intercepted', async () => {
  await using off = await openProxyWorld({ tls: true, host: 'api.test' })
  await expect(open(off, `api.test:${off.upstream.port}`)).rejects.toThrow('"code":"DESTINATION"')
})

describe('to a service without TLS', () => {
  const dialled = async (world: ProxyWorld) => {
    const socket = await world.connect()
    const host = `127.0.0.1:${world.upstream.port}`
    await exchangeRaw(socket, `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`, text => text.includes('200 Connection'))
    socket.removeAllListeners('data')
    return { socket, host, token: `Authorization: Bearer ${await world.seal()}` }
  }

  test('a tunnel has its requests in clear, and they are swapped', async () => {
    await using world = await openProxyWorld()
    const { socket, host, token } = await dialled(world)
    const asked = `GET /a HTTP/1.1\r\nHost: ${host}\r\n${token}\r\n\r\n`
    for (const _ of [1, 2]) expect(await exchangeRaw(socket, asked, whole)).toMatch(/^HTTP\/1.1 200/)
    socket.destroy()
    expect(world.upstream.seen.map(({ url }) => url)).toEqual(['/a', '/a'])
    expect(world.upstream.seen[1]?.rawHeaders).toContain(`Bearer ${REAL}`)
  })

  test.each([
    ['HOST_MISMATCH', 'GET /a HTTP/1.1\r\nHost: evil.example'],
    ['DESTINATION_UNCLEAR', 'GET http://evil.example/a HTTP/1.1\r\nHost: evil.example'],
    ['DESTINATION_UNCLEAR', 'GET /_/evil.example/a HTTP/1.1\r\nHost: a\r\nAssay-Destination: http://evil.example'],
    ['DESTINATION_UNCLEAR', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example'],
  ])('a tunnel leads nowhere else: %s', async (code, head) => {
    await using world = await openProxyWorld()
    const { socket, token } = await dialled(world)
    expect(await exchangeRaw(socket, `${head}\r\n${token}\r\n\r\n`, text => text.endsWith(']}'))).toContain(`"code":"${code}"`)
    socket.destroy()
    expect(world.upstream.seen).toEqual([])
  })
})

test('a client that never ends its head is cut off, however it drips', async () => {
  await using world = await openProxyWorld({ ...options, config: { limits: { head_within_ms: 2000 } } })
  const inner = await open(world)
  const drips = setInterval(() => inner.write('a'), 50)
  const ended = new Promise(resolve => inner.once('close', resolve))
  const said = await exchangeRaw(inner, 'GET /', text => text.endsWith(']}'))
  await ended
  clearInterval(drips)
  expect(said).toContain('"code":"REQUEST_SLOW"')
})

test('one in which nothing is asked does not hold up the end of the proxy', async () => {
  await using world = await openProxyWorld({ ...options, config: { shutdown_seconds: 600 } })
  const inner = await open(world)
  const head = `GET /a HTTP/1.1\r\nHost: ${place(world)}\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
  await exchangeRaw(inner, head, text => text.endsWith('fine'))
  await world.proxy.close()
  inner.destroy()
})
