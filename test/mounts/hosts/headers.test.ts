import type { IncomingMessage } from 'node:http'
import { describe, expect, test } from 'vitest'
import { faultInHead, fromVault, isRootNamespace, type RawHeaders, toVault } from '../../../mounts/hosts/headers.ts'

const namesOf = (headers: RawHeaders) => headers.filter((_, at) => at % 2 === 0)
/** Names of what goes on to Vault beside what is said anew. */
const going = (raw: RawHeaders, strip: readonly string[] = []) =>
  namesOf(toVault(raw, 'vault.example:8200', '192.0.2.1', new Set(strip))).slice(2)
const coming = (raw: RawHeaders) => namesOf(fromVault(raw, 'https://vault.example:8200'))

const HOP = [
  'Connection',
  'Keep-Alive',
  'Proxy-Connection',
  'Proxy-Authenticate',
  'Proxy-Authorization',
  'TE',
  'Trailer',
  'Transfer-Encoding',
  'Upgrade',
  'HTTP2-Settings',
]
/** `Connection` names these in vain. */
const END_TO_END = [
  'X-Vault-Token',
  'X-Vault-Namespace',
  'X-Vault-Anything',
  'Authorization',
  'Content-Type',
  'Content-Encoding',
  'Cookie',
  'Date',
  'Location',
]

describe('what goes on to Vault', () => {
  test('is told whose it is, and where it goes', () => {
    const said = ['Host', 'vault.example:8200', 'X-Forwarded-For', '192.0.2.1', 'Accept', 'a']
    expect(toVault(['Host', 'door.example', 'Accept', 'a'], 'vault.example:8200', '192.0.2.1', new Set())).toEqual(said)
  })

  test.each([...HOP, 'Host', 'Content-Length', 'Expect'])('is not %s', name => {
    expect(going([name, 'a', 'X-Kept', 'b'])).toEqual(['X-Kept'])
  })

  test.each([
    'Forwarded',
    'X-Forwarded-For',
    'X-Real-IP',
    'SSL-Client-Cert',
    'SSL-Anything',
    'X-SSL-Cert',
    'Client-Cert',
    'Client-Cert-Chain',
    'ClientCert',
    'X-ClientCert',
    'X-Client-Cert',
    'X-Client-Chain',
    'X-ClientChain',
    'X-Forwarded-Client-Cert',
    'X-Forwarded-Tls-Client-Cert',
    'X-Amzn-Mtls-Clientcert-Leaf',
  ])('is nothing that Vault might believe: %s, nor with underscores', name => {
    expect(going([name, 'a', name.toUpperCase().replaceAll('-', '_'), 'b', 'X-Kept', 'c'])).toEqual(['X-Kept'])
  })

  test('is nothing that the settings name, nor with underscores', () => {
    expect(going(['X-Ours', 'a', 'x_OURS', 'b', 'X-Ours-2', 'c'], ['x-ours'])).toEqual(['X-Ours-2'])
  })

  test('is what only looks like one of these', () => {
    const kept = ['X-Forwarded-Proto', 'X-Forwarded', 'X-Real', 'Client-ID', 'My-SSL-Cert', 'Expected', 'Connections', 'Hosts']
    expect(going(kept.flatMap(name => [name, 'a']))).toEqual(kept)
  })

  test('is not what any Connection names, but for what decides what a request means', () => {
    const named = ['Connection', `X-One , x-TWO,${END_TO_END.join()}`, 'connection', 'X-Three']
    const others = ['X-One', 'X-Two', 'x-three', 'X-Four', ...END_TO_END].flatMap(name => [name, 'a'])
    expect(going([...named, ...others])).toEqual(['X-Four', ...END_TO_END])
  })
})

describe('what comes back from Vault', () => {
  test.each(HOP)('is not %s', name => {
    expect(coming([name, 'a', 'X-Kept', 'b'])).toEqual(['X-Kept'])
  })

  test('is not what any Connection names, but for what decides what a reply means', () => {
    const named = ['Connection', `X-One,${END_TO_END.join()}`, 'connection', 'X-Two']
    const others = ['X-One', 'X-Two', 'X-Three', ...END_TO_END].flatMap(name => [name, 'a'])
    expect(coming([...named, ...others])).toEqual(['X-Three', ...END_TO_END])
  })
})

describe('the head of a request', () => {
  const faultOf = (rawHeaders: RawHeaders, httpVersion = '1.1') => {
    const headers = Object.fromEntries(namesOf(rawHeaders).map((name, at) => [name.toLowerCase(), rawHeaders[at * 2 + 1]]))
    return faultInHead({ rawHeaders, headers, httpVersion } as unknown as IncomingMessage)
  }

  test.each([
    'Host',
    'Content-Length',
    'Transfer-Encoding',
    'Expect',
    'Authorization',
    'X-Vault-Token',
    'X-Vault-Namespace',
    'X-Vault-Wrap-TTL',
  ])('has one %s', name => {
    const message = `the request has more than one ${name.toLowerCase()} header`
    expect(faultOf(['Host', 'a', name, 'a', name.toLowerCase(), 'a'])).toEqual({ status: 400, message })
  })

  test('has 128 headers at most', () => {
    const so = (many: number) => ['Host', 'a', ...Array.from({ length: many - 1 }, (_, at) => [`X-${at}`, 'a']).flat()]
    expect(faultOf(so(128))).toBeUndefined()
    expect(faultOf(so(129))).toMatchObject({ status: 431 })
  })

  test('of HTTP/1.0 needs no Host, and has no chunks', () => {
    expect(faultOf([], '1.0')).toBeUndefined()
    expect(faultOf([])).toMatchObject({ status: 400 })
    expect(faultOf(['Transfer-Encoding', 'chunked'], '1.0')).toMatchObject({ status: 400 })
    expect(faultOf(['Host', 'a', 'Transfer-Encoding', 'Chunked'])).toBeUndefined()
    expect(faultOf(['Host', 'a', 'Transfer-Encoding', 'chunked', 'Content-Length', '1'])).toMatchObject({ status: 400 })
  })
})

test.each([
  [undefined, true],
  ['', true],
  ['/', true],
  ['root', true],
  ['/root/', true],
  ['team', false],
  ['root/team', false],
  ['Root', false],
])('the namespace %j is that of the root: %s', (namespace, isRoot) => {
  expect(isRootNamespace(namespace === undefined ? {} : { 'x-vault-namespace': namespace })).toBe(isRoot)
})
