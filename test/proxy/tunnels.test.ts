import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { expect, test } from 'vitest'
import { exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// The deadlines of connections hold for what is in a tunnel, too.

const place = (world: ProxyWorld) => `api.test:${world.upstream.port}`

async function open(world: ProxyWorld): Promise<TLSSocket> {
  const outer = await world.connect()
  const line = `CONNECT ${place(world)} HTTP/1.1\r\nHost: ${place(world)}\r\n\r\n`
  await exchangeRaw(outer, line, text => text.includes('\r\n\r\n'))
  outer.removeAllListeners('data')
  const inner = tlsConnect({ socket: outer, servername: 'api.test', ca: world.ca.ca })
  await new Promise((resolve, reject) => inner.once('secureConnect', resolve).once('error', reject))
  return inner
}

const options = { tls: true, host: 'api.test', intercept: true }

test('a client that never ends its head is cut off, however it drips', async () => {
  await using world = await openProxyWorld({ ...options, config: { limits: { head_within_ms: 300 } } })
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
