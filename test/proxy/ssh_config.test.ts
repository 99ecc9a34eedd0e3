import { expect, test } from 'vitest'
import { readConfig } from '../../proxy/config.ts'
import { certify, ed25519 } from './ssh_parts.ts'

const host = ed25519()
const GOOD = `listen:
  cert_file: cert.pem
  key_file: key.pem
vault:
  address: http://127.0.0.1:8200
audit:
  file: audit.jsonl
services:
  - kind: ssh
    name: hosts
    listen: { port: 2222 }
    server: build.example.com
    users: [deploy]
    host_keys: ['${host.line} of the host']
`

test('what is left out has a value', () => {
  const read = readConfig(GOOD)
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  const [service] = read.config.services
  expect(service).toMatchObject({ extensions: ['permit-pty'], addresses: [], start_within_ms: 10_000, watch_ms: 1_000 })
})

test('an authority will do in place of a key', () => {
  expect(readConfig(GOOD.replace('host_keys', 'host_authorities')).ok).toBe(true)
})

const KEY = `['${host.line} of the host']`
const cases: readonly (readonly [string, string, string, number, RegExp])[] = [
  ['no key and no authority', KEY, '[]', 14, /host_keys: wanted host_keys, host_authorities or both/],
  ['a key that is none', KEY, '[ssh-ed25519 AAAA]', 14, /host_keys\.0: wanted a public key as OpenSSH writes it/],
  ['a kind that the key is not', host.line, host.line.replace('ssh-ed25519', 'ssh-rsa'), 14, /host_keys\.0: wanted a public key/],
  ['a certificate in place of a key', host.line, certify(host, host, { type: 2 }).line, 14, /host_keys\.0: wanted a public key/],
  ['a pattern of servers', 'build.example.com', '"*.example.com"', 12, /server: wanted a host or host:port/],
  ['a user that reads as a path', '[deploy]', '["a/b"]', 13, /users\.0: wanted the name of a user/],
  ['a misspelt setting', 'users:', 'user:', 13, /services\.0\.user: there is no such setting/],
  ['no port', 'listen: { port: 2222 }', 'listen: { port: 70000 }', 11, /listen\.port/],
  ['time without an end', 'users:', 'start_within_ms: 0\n    users:', 13, /start_within_ms/],
]

test.each(cases)('%s is found, with its line', (_, from, to, line, message) => {
  expect(GOOD).toContain(from)
  const read = readConfig(GOOD.replace(from, to))
  if (read.ok) throw new Error('it was taken')
  expect(read.problems[0]).toMatchObject({ line, column: expect.any(Number), message: expect.stringMatching(message) })
})
