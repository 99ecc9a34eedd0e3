import { X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type Server,
  type TLSSocket,
  connect as tlsConnect,
} from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chainOf } from '../../agent/chain.ts'
import { carriedToken } from '../../proxy/tls/carried.ts'
import { holderOf } from '../../proxy/tls/holder.ts'
import { type Authority, newAuthority, type Pair } from '../mounts/hosts/certificates.ts'

// What is read of what a client shows in its handshake.

const TOKEN = 'eyJh.eyJi.c-_c'
let ca: Authority
let pair: Pair
let server: Server
let read: (socket: TLSSocket) => void
beforeAll(async () => {
  ca = await newAuthority('agents')
  pair = await ca.issue('agent')
  server = createServer({ ...pair, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3' }, socket => {
    socket.on('error', () => socket.destroy())
    read(socket)
    socket.end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
afterAll(() => void server.close())

/** Connects with this chain; what the server reads of it. */
function shown<T>(chain: string | SecureContext, look: (socket: TLSSocket) => T): Promise<T> {
  const secureContext = typeof chain === 'string' ? createSecureContext({ cert: chain, key: pair.key }) : chain
  return new Promise((resolve, reject) => {
    let found: T
    read = socket => {
      found = look(socket)
    }
    const { port } = server.address() as AddressInfo
    const socket = tlsConnect({ port, host: '127.0.0.1', secureContext, rejectUnauthorized: false }).resume()
    socket.once('close', () => resolve(found)).once('error', reject)
  })
}

const carrying = (pem: string, token = TOKEN) =>
  chainOf(
    [new X509Certificate(pem).raw],
    { token, expiresInSeconds: 600 },
    { now: Date.now, random: size => Buffer.alloc(size, 5) },
  )

describe('a token behind the certificate', () => {
  test('is read, beside who it is that shows it', async () => {
    const [alone, chained] = [pair.cert, await carrying(pair.cert)]
    const both = (socket: TLSSocket) => ({ token: carriedToken(socket), holder: holderOf(socket)?.holder })
    const { token, holder } = await shown(chained, both)
    expect(token).toBe(TOKEN)
    expect(await shown(alone, both)).toEqual({ token: undefined, holder })
  })

  test('is none when there are two, and when it has no form of one', async () => {
    const chained = await carrying(pair.cert)
    const second = (await carrying(chained.slice(chained.lastIndexOf('-----BEGIN')), 'eyJo.eyJp.dGhlcg')).split(
      /(?=-----BEGIN)/,
    )[1]
    expect(await shown(`${chained}${second}`, carriedToken)).toBeUndefined()
    expect(await shown(await carrying(pair.cert, 'not/a token'), carriedToken)).toBeUndefined()
  })
})

test('what a client shows beside its certificate is not kept', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heavy = await carrying(pair.cert, 'x'.repeat(16_000))
  const chain = heavy + heavy.slice(heavy.lastIndexOf('-----BEGIN')).repeat(3)
  const context = createSecureContext({ cert: chain, key: pair.key })
  const visit = async (times: number) => {
    for (let at = 0; at < times; at++) expect(await shown(context, holderOf)).toBeDefined()
    collect()
    return process.memoryUsage().rss
  }
  const before = await visit(50)
  // 64 kB each: kept, they would be more than 19 MB
  expect((await visit(300)) - before).toBeLessThan(12 * 2 ** 20)
}, 60_000)
