import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../../engine/config.ts'
import { BrokerError } from '../../engine/errors.ts'

const least = {
  vault: { address: 'https://vault.example:8200', approle: { role_id: 'role', secret_id_file: '/etc/assay/secret-id' } },
  listen: {},
  audit: { file: '/var/log/assay/audit.jsonl' },
}
const tls = { cert_file: '/etc/assay/tls.crt', key_file: '/etc/assay/tls.key' }

test('the least that a configuration holds, and what is filled in', () => {
  expect(readConfig(least)).toEqual({
    vault: {
      ...least.vault,
      approle: { mount: 'approle', ...least.vault.approle },
      deadline_ms: 2000,
      answer_within_ms: 95_000,
      believed_headers: [],
    },
    listen: { host: '127.0.0.1', port: 8210, trusted_proxies: [], connections: 4096, connections_per_peer: 1024 },
    audit: { ...least.audit, deadline_ms: 1000 },
    places: { transit: 'transit', kv: 'assay' },
    sealing: 'datakey',
    log_level: 'info',
    drain_seconds: 0,
    shutdown_seconds: 10,
  })
})

test('everything that it may hold', () => {
  const all = {
    vault: {
      ...least.vault,
      address: 'https://vault.example:8200//',
      ca_file: '/ca.pem',
      deadline_ms: 500,
      answer_within_ms: 600_000,
      believed_headers: ['X-Peer'],
    },
    listen: {
      host: '0.0.0.0',
      port: 0,
      url: 'https://assay.example/',
      connections_per_peer: 4096,
      trusted_proxies: ['192.0.2.1', '10.1.0.0/16', '2001:db8::/32'],
      tls: { ...tls, client_ca_file: '/ca.pem', min_version: 'TLSv1.2' },
    },
    audit: { ...least.audit, deadline_ms: 5000 },
    places: { transit: 'keys', kv: 'state' },
    log_level: 'debug',
    shutdown_seconds: 0,
  }
  expect(readConfig(all)).toMatchObject({
    vault: { address: 'https://vault.example:8200', deadline_ms: 500, answer_within_ms: 600_000, believed_headers: ['X-Peer'] },
    listen: {
      url: 'https://assay.example',
      connections_per_peer: 4096,
      trusted_proxies: ['192.0.2.1', '10.1.0.0/16', '2001:db8::/32'],
      tls: { min_version: 'TLSv1.2' },
    },
    audit: { deadline_ms: 5000 },
    places: { transit: 'keys', kv: 'state' },
  })
})

const refused: readonly (readonly [string, object, string])[] = [
  ['a misspelt member', { vualt: {} }, 'vualt: there is no such setting'],
  ['a misspelt member within', { audit: { file: '/a', fiel: '/b' } }, 'audit.fiel: there is no such setting'],
  ['no audit log', { audit: undefined }, 'audit:'],
  ['an audit log without a name', { audit: { file: '' } }, 'audit.file:'],
  ['an audit log that waits for the disk for minutes', { audit: { ...least.audit, deadline_ms: 600_000 } }, 'audit.deadline_ms:'],
  ['no AppRole', { vault: { address: least.vault.address } }, 'vault.approle:'],
  ['an address without a scheme', { vault: { ...least.vault, address: 'vault.example:8200' } }, 'vault.address:'],
  ['an address of another scheme', { vault: { ...least.vault, address: 'file:///etc' } }, 'vault.address:'],
  ['a deadline of minutes', { vault: { ...least.vault, deadline_ms: 600_000 } }, 'vault.deadline_ms:'],
  ['a header that is none', { vault: { ...least.vault, believed_headers: ['X-A: b'] } }, 'vault.believed_headers.0:'],
  ['no deadline at all', { vault: { ...least.vault, deadline_ms: 0 } }, 'vault.deadline_ms:'],
  ['a port that is none', { listen: { port: 65_536 } }, 'listen.port:'],
  ['a proxy by its name', { listen: { trusted_proxies: ['proxy.example'] } }, 'listen.trusted_proxies.0:'],
  ['a network of more bits than there are', { listen: { trusted_proxies: ['10.0.0.0/33'] } }, 'listen.trusted_proxies.0:'],
  [
    'a network by an address in it',
    { listen: { trusted_proxies: ['10.1.2.3/8'] } },
    'listen.trusted_proxies.0: wanted an address,',
  ],
  ['no connection at all', { listen: { connections_per_peer: 0 } }, 'listen.connections_per_peer:'],
  ['TLS without a key', { listen: { tls: { cert_file: '/c' } } }, 'listen.tls.key_file:'],
  ['TLS 1.1', { listen: { tls: { ...tls, min_version: 'TLSv1.1' } } }, 'listen.tls.min_version:'],
  ['a mount that is a path', { places: { kv: 'a/b' } }, 'places.kv: wanted lower-case letters'],
  ['a level that is none', { log_level: 'loud' }, 'log_level:'],
]
test.each(refused)('%s is refused, by its place', (_, change, sentence) => {
  const read = () => readConfig({ ...least, ...change })
  expect(read).toThrow(BrokerError)
  expect(read).toThrow(sentence)
})

describe('without TLS', () => {
  const listening =
    (host: string, more = {}) =>
    () =>
      readConfig({ ...least, listen: { host, ...more } })

  test.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost'])('it listens on %s', host => {
    expect(listening(host)).not.toThrow()
  })

  test.each([
    '0.0.0.0',
    '::',
    '10.0.0.1',
    'assay.example',
    '127.evil.example',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
  ])('it does not listen on %s', host => {
    expect(listening(host)).toThrow('listen.tls: wanted for every address but a loopback one')
    expect(listening(host, { tls })).not.toThrow()
  })
})

test('whatever is read is a configuration, or refused without a word of it', () => {
  fc.assert(
    fc.property(fc.anything(), value => {
      try {
        readConfig(value)
      } catch (error) {
        expect(error).toBeInstanceOf(BrokerError)
        expect((error as BrokerError).code).toBe('bad_request')
      }
    }),
  )
  const marked = { vault: 'Zx9', listen: ['Zx9'], audit: { file: 7 }, log_level: 'Zx9', shutdown_seconds: 'Zx9' }
  expect(() => readConfig(marked)).toThrow(/^(?!.*Zx9)/)
})
