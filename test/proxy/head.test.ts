import { describe, expect, test } from 'vitest'
import { onward, type Pinned, type RawHeaders, readHead, twiceIn } from '../../proxy/http/head.ts'

const place = { scheme: 'https', host: 'api.example.com', port: 443 }
const HOST = ['Host', 'a']
const BASE = '/_/api.example.com/v1'

const asked = (rawHeaders: RawHeaders, { target = BASE, httpVersion = '1.1', pinned = undefined as Pinned | undefined } = {}) =>
  readHead({ method: 'GET', target, httpVersion, rawHeaders }, pinned)
const codeOf = (...of: Parameters<typeof asked>) => {
  const read = asked(...of)
  return read.ok ? 'OK' : read.code
}
const headOf = (rawHeaders: RawHeaders) => {
  const read = asked([...HOST, ...rawHeaders])
  if (!read.ok) throw new Error(read.detail)
  return read.value
}
/** Names of what goes on. */
const going = (rawHeaders: RawHeaders, slots: readonly string[] = []) =>
  onward(headOf(rawHeaders), new Set(slots)).filter((_, at) => at % 2 === 0)

describe('the head of a request', () => {
  test.each([
    'Host',
    'Content-Length',
    'Content-Type',
    'Content-Encoding',
    'Transfer-Encoding',
    'Expect',
    'Upgrade',
    'Authorization',
    'Proxy-Authorization',
    'X-Api-Key',
    'X-Amz-Security-Token',
    'X-Amz-Date',
    'X-Amz-Content-Sha256',
    'Assay-Token',
    'Assay-Destination',
  ])('has one %s', name => {
    expect(codeOf([...HOST, name, 'a', name.toLowerCase(), 'a'])).toBe('HEADER_TWICE')
  })

  test('may have others more than once', () => {
    expect(going(['Accept', 'a', 'accept', 'b', 'Cookie', 'c', 'Cookie', 'd'])).toEqual(['Accept', 'accept', 'Cookie', 'Cookie'])
  })

  test('has 128 headers at most', () => {
    const so = (many: number) => [...HOST, ...Array.from({ length: many - 1 }, (_, at) => [`X-${at}`, 'a']).flat()]
    expect([codeOf(so(128)), codeOf(so(129))]).toEqual(['OK', 'HEAD_TOO_LARGE'])
  })

  test.each([
    ['0.9', 'REQUEST_FORM'],
    ['1.0', 'OK'],
    ['1.1', 'OK'],
    ['2.0', 'REQUEST_FORM'],
  ])('of HTTP/%s: %s', (httpVersion, code) => {
    expect(codeOf(HOST, { httpVersion })).toBe(code)
  })
})

describe('where it goes', () => {
  const said = (destination: string) => codeOf([...HOST, 'Assay-Destination', destination], { target: '/v1' })

  test.each([
    ['https://api.example.com', 'OK'],
    ['https://api.example.com/', 'OK'],
    ['https://api.example.com/v1', 'DESTINATION_UNCLEAR'],
    ['https://api.example.com?a', 'DESTINATION_UNCLEAR'],
    ['https://api.example.com/?a', 'DESTINATION_UNCLEAR'],
    ['ftp://api.example.com', 'DESTINATION_UNCLEAR'],
    ['api.example.com', 'DESTINATION_UNCLEAR'],
  ])('the header says %s: %s', (destination, code) => {
    expect(said(destination)).toBe(code)
  })

  test.each([
    ['nobody', [], '/v1'],
    ['a header and the base path', ['Assay-Destination', 'https://api.example.com'], BASE],
    ['a header and the absolute form', ['Assay-Destination', 'https://a'], 'https://a/v1'],
    ['the base path, of no host', [], '/_/'],
    ['the absolute form, of no host', [], 'https:///v1'],
  ])('%s says so: it is not clear', (_, headers, target) => {
    expect(codeOf([...HOST, ...headers], { target })).toBe('DESTINATION_UNCLEAR')
  })

  test('a host without a port has that of its scheme, whatever it had before', () => {
    const portAt = (target: string) => {
      const read = asked(HOST, { target })
      return read.ok && read.value.destination.port
    }
    expect(['/_/one.example/', '/_/http:one.example/', '/_/one.example/'].map(portAt)).toEqual([443, 80, 443])
  })

  test.each([
    ['to its own host it goes', ['Host', 'api.example.com'], '/v1', 'OK'],
    ['to its own host and port it goes', ['Host', 'API.example.com:443'], '/v1', 'OK'],
    ['to another port it does not', ['Host', 'api.example.com:8443'], '/v1', 'HOST_MISMATCH'],
    ['to another host it does not', ['Host', 'evil.example'], '/v1', 'HOST_MISMATCH'],
    ['to no host it does not', ['Host', ''], '/v1', 'HOST_MISMATCH'],
    ['in absolute form it does not', ['Host', 'api.example.com'], 'https://api.example.com/v1', 'DESTINATION_UNCLEAR'],
    [
      'with a header of its own it does not',
      ['Host', 'api.example.com', 'Assay-Destination', 'https://api.example.com'],
      '/v1',
      'DESTINATION_UNCLEAR',
    ],
  ] as const)('in a tunnel, %s', (_, headers, target, code) => {
    expect(codeOf(headers, { target, pinned: place })).toBe(code)
  })
})

describe('what goes on', () => {
  test.each([
    'Connection',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Upgrade',
    'HTTP2-Settings',
    'Host',
    'Expect',
    'Accept-Encoding',
    'Forwarded',
    'Via',
    'X-Real-IP',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'Proxy-Authorization',
    'Proxy-Connection',
    'Assay-Token',
    'Assay-Anything',
    'X-Broker-Anything',
    'X-Vault-Token',
    'X-HTTP-Method',
    'X-HTTP-Method-Override',
    'X-Method-Override',
    'X-Original-URL',
    'X-Rewrite-URL',
    'Script-Name',
    'X-Script-Name',
    'Path-Info',
  ])('is not %s, nor its twin with underscores', name => {
    const twin = name.replaceAll('-', '_')
    const own = name === 'Host' ? [] : [name, 'a']
    expect(going([...own, ...(twin === name ? [] : [twin, 'a'])])).toEqual([])
  })

  test('is neither Transfer-Encoding, as the body is framed anew', () => {
    expect(going(['Transfer-Encoding', 'chunked', 'Transfer_Encoding', 'chunked'])).toEqual([])
  })

  test('is what only begins or ends like one of these', () => {
    const kept = ['Expected', 'Via-Somebody', 'X-Via', 'My-Forwarded', 'X-Vault', 'Content-Type', 'Accept', 'Cookie', 'Hosts']
    expect(going(kept.flatMap(name => [name, 'a']))).toEqual(kept)
  })

  test('is not what any Connection names, however it is written, but for what says what the body is', () => {
    const named = ['Connection', 'X-One , x-TWO', 'connection', ' X-Three,content-type,content-length']
    const others = ['X-One', 'a', 'x-two', 'a', 'X-THREE', 'a', 'Content-Type', 'a', 'Content-Length', '0', 'X-Four', 'a']
    expect(going([...named, ...others])).toEqual(['Content-Type', 'Content-Length', 'X-Four'])
  })

  test('is not what the proxy puts in, in whatever spelling', () => {
    expect(going(['X-Key', 'a', 'x_key', 'b', 'X_KEY', 'c', 'X-Keys', 'd'], ['x-key'])).toEqual(['X-Keys'])
  })
})

test.each([
  [['X-Key', 'X-Key'], 'x-key'],
  [['X-Key', 'x-KEY'], 'x-key'],
  [['X_Key', 'x_key'], 'x_key'],
  [['X-Key', 'X_Key'], undefined],
  [['X-Key', 'X-Other', 'X-Other'], undefined],
])('of %j, %s is there twice', (names, twice) => {
  expect(twiceIn(headOf(names.flatMap(name => [name, 'a'])), new Set(['x-key']))).toBe(twice)
})
