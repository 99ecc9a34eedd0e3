import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { connect as tlsConnect } from 'node:tls'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { until } from '../harness/process.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { ed25519 } from './ssh_parts.ts'
import { bearer, client, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// The proxy's own certificate and the authority of its agents are replaced while it serves.

let world: ProxyWorld
beforeEach(async () => {
  const ssh = { kind: 'ssh', name: 'ssh', listen: { port: 0 }, server: '127.0.0.1:1', host_keys: [ed25519().line] }
  world = await openProxyWorld({ clientCa: true, more: [ssh] })
})
afterEach(() => world[Symbol.asyncDispose]())

async function renewed(): Promise<string> {
  const { cert, key, sha256 } = await world.ca.issue('proxy.test')
  await Promise.all([world.write('cert.pem', cert), world.write('key.pem', key)])
  return sha256
}

async function shown(port = world.port): Promise<string> {
  const socket = tlsConnect({ ...world.dial, port })
  await once(socket, 'secureConnect')
  const { fingerprint256 } = socket.getPeerCertificate()
  socket.on('error', () => undefined).destroy()
  return fingerprint256.replaceAll(':', '').toLowerCase()
}

test('at every port new connections see the new certificate', async () => {
  const ports = [world.port, world.proxy.ports()['ssh']]
  const sha256 = await renewed()
  for (const port of ports) expect(await shown(port)).not.toBe(sha256)
  await world.proxy.renewTls()
  for (const port of ports) expect(await shown(port)).toBe(sha256)
})

test('operators see when the certificates end that are shown and believed now', async () => {
  const ends = async () => {
    const told = [...(await world.metrics.text()).matchAll(/^assay_certificate_end_timestamp_seconds\{setting="(.*)"\} (\d+)$/gm)]
    return Object.fromEntries(told.map(([, setting, at]) => [setting, Number(at)]))
  }
  const endOf = (pem: string) => new X509Certificate(pem).validToDate.getTime() / 1000
  const authority = endOf(world.ca.ca)
  const { cert, key } = await world.ca.issue('proxy.test', 2)
  expect(await ends()).toEqual({ 'listen.cert_file': expect.any(Number) as number, 'listen.client_ca_file': authority })
  await Promise.all([world.write('cert.pem', cert), world.write('key.pem', key)])
  expect(await ends()).not.toHaveProperty('listen.cert_file', endOf(cert))
  await world.proxy.renewTls()
  expect(await ends()).toEqual({ 'listen.cert_file': endOf(cert), 'listen.client_ca_file': authority })
})

test('nobody is cut off where nothing is new', async () => {
  const socket = await world.connect()
  onTestFinished(() => void socket.destroy())
  await world.proxy.renewTls()
  const head = `GET ${world.base}/a HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
  expect(await exchangeRaw(socket, head, said => said.endsWith('fine'))).toContain(' 200 ')
})

test('a file that cannot be used changes nothing, and the setting is named', async () => {
  const before = await shown()
  await renewed()
  await world.write('key.pem', (await world.ca.issue('another')).key)
  await expect(world.proxy.renewTls()).rejects.toThrow(/^listen: the certificate and its key have to .* belong together$/)
  await renewed()
  await world.write('ca.pem', '')
  await expect(world.proxy.renewTls()).rejects.toThrow(/^listen\.client_ca_file: wanted certificates in PEM$/)
  expect(await shown()).toBe(before)
})

test('who was let in by an authority of before is let in no more, and asks nothing more where it is connected', async () => {
  const idle = await world.connect()
  const closed = once(
    idle.on('error', () => undefined),
    'close',
  )
  const busy = await world.connect()
  const asked = Promise.withResolvers<() => void>()
  world.upstream.answer = (_, outgoing) => asked.resolve(() => outgoing.end('fine'))
  const head = `GET ${world.base}/a HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer ${await world.seal()}\r\n\r\n`
  const answered = exchangeRaw(busy, head)
  const answer = await asked.promise
  const next = await newAuthority('next')
  await world.write('ca.pem', next.ca)
  await world.proxy.renewTls()
  await closed
  answer()
  // the answer that was due comes whole, and then the connection ends
  expect(await answered).toMatch(/^HTTP\/1\.1 200 [\s\S]*Connection: close[\s\S]*fine/i)
  await expect(world.ask({ headers: bearer(await world.seal()) })).rejects.toThrow()
  const known = await client(next, 'agent')
  const token = await world.seal({ x5tS256: known.x5tS256 })
  world.upstream.answer = (_, outgoing) => void outgoing.end('fine')
  expect(await world.ask({ headers: bearer(token), as: known })).toMatchObject({ status: 200 })
})

test('what is in a tunnel ends with it', async () => {
  await using tunnelled = await openProxyWorld({ tls: true, host: 'api.test', intercept: true })
  const socket = await tunnelled.connect()
  onTestFinished(() => void socket.destroy())
  const connect = `CONNECT api.test:${tunnelled.upstream.port} HTTP/1.1\r\nHost: api.test\r\n\r\n`
  expect(await exchangeRaw(socket, connect, said => said.endsWith('\r\n\r\n'))).toContain(' 200 ')
  const inner = tlsConnect({ socket, ca: tunnelled.ca.ca, servername: 'api.test' })
  await once(inner, 'secureConnect')
  const ended = Promise.race([
    once(inner, 'close'),
    once(
      inner.on('error', () => undefined),
      'end',
    ),
  ])
  const { cert, key } = await tunnelled.ca.issue('proxy.test')
  await Promise.all([tunnelled.write('cert.pem', cert), tunnelled.write('key.pem', key)])
  await tunnelled.proxy.renewTls()
  await ended
  await until('nobody to be there', async () => /assay_proxy_connections 0\n/.test(await tunnelled.metrics.text()))
})
