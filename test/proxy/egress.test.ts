import { createServer } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { describe, expect, onTestFinished, test } from 'vitest'
import { blockListOf, mayDial, parseRange } from '../../proxy/egress/addresses.ts'
import { openDial } from '../../proxy/egress/dial.ts'
import { openUpstreams } from '../../proxy/egress/upstreams.ts'
import { offered } from '../fakes/client_hello.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { bearer, openProxyWorld } from './world.ts'

const guarded = [
  '0.0.0.0',
  '10.1.2.3',
  '100.100.100.200',
  '127.0.0.1',
  '127.255.255.254',
  '168.63.129.16',
  '169.254.169.254',
  '169.254.170.2',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.192',
  '192.88.99.1',
  '192.168.0.1',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '::7f00:1',
  '::ffff:0:169.254.169.254',
  '::ffff:0:a9fe:a9fe',
  '64:ff9b::a9fe:a9fe',
  '64:ff9b::169.254.169.254',
  '64:ff9b:1::1',
  '2001::1',
  '2002:a9fe:a9fe::1',
  'fd00:ec2::254',
  'fd20:ce::254',
  'fe80::1',
  'fec0::1',
  'ff02::1',
]

test.each(guarded)('%s is not dialled', address => expect(mayDial(address, blockListOf([]))).toBe(false))
/** Of each range that is not dialled, the first and the last address, and of what is beside it those that are. */
const edges: readonly (readonly [range: string, first: string, last: string, beside: readonly string[]])[] = [
  ['this network', '0.0.0.0', '0.255.255.255', ['1.0.0.0']],
  ['10/8', '10.0.0.0', '10.255.255.255', ['9.255.255.255', '11.0.0.0']],
  ['100.64/10', '100.64.0.0', '100.127.255.255', ['100.63.255.255', '100.128.0.0']],
  ['loopback', '127.0.0.0', '127.255.255.255', ['126.255.255.255', '128.0.0.0']],
  ['the host of Azure', '168.63.129.16', '168.63.129.16', ['168.63.129.15', '168.63.129.17']],
  ['link-local', '169.254.0.0', '169.254.255.255', ['169.253.255.255', '169.255.0.0']],
  ['172.16/12', '172.16.0.0', '172.31.255.255', ['172.15.255.255', '172.32.0.0']],
  ['192.0.0/24', '192.0.0.0', '192.0.0.255', ['191.255.255.255', '192.0.1.0']],
  ['relays of 6to4', '192.88.99.0', '192.88.99.255', ['192.88.98.255', '192.88.100.0']],
  ['192.168/16', '192.168.0.0', '192.168.255.255', ['192.167.255.255', '192.169.0.0']],
  ['benchmarks', '198.18.0.0', '198.19.255.255', ['198.17.255.255', '198.20.0.0']],
  ['multicast, and what is reserved', '224.0.0.0', '255.255.255.255', ['223.255.255.255']],
  ['the middle of both', '239.255.255.255', '240.0.0.0', []],
  ['IPv4-compatible', '::', '::ffff:ffff', ['::1:0:0']],
  ['IPv4-translated', '::ffff:0:0:0', '::ffff:0:ffff:ffff', ['::fffe:ffff:ffff:ffff', '::ffff:1:0:0']],
  ['NAT64', '64:ff9b::', '64:ff9b::ffff:ffff', ['64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff', '64:ff9b::1:0:0']],
  ['NAT64 of one’s own', '64:ff9b:1::', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff', ['64:ff9b:0:ffff::', '64:ff9b:2::']],
  ['Teredo', '2001::', '2001:0:ffff:ffff:ffff:ffff:ffff:ffff', ['2000:ffff::', '2001:1::']],
  ['6to4', '2002::', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff', ['2001:ffff::', '2003::']],
  ['unique local', 'fc00::', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', ['fbff:ffff::', 'fe00::']],
  ['link-local, and as it once was', 'fe80::', 'feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', ['fe7f:ffff::']],
  ['the middle of both', 'febf:ffff::', 'fec0::', []],
  ['multicast of IPv6', 'ff00::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', []],
]
test.each(edges)('of %s the first and the last are not dialled, what is beside it is', (_, first, last, beside) => {
  const dialled = (address: string) => mayDial(address, blockListOf([]))
  expect([first, last].filter(dialled)).toEqual([])
  expect(beside.filter(dialled)).toEqual(beside)
})
test.each(['93.184.216.34', '2606:2800:220:1::1', '::ffff:93.184.216.34'])('%s is dialled', address =>
  expect(mayDial(address, blockListOf([]))).toBe(true),
)
test.each(['', 'example.com', '1.2.3', '127.1', '2130706433'])('%j is no address', text =>
  expect(mayDial(text, blockListOf([]))).toBe(false),
)

test('what an operator lists is dialled, and nothing beside it', () => {
  const listed = blockListOf(['10.0.0.0/8', '::1'])
  expect(mayDial('10.1.2.3', listed)).toBe(true)
  expect(mayDial('::1', listed)).toBe(true)
  expect(mayDial('192.168.0.1', listed)).toBe(false)
})

const noRanges = ['10.0.0.0/33', 'a/8', '10.0.0.0/', '::/129', '', '!10.0.0.0/8', '10.0.0.0/8 ', '10.0.0.0/8,::1']
test.each(noRanges)('%j is no range', text => {
  expect(parseRange(text)).toBeUndefined()
  expect(() => blockListOf(['127.0.0.1', text])).toThrow('no range of addresses')
})
test.each([
  ['10.0.0.0/16', 16],
  ['10.0.0.1', 32],
  ['fd00::/128', 128],
  ['::1', 128],
])('%s is a range of %i bits', (text, bits) => expect(parseRange(text)?.bits).toBe(bits))

describe('a name', () => {
  const names = (answers: readonly (readonly string[])[]) => {
    const asked: string[] = []
    const resolve = async (host: string) => {
      asked.push(host)
      return answers[Math.min(asked.length, answers.length) - 1] ?? []
    }
    return { asked, resolve }
  }

  test('that leads to a public and to a guarded address is not dialled at all', async () => {
    const { resolve } = names([['127.0.0.1', '93.184.216.34']])
    await using world = await openProxyWorld({ host: 'twofaced.test', resolve, service: { addresses: [] } })
    let connected = 0
    world.upstream.server.on('connection', () => {
      connected += 1
    })
    expect((await world.ask({ headers: bearer(await world.seal()) })).code).toBe('ADDRESS')
    expect(connected).toBe(0)
  })

  test('that leads nowhere is not dialled', async () => {
    await using world = await openProxyWorld({ host: 'nowhere.test', resolve: async () => [], service: { addresses: [] } })
    expect((await world.ask({ headers: bearer(await world.seal()) })).code).toBe('ADDRESS')
  })

  test('that nobody answers for is waited for as long as a connection is', async () => {
    const silent = Promise.withResolvers<string[]>()
    const service = { connect_within_ms: 50 }
    await using world = await openProxyWorld({ host: 'silent.test', resolve: () => silent.promise, service })
    expect(await world.ask({ headers: bearer(await world.seal()) })).toMatchObject({ status: 502, code: 'UPSTREAM' })
    silent.resolve([])
  })

  test('that is an address is asked of nobody', async () => {
    const { asked, resolve } = names([['93.184.216.34']])
    await using world = await openProxyWorld({ resolve })
    expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
    expect(asked).toEqual([])
  })

  test.each([
    [['127.0.0.2', '127.0.0.3', '127.0.0.1'], 200],
    [['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.1'], 502],
  ])('with the addresses %j, of which nobody listens but at the last, is tried three times: %i', async (addresses, status) => {
    await using world = await openProxyWorld({
      host: 'several.test',
      resolve: async () => addresses,
      service: { addresses: ['127.0.0.0/8'] },
    })
    expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(status)
  })

  test('is resolved once for a connection, and that answer is dialled', async () => {
    const { asked, resolve } = names([['127.0.0.1'], ['169.254.169.254']])
    await using world = await openProxyWorld({ host: 'rebound.test', resolve })
    const headers = bearer(await world.seal())
    expect((await world.ask({ headers })).status).toBe(200)
    expect((await world.ask({ headers })).status).toBe(200)
    expect(asked).toEqual(['rebound.test'])
  })

  test('is looked at anew for each new connection', async () => {
    const { asked, resolve } = names([['127.0.0.1'], ['169.254.169.254']])
    await using world = await openProxyWorld({ host: 'rebound.test', resolve })
    world.upstream.answer = (_, outgoing) => void outgoing.setHeader('Connection', 'close').end('fine')
    const headers = bearer(await world.seal())
    expect((await world.ask({ headers })).status).toBe(200)
    expect((await world.ask({ headers })).code).toBe('ADDRESS')
    expect(asked).toHaveLength(2)
  })
})

test.each(['127.0.0.1', '2130706433', '0x7f.1', '017700000001', '127.1', '[::ffff:127.0.0.1]', '[::1]'])(
  'the literal %s takes the same way as a name',
  async literal => {
    const more = [
      {
        kind: 'http',
        name: 'literal',
        scheme: 'http',
        hosts: [`${literal}:8123`],
        inject: [{ header: { name: 'A', value: '{token}' } }],
      },
    ]
    await using world = await openProxyWorld({ more })
    const token = await world.seal({ destinations: [`http://${literal}:8123`] })
    expect((await world.ask({ path: `/_/http:${literal}:8123/`, headers: bearer(token) })).code).toBe('ADDRESS')
  },
)

test('no server chooses the prime of a connection', async () => {
  const dial = openDial({ resolve: async () => [], listed: blockListOf(['127.0.0.1']), timeoutMs: PATIENCE_MS, http2: true })
  const target = { hostname: '127.0.0.1', protocol: 'https:' }
  const { all, dhe } = await offered(
    port => new Promise((_, failed) => dial({ ...target, port: String(port) }, (...args) => failed(args[0]))),
  )
  expect(all).toBeGreaterThan(3)
  expect(dhe).toEqual([])
})

function opened() {
  const options = { resolve: async () => [], listed: blockListOf([]), timeoutMs: 1000, http2: true }
  const upstreams = openUpstreams({ ...options, connections: 1, headWithinMs: 1000, stallMs: 1000 })
  onTestFinished(upstreams.close)
  return upstreams
}

test('connections that are retired take nothing more, nor do those that many others drove out, and all end with the proxy', async () => {
  const upstreams = opened()
  const retired = upstreams.of('a', 'https://one.example')
  upstreams.retire()
  const first = upstreams.of('a', 'https://one.example')
  expect([retired.closed, first.closed, first === retired]).toEqual([true, false, false])
  const others = Array.from({ length: 512 }, (_, tenant) => upstreams.of(`${tenant}`, 'https://one.example'))
  expect([first.closed, others.some(({ closed }) => closed)]).toEqual([true, false])
  await upstreams.close()
  expect(others.every(({ destroyed }) => destroyed)).toBe(true)
})

test('connections are kept apart by tenant, by origin, and by what they become', async () => {
  const upstreams = opened()
  const [one, other] = ['https://one.example:443', 'https://other.example:443']
  const pools = [upstreams.of('a', one), upstreams.of('b', one), upstreams.of('a', other), upstreams.of('a', one, 'upgrade')]
  expect(new Set(pools).size).toBe(4)
  expect([upstreams.of('a', one), upstreams.of('a', one, 'upgrade')]).toEqual([pools[0], pools[3]])
})

test('sockets of one tenant never carry requests of another', async () => {
  await using world = await openProxyWorld()
  const ports = new Set<number | undefined>()
  world.upstream.answer = (incoming, outgoing) => {
    ports.add(incoming.socket.remotePort)
    outgoing.end()
  }
  for (const tenant of ['one', 'two', 'one', 'two'])
    await world.ask({ headers: bearer(await world.seal({ tenant, jti: tenant })) })
  expect(ports.size).toBe(2)
})

test('an upstream server whose certificate is for another name, or from nobody known, gets nothing', async () => {
  await using world = await openProxyWorld({ tls: true, host: 'api.test' })
  const headers = bearer(await world.seal())
  expect((await world.ask({ headers })).status).toBe(200)
  await using stranger = await openProxyWorld({ tls: true, host: 'api.test', service: { ca_file: 'cert.pem' } })
  expect((await stranger.ask({ headers: bearer(await stranger.seal()) })).code).toBe('UPSTREAM')
  expect(stranger.upstream.seen).toEqual([])
})

describe('an upstream server that wants to know who comes', () => {
  /** Takes the place of the one in the world, and says whose certificate it was shown. */
  const asking = async (service: object) => {
    const world = await openProxyWorld({ tls: true, host: 'api.test', service })
    const { cert, key } = await world.ca.issue('api.test')
    const tls = { cert, key, ca: world.ca.ca, requestCert: true, rejectUnauthorized: true }
    const server = createServer(tls, (incoming, outgoing) => {
      world.upstream.seen.push({ method: '', url: '', rawHeaders: [], body: Buffer.alloc(0) })
      outgoing.end((incoming.socket as TLSSocket).getPeerCertificate().subject.CN)
    })
    await new Promise<void>(resolve =>
      world.upstream.server.close(() => server.listen(world.upstream.port, '127.0.0.1', resolve)),
    )
    const ended = async () => {
      server.close().closeAllConnections()
      await world[Symbol.asyncDispose]()
    }
    return { world, [Symbol.asyncDispose]: ended }
  }

  test('is shown the certificate of the service, and not that of the agent', async () => {
    await using asked = await asking({ client_cert_file: 'cert.pem', client_key_file: 'key.pem' })
    const { world } = asked
    const answered = await world.ask({ headers: bearer(await world.seal()) })
    expect(answered).toMatchObject({ status: 200, text: 'proxy.test' })
  })

  test('gets nothing where the service has none', async () => {
    await using asked = await asking({})
    const { world } = asked
    expect((await world.ask({ headers: bearer(await world.seal()) })).code).toBe('UPSTREAM')
    expect(world.upstream.seen).toEqual([])
  })
})
