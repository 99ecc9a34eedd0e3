import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { chainOf } from '../../agent/chain.ts'
import { carriedToken, openCarried } from '../../proxy/tls/carried.ts'
import { holderOf, isInForce } from '../../proxy/tls/holder.ts'
import { run } from '../harness/process.ts'
import { type Authority, newAuthority, type Pair } from '../mounts/hosts/certificates.ts'
import { openProxyWorld } from './world.ts'

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

/** A certificate over a key of this kind that is named like who issued that of the agent, as openssl makes it; and its key. */
async function ofKind(subject: string, kind: string, option: string): Promise<Pair> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-holder-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const files = ['-keyout', key, '-out', cert, '-days', '1', '-subj', subject]
  const made = await run('openssl', ['req', '-x509', '-newkey', kind, '-pkeyopt', option, '-nodes', ...files])
  if (made.code !== 0) throw new Error(made.stderr)
  return { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') }
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

  test('beside a key of a curve without a name of NIST: that is looked at, too, and nothing ends', async () => {
    const { cert: unusual } = await ofKind('/CN=agents', 'ec', 'ec_paramgen_curve:secp256k1')
    expect(await shown(`${pair.cert}\n${unusual}`, carriedToken)).toBeUndefined()
    expect(await shown(`${await carrying(pair.cert)}\n${unusual}`, carriedToken)).toBe(TOKEN)
  })

  test('is not read any more once as much of what was shown is kept as may be', async () => {
    const read = openCarried(10_000)
    const chained = await carrying(pair.cert)
    expect(await shown(chained, read)).toBe(TOKEN)
    expect(await shown(chained, read)).toBe(TOKEN)
    expect(await shown(chained, read)).toBeUndefined()
    expect(await shown(chained, carriedToken)).toBe(TOKEN)
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
})

test.each([
  ['RSA-PSS', 'rsa-pss', 'rsa_keygen_bits:2048'],
  ['a curve that is none of NIST’s', 'ec', 'ec_paramgen_curve:brainpoolP256r1'],
])('a certificate over a key of %s lets nobody in, and ends nothing', async (_, kind, option) => {
  await using world = await openProxyWorld()
  const pair = await ofKind('/CN=anybody', kind, option)
  expect((await world.ask({ as: { ...world.agent, ...pair } })).code).toBe('NO_CERTIFICATE')
  expect((await world.ask({ headers: { Authorization: `Bearer ${await world.seal()}` } })).status).toBe(200)
})

test.each([
  [999, false],
  [1000, true],
  [2000, true],
  [2001, false],
])('a certificate from 1000 to 2000 is in force at %i: %s', (now, inForce) => {
  expect(isInForce({ holder: { x5tS256: '', jkt: '' }, from: 1000, until: 2000 }, now)).toBe(inForce)
})
