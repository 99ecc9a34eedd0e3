import type { IncomingMessage } from 'node:http'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openClientAddresses } from '../../../mounts/hosts/client_address.ts'
import { openDoor } from './doors.ts'
import { dial, listenRaw } from './wire.ts'

const incoming = (remoteAddress: string | undefined, said?: string) =>
  ({ socket: { remoteAddress }, headers: said === undefined ? {} : { 'x-forwarded-for': said } }) as unknown as IncomingMessage

const PROXIES = ['10.0.0.1', '10.1.0.0/16', '2001:db8::/32']
const of = (peer: string | undefined, said?: string, trusted: readonly string[] = PROXIES) => {
  const answer = openClientAddresses(trusted)(incoming(peer, said))
  return answer.ok ? answer.address : answer.message
}

describe('whose request it is', () => {
  test.each([
    ['the peer', '192.0.2.7', undefined, '192.0.2.7'],
    ['the peer, whatever it says: nobody trusts it', '192.0.2.7', '198.51.100.1', '192.0.2.7'],
    ['the peer, whatever it says that is no address', '192.0.2.7', 'anything', '192.0.2.7'],
    ['IPv4 at a socket of IPv6', '::ffff:192.0.2.7', undefined, '192.0.2.7'],
    ['an address of IPv6 without its interface', 'fe80::1%eth0', undefined, 'fe80::1'],
    ['a trusted proxy that says nothing: its own', '10.0.0.1', undefined, '10.0.0.1'],
    ['what a trusted proxy says', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['what one in a trusted network says, at a socket of IPv6', '::ffff:10.1.2.3', '198.51.100.1', '198.51.100.1'],
    ['what one says that has an address of IPv6', '2001:db8::5', '2001:db9::1', '2001:db9::1'],
    ['the last of them: what is before it came from the client', '10.0.0.1', '127.0.0.1, 198.51.100.1', '198.51.100.1'],
    ['the last that is none of the proxies', '10.0.0.1', '127.0.0.1, 198.51.100.1, 10.1.9.9', '198.51.100.1'],
    ['the first when all are proxies', '10.0.0.1', '10.1.0.1,10.1.0.2', '10.1.0.1'],
    ['what cannot be read before it does not matter', '10.0.0.1', 'x, 198.51.100.1', '198.51.100.1'],
  ])('%s', (_, peer, said, wanted) => {
    expect(of(peer, said)).toBe(wanted)
  })

  test.each(['', 'somebody', '198.51.100.1:443', '[2001:db9::1]', '198.51.100.1,', '198.51.100.1, 10.1.0.1, _hidden', '1.2.3'])(
    'refused when a trusted proxy says %j',
    said => {
      expect(of('10.0.0.1', said)).toBe('X-Forwarded-For holds something that is no address')
    },
  )

  test('refused when it is not known', () => {
    expect(of(undefined)).toBe('it is not known from where the request comes')
  })

  test('nobody who is not trusted chooses it', () => {
    const strangers = fc.ipV4().filter(peer => !/^10\.(?:0\.0\.1$|1\.)/.test(peer))
    fc.assert(fc.property(strangers, fc.oneof(fc.string(), fc.ipV4()), (peer, said) => of(peer, said) === peer))
  })

  test.each(['proxy.example', '10.0.0.0/99', '10.0.0.0/x', '10.0.0.0/', '', '::1/'])('%j names no proxy', one => {
    expect(() => openClientAddresses([one])).toThrow()
  })
})

describe('what Vault is told', () => {
  /** A door that trusts these, and what its upstream got of one request. */
  async function told(trustedProxies: readonly string[], said: readonly string[]): Promise<string> {
    let seen = ''
    const url = await listenRaw(line => {
      line.socket.on('data', bytes => {
        seen += bytes.toString('latin1')
        if (seen.endsWith('\r\n\r\n')) line.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK')
      })
    })
    const door = await openDoor({ trustedProxies, upstream: { url } })
    const line = await dial(door.url)
    const headers = said.map(one => `X-Forwarded-For: ${one}\r\n`).join('')
    line.write(`GET /v1/a HTTP/1.1\r\nHost: door\r\nConnection: close\r\n${headers}\r\n`)
    const reply = await line.closed
    const lines = seen.split('\r\n').filter(header => /forwarded/i.test(header))
    return reply.startsWith('HTTP/1.1 200') ? lines.join() : reply.slice(0, 12)
  }

  test.each([
    ['who is connected', [], [], 'X-Forwarded-For: 127.0.0.1'],
    ['who is connected, not what they say', [], ['192.0.2.1'], 'X-Forwarded-For: 127.0.0.1'],
    ['what a trusted proxy says', ['127.0.0.1'], ['192.0.2.1'], 'X-Forwarded-For: 192.0.2.1'],
    ['the last, of several headers too', ['127.0.0.1'], ['192.0.2.1', '192.0.2.2'], 'X-Forwarded-For: 192.0.2.2'],
    ['nothing, when a trusted proxy says what is no address', ['127.0.0.1'], ['me'], 'HTTP/1.1 400'],
  ] as const)('%s', async (_, trusted, said, wanted) => {
    expect(await told(trusted, said)).toBe(wanted)
  })
})
