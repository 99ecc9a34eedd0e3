import { describe, expect, test } from 'vitest'
import { filterHead } from '../../proxy/http/answers.ts'
import type { Authority } from '../../proxy/http/head.ts'
import type { HttpService, Services } from '../../proxy/http/service.ts'

const destination = { scheme: 'https', host: 'api.example.com', port: 443, method: 'GET', path: '/v1/items' }
/** One more service is declared, over TLS. */
const services: Services = {
  find: ({ host, port }: Authority) =>
    host === 'files.example.com' && port === 443 ? ({ scheme: 'https' } as HttpService) : undefined,
}
const filtered = (raw: readonly string[]) =>
  filterHead(raw, { destination, prefix: '/_/api.example.com', services, scrubber: undefined })

describe('of an answer', () => {
  test.each([
    'Connection',
    'Keep-Alive',
    'Proxy-Authenticate',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Set-Cookie',
    'Set-Cookie2',
    'WWW-Authenticate',
    'Authentication-Info',
    'Authorization',
    'Alt-Svc',
    'Alt-Used',
    'Refresh',
    'Strict-Transport-Security',
    'Clear-Site-Data',
    'X-Vault-Token',
    'Assay-Token',
  ])('%s does not reach the agent', name => {
    expect(filtered([name, 'a', 'X-Kept', 'b']).headers).toEqual(['X-Kept', 'b'])
  })

  test('what only begins or ends like one of these does', () => {
    const kept = ['X-Refresh', 'a', 'Upgraded', 'b', 'Cookie', 'c', 'X-Set-Cookie', 'd', 'Vault-Token', 'e']
    expect(filtered(kept).headers).toEqual(kept)
  })

  test('what any Connection names does not, but for what says what the body is', () => {
    const named = ['Connection', 'X-One , x-TWO', 'X-One', 'a', 'X-Two', 'b', 'connection', 'X-Three,content-length']
    const others = ['X-THREE', 'c', 'Content-Length', '5', 'X-Four', 'd']
    expect(filtered([...named, ...others])).toMatchObject({ headers: ['Content-Length', '5', 'X-Four', 'd'], length: 5 })
  })

  test.each([
    ['Content-Encoding', 'identity', undefined],
    ['Content-Encoding', 'Identity', undefined],
    ['Content-Encoding', 'gzip', 'gzip'],
    ['Content-Encoding', 'identity, gzip', 'identity, gzip'],
    ['Transfer-Encoding', 'chunked', undefined],
    ['Transfer-Encoding', 'Chunked', undefined],
    ['Transfer-Encoding', 'gzip, chunked', 'gzip, chunked'],
  ])('%s: %s is the encoding %s', (name, value, encoding) => {
    expect(filtered([name, value]).encoding).toBe(encoding)
  })

  test.each(['Location', 'Content-Location'])('%s leads back here, to a declared service, or nowhere', name => {
    const aims: readonly (readonly [string, string | undefined])[] = [
      ['/v1/next?a=b#c', '/_/api.example.com/v1/next?a=b#c'],
      ['next', '/_/api.example.com/v1/next'],
      ['https://api.example.com/next', '/_/api.example.com/next'],
      ['https://API.example.com:443/next', '/_/api.example.com/next'],
      ['//api.example.com/next', '/_/api.example.com/next'],
      ['https://api.example.com:8443/next', undefined],
      ['http://api.example.com:443/next', undefined],
      ['http://api.example.com/next', undefined],
      ['https://user@api.example.com/next', undefined],
      ['https://:word@api.example.com/next', undefined],
      ['https://files.example.com/a', 'https://files.example.com/a'],
      ['https://user@files.example.com/a', undefined],
      ['http://files.example.com/a', undefined],
      ['http://files.example.com:443/a', undefined],
      ['wss://files.example.com/a', undefined],
      ['https://evil.example/a', undefined],
      ['data:text/html,a', undefined],
      ['https://', undefined],
    ]
    for (const [said, shown] of aims)
      expect([said, ...filtered([name, said]).headers.slice(1)]).toEqual(shown ? [said, shown] : [said])
  })

  test('that leads back stays an address where the client knows the server by its own name', () => {
    const aims = [
      ['/v1/next?a=b', '/v1/next?a=b'],
      ['next', 'https://api.example.com/v1/next'],
      ['//api.example.com/next', 'https://api.example.com/next'],
      ['https://API.example.com:443/upload?id=1#c', 'https://api.example.com/upload?id=1#c'],
      ['https://api.example.com:8443/next', undefined],
    ] as const
    for (const [said, shown] of aims)
      expect([
        said,
        ...filterHead(['Location', said], { destination, prefix: undefined, services, scrubber: undefined }).headers.slice(1),
      ]).toEqual(shown ? [said, shown] : [said])
  })
})
