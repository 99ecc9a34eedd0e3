import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { createSecureServer } from 'node:http2'
import { request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { describe, expect, onTestFinished, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { bearer, exchangeRaw, openProxyWorld } from './world.ts'

const whole = (text: string) => text.includes('\r\n\r\n') && text.endsWith('fine')

describe('where a request goes is said', () => {
  test('by the base path', async () => {
    await using world = await openProxyWorld()
    expect((await world.ask({ path: `${world.base}/a`, headers: bearer(await world.seal()) })).status).toBe(200)
    expect((await world.ask({ path: world.base, headers: bearer(await world.seal()) })).status).toBe(200)
    expect(world.upstream.seen.map(one => one.url)).toEqual(['/a', '/'])
  })

  test('by a header, which goes no further', async () => {
    await using world = await openProxyWorld()
    const headers = { ...bearer(await world.seal()), 'Assay-Destination': `http://127.0.0.1:${world.upstream.port}` }
    expect((await world.ask({ path: '/a', headers })).status).toBe(200)
    expect(world.upstream.seen[0]?.rawHeaders.join().toLowerCase()).not.toContain('assay-')
  })

  test('by the absolute form of the target', async () => {
    await using world = await openProxyWorld()
    const place = `127.0.0.1:${world.upstream.port}`
    const socket = await world.connect()
    const lines = [`GET http://${place}/a HTTP/1.1`, `Host: ${place}`, `Authorization: Bearer ${await world.seal()}`]
    const received = await exchangeRaw(socket, `${lines.join('\r\n')}\r\n\r\n`, whole)
    socket.destroy()
    expect(received).toMatch(/^HTTP\/1.1 200/)
    expect(world.upstream.seen[0]?.url).toBe('/a')
  })

  test('in its own header the token may stand too, whatever the service wants', async () => {
    await using world = await openProxyWorld()
    expect((await world.ask({ headers: { 'Assay-Token': await world.seal(), Authorization: 'Bearer dummy' } })).status).toBe(200)
    expect(world.upstream.seen[0]?.rawHeaders).toContain(`Bearer ${REAL}`)
    expect(world.upstream.seen[0]?.rawHeaders).not.toContain('Bearer dummy')
  })
})

describe('headers on their way', () => {
  test('nothing that Connection names, and nothing that speaks of a hop, goes on; the credential does', async () => {
    await using world = await openProxyWorld()
    const headers = {
      ...bearer(await world.seal()),
      Connection: 'authorization, x-mine, content-length',
      'X-Mine': 'a',
      'X-Yours': 'b',
      'Proxy-Authorization': 'Basic eA==',
      TE: 'trailers',
      'X-Forwarded-For': '1.2.3.4',
      Forwarded: 'for=1.2.3.4',
      'X-Vault-Token': 'hvs.x',
      'X-Broker-Thing': 'x',
      Authorization_: 'x',
      Proxy_Authorization: 'x',
      X_Forwarded_For: 'x',
    }
    expect((await world.ask({ method: 'POST', headers, body: 'four' })).status).toBe(200)
    const [seen] = world.upstream.seen
    const names = (seen?.rawHeaders ?? []).filter((_, at) => at % 2 === 0).map(name => name.toLowerCase())
    expect(names.toSorted()).toEqual([
      'accept-encoding',
      'authorization',
      'authorization_',
      'connection',
      'content-length',
      'host',
      'x-yours',
    ])
    expect(seen?.rawHeaders).toContain(`Bearer ${REAL}`)
    expect(seen?.body.toString()).toBe('four')
  })

  test.each(['X-Api-Key', 'X_Api_Key', 'X.Api.Key'])('the twins of an injected header go nowhere: %s', async name => {
    await using world = await openProxyWorld({ service: { inject: [{ header: { name, value: '{token}' } }] } })
    const headers = { ...bearer(await world.seal()), X_Api_Key: 'twin', 'X.Api.Key': 'twin', 'x-api-key': 'own' }
    expect((await world.ask({ headers })).status).toBe(200)
    const raw = world.upstream.seen[0]?.rawHeaders.join() ?? ''
    expect(raw).toContain(REAL)
    expect(raw).not.toContain('twin')
    expect(raw).not.toContain('own')
  })

  test('what names another path goes on where the service has copies', async () => {
    await using world = await openProxyWorld({ service: { copies: true } })
    const headers = { ...bearer(await world.seal()), 'X-Amz-Copy-Source': '/other/object' }
    expect((await world.ask({ method: 'PUT', headers })).status).toBe(200)
    expect(world.upstream.seen[0]?.rawHeaders).toContain('/other/object')
  })

  test('the path that is matched is the path that is sent', async () => {
    await using world = await openProxyWorld({ service: { allow: ['/admin/{id}'] } })
    expect(
      (await world.ask({ path: `${world.base}/%61dmin/caf%c3%a9?q=%2F..%2F`, headers: bearer(await world.seal()) })).status,
    ).toBe(200)
    expect(world.upstream.seen[0]?.url).toBe('/admin/caf%C3%A9?q=%2F..%2F')
  })
})

describe('bodies', () => {
  const MEGABYTE = Buffer.alloc(2 ** 20, 'abcdefgh')

  test.each([1, 40])('of %i MB flow both ways unchanged', async megabytes => {
    await using world = await openProxyWorld()
    world.upstream.server.removeAllListeners('request')
    world.upstream.server.on('request', (incoming, outgoing) => void incoming.pipe(outgoing))
    const token = await world.seal()
    const sent = createHash('sha256')
    const received = createHash('sha256')
    const chunks = async function* () {
      for (let at = 0; at < megabytes; at++) {
        sent.update(MEGABYTE)
        yield MEGABYTE
      }
    }
    await new Promise<void>((resolve, reject) => {
      const asked = request({ ...world.dial, method: 'POST', path: `${world.base}/`, headers: bearer(token) }, answer => {
        answer.on('data', chunk => received.update(chunk as Buffer))
        answer.on('end', resolve).on('error', reject)
      })
      asked.on('error', reject)
      Readable.from(chunks()).pipe(asked)
    })
    expect(received.digest('hex')).toBe(sent.digest('hex'))
  })

  test('that wait for a connection to the upstream server owe nothing meanwhile, however long', async () => {
    await using world = await openProxyWorld({ service: { connections: 1 }, config: { limits: { stall_ms: 1000 } } })
    const began = Promise.withResolvers<ServerResponse>()
    world.upstream.answer = ({ url }, outgoing, body) => {
      if (url === '/first') began.resolve(outgoing)
      else outgoing.end(String(body.length))
    }
    const headers = bearer(await world.seal())
    const first = world.ask({ path: `${world.base}/first`, headers })
    const outgoing = await began.promise
    const second = world.ask({ method: 'POST', path: `${world.base}/second`, headers, body: MEGABYTE })
    const third = await world.connect()
    // it owes a body that is wanted, and comes later: what is due to be cut off is cut off by then
    third.write(`POST ${world.base}/third HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n`)
    await new Promise(resolve => third.once('close', resolve).resume())
    outgoing.end('done')
    expect([(await first).text, (await second).text]).toEqual(['done', String(MEGABYTE.length)])
  })

  test('whose length stands behind many other headers arrive whole', async () => {
    await using world = await openProxyWorld()
    const others = Array.from({ length: 120 }, (_, at) => `X-${at}: a`)
    const lines = [`POST ${world.base}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${await world.seal()}`, ...others]
    const socket = await world.connect()
    await exchangeRaw(socket, `${lines.join('\r\n')}\r\nContent-Length: 4\r\n\r\nfour`, whole)
    socket.destroy()
    expect(world.upstream.seen[0]?.body.toString()).toBe('four')
  })

  test('that are announced with Expect are asked for once they may go', async () => {
    await using world = await openProxyWorld()
    const socket = await world.connect()
    const lines = [
      `POST ${world.base}/ HTTP/1.1`,
      'Host: a',
      `Authorization: Bearer ${await world.seal()}`,
      'Content-Length: 4',
      'Expect: 100-continue',
    ]
    expect(await exchangeRaw(socket, `${lines.join('\r\n')}\r\n\r\n`, text => text.includes('\r\n\r\n'))).toMatch(
      /^HTTP\/1.1 100/,
    )
    expect(await exchangeRaw(socket, 'four', whole)).toContain('200 OK')
    socket.destroy()
  })

  test('an agent that leaves ends the request at the upstream server', async () => {
    await using world = await openProxyWorld()
    const gone = new Promise(resolve => {
      world.upstream.answer = incoming => void incoming.socket.once('close', resolve)
    })
    const socket = await world.connect()
    const arrived = new Promise<void>(resolve => world.upstream.server.once('request', () => resolve()))
    socket.write(`GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`)
    await arrived
    socket.destroy()
    await gone
  })

  test('an upstream server that breaks off in the middle is not taken for one that is done', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = (incoming, outgoing) => {
      outgoing.writeHead(200, { 'Content-Length': 100 })
      outgoing.write('half', () => incoming.socket.destroy())
    }
    await expect(world.ask({ headers: bearer(await world.seal()) })).rejects.toThrow()
  })
})

test('an upstream server may speak HTTP/2', async () => {
  await using world = await openProxyWorld({ tls: true, host: 'api.test', service: { http2: true } })
  const pair = await world.ca.issue('api.test')
  const server = createSecureServer({ cert: pair.cert, key: pair.key })
  onTestFinished(() => void server.close())
  const seen: string[] = []
  server.on('stream', (stream, headers) => {
    seen.push(String(headers.authorization), String(headers[':authority']))
    stream.respond({ ':status': 200 })
    stream.end(`over h2: ${headers.authorization}`)
  })
  await new Promise<void>(resolve => world.upstream.server.close(() => server.listen(world.upstream.port, '127.0.0.1', resolve)))
  const answered = await world.ask({ headers: bearer(await world.seal()) })
  expect(answered.text).toBe(`over h2: Bearer ${'*'.repeat(REAL.length)}`)
  expect(seen).toEqual([`Bearer ${REAL}`, `api.test:${world.upstream.port}`])
})

test('services that change are served from then on', async () => {
  await using world = await openProxyWorld({ service: { allow: ['/old'] } })
  const headers = bearer(await world.seal())
  expect((await world.ask({ path: `${world.base}/new`, headers })).code).toBe('ROUTE')
  const { connectors } = await import('../../proxy/connectors/index.ts')
  const declared = connectors.http.schema.parse({
    kind: 'http',
    name: 'upstream',
    scheme: 'http',
    hosts: [`127.0.0.1:${(world.upstream.server.address() as AddressInfo).port}`],
    addresses: ['127.0.0.1'],
    allow: ['/new'],
    inject: [{ header: { name: 'Authorization', value: 'Bearer {token}' } }],
  })
  await world.proxy.reload([declared])
  expect((await world.ask({ path: `${world.base}/new`, headers })).status).toBe(200)
  expect((await world.ask({ path: `${world.base}/old`, headers })).code).toBe('ROUTE')
  await expect(world.proxy.reload([{ ...declared, ca_file: 'absent.pem' }])).rejects.toThrow()
  expect((await world.ask({ path: `${world.base}/new`, headers })).status).toBe(200)
})
