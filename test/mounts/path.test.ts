import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { belongsToVault, canonicalise, isMountPath } from '../../mounts/path.ts'

const read = (target: string) => {
  const canonical = canonicalise(target)
  if (canonical.ok) return canonical.path
  return `${canonical.status} ${canonical.status === 307 ? canonical.location : canonical.message}`.trim()
}

describe('what has one reading', () => {
  const table: readonly (readonly [target: string, path: string, sent: string])[] = [
    ['/v1/broker/creds/deploy', 'broker/creds/deploy', '/v1/broker/creds/deploy'],
    ['/v1/%62roker/creds/x', 'broker/creds/x', '/v1/broker/creds/x'],
    ['/%76%31/broker/creds/x', 'broker/creds/x', '/v1/broker/creds/x'],
    ['/v1/broker%2Fcreds/x', 'broker/creds/x', '/v1/broker/creds/x'],
    ['/v1/broker%2fcreds/x', 'broker/creds/x', '/v1/broker/creds/x'],
    ['/v1/kv/a%20b%2Fc%25', 'kv/a b/c%', '/v1/kv/a%20b/c%25'],
    ['/v1/kv/a%2F', 'kv/a', '/v1/kv/a/'],
    ['/v1/kv/a%20b', 'kv/a b', '/v1/kv/a%20b'],
    ['/v1/kv/a+b', 'kv/a+b', '/v1/kv/a+b'],
    ['/v1/kv/a%2Bb', 'kv/a+b', '/v1/kv/a+b'],
    ['/v1/kv/100%25', 'kv/100%', '/v1/kv/100%25'],
    ['/v1/kv/%2525', 'kv/%25', '/v1/kv/%2525'],
    ['/v1/kv/%252e%252e', 'kv/%2e%2e', '/v1/kv/%252e%252e'],
    ['/v1/kv/%252f', 'kv/%2f', '/v1/kv/%252f'],
    ['/v1/kv/gr%C3%BC%C3%9Fe', 'kv/grüße', '/v1/kv/gr%C3%BC%C3%9Fe'],
    ['/v1/kv/%F0%9F%94%91', 'kv/🔑', '/v1/kv/%F0%9F%94%91'],
    ['/v1/kv/a:b@c~d;e=f,g&h$i', 'kv/a:b@c~d;e=f,g&h$i', '/v1/kv/a:b@c~d;e=f,g&h$i'],
    ["/v1/kv/!'()*-._", "kv/!'()*-._", "/v1/kv/!'()*-._"],
    ['/v1/kv/%3F%23', 'kv/?#', '/v1/kv/%3F%23'],
    ['/v1/kv/...', 'kv/...', '/v1/kv/...'],
    ['/v1/kv/..a', 'kv/..a', '/v1/kv/..a'],
    ['/v1/kv/[a]{b}|c^d`e"f<g>', 'kv/[a]{b}|c^d`e"f<g>', '/v1/kv/%5Ba%5D%7Bb%7D%7Cc%5Ed%60e%22f%3Cg%3E'],
    ['/v1/__proto__', '__proto__', '/v1/__proto__'],
    ['/v1/', '', '/v1/'],
    ['/', '', '/'],
    ['/ui/', 'ui', '/ui/'],
    ['/metrics', 'metrics', '/metrics'],
  ]
  test.each(table)('%s', (target, path, sent) => {
    expect(read(target)).toMatchObject({ path, target: sent, segments: path === '' ? [] : path.split('/') })
  })

  test('the query goes on as it came', () => {
    expect(read('/v1/kv/?list=true&a=%2F..%5c&b=?/#'.slice(0, -1))).toMatchObject({
      path: 'kv',
      trailingSlash: true,
      query: 'list=true&a=%2F..%5c&b=?/',
      target: '/v1/kv/?list=true&a=%2F..%5c&b=?/',
    })
    expect(read('/v1/kv?')).toMatchObject({ query: '', target: '/v1/kv', trailingSlash: false })
  })
})

describe('what has none', () => {
  const RELATIVE = '400 the path holds a relative segment'
  const EMPTY = '400 the path holds an empty segment'
  const SLASH = '400 the path holds an encoded slash outside of /v1/'
  const BACKSLASH = '400 the path holds a backslash'
  const UNPRINTABLE = '400 the path holds a character that is not printable'
  const ENCODING = '400 the path is not well-formed UTF-8 in percent-encoding'
  const RAW = '400 the request target may hold printable ASCII only, everything else percent-encoded'
  const FORM = '400 the request target must be a path'
  const table: readonly (readonly [target: string, refusal: string])[] = [
    [`/v1/a?help=1${'&'.repeat(10_000)}`, '400 the query holds too many parameters'],
    ['/v1/a/../b', RELATIVE],
    ['/v1/a/./b', RELATIVE],
    ['/v1/a/%2e%2e/b', RELATIVE],
    ['/v1/a/.%2E/b', RELATIVE],
    ['/v1/a/..', RELATIVE],
    ['/v1/a/%2e', RELATIVE],
    ['/../v1/a', RELATIVE],
    ['/v1/a%2F%2Fb', EMPTY],
    ['/v1/a%2F/b', EMPTY],
    ['/v1/%2Fa', EMPTY],
    ['/v1/a%2F/', EMPTY],
    ['/v1/a/%2F', EMPTY],
    ['/%76%31//a', EMPTY],
    ['/ui//a', EMPTY],
    ['//v1/a', EMPTY],
    ['//', EMPTY],
    ['//evil.example/v1/a', EMPTY],
    ['/v1%2fbroker', SLASH],
    ['/ui%2fvault', SLASH],
    ['/ui/a%2fb', SLASH],
    ['/v1/a%2f..%2fb', RELATIVE],
    ['/v1/a%2f.', RELATIVE],
    ['/v1/a//../b', RELATIVE],
    ['/v1//a%5cb', BACKSLASH],
    ['/v1/a%5cb', BACKSLASH],
    ['/v1/a\\..\\b', BACKSLASH],
    ['/v1/a%00', UNPRINTABLE],
    ['/v1/a%0d%0ab', UNPRINTABLE],
    ['/v1/a%7f', UNPRINTABLE],
    ['/v1/a%C2%A0b', UNPRINTABLE],
    ['/v1/a%E2%80%AEb', UNPRINTABLE],
    ['/v1/a%EF%BB%BFb', UNPRINTABLE],
    ['/v1/%ff', ENCODING],
    ['/v1/%c0%ae%c0%ae/a', ENCODING],
    ['/v1/%c0%af', ENCODING],
    ['/v1/%ed%a0%80', ENCODING],
    ['/v1/%', ENCODING],
    ['/v1/%2', ENCODING],
    ['/v1/%zz', ENCODING],
    ['/v1/%u002e', ENCODING],
    ['/v1/a#b', RAW],
    ['/v1/a?b#c', RAW],
    ['/v1/a b', RAW],
    ['/v1/ü', RAW],
    ['/v1/a\u0000', RAW],
    ['/v1/a?\r\nX: y', RAW],
    ['http://evil.example/v1/a', FORM],
    ['evil.example:443', FORM],
    ['*', FORM],
    ['', FORM],
    ['v1/a', FORM],
    ['/v1', '404'],
    ['/v2/a', '404'],
    ['/V1/a', '404'],
    ['/foo', '404'],
    ['/uifoo', '404'],
    ['/metrics/x', '404'],
    ['/robots.txt/x', '404'],
    ['/__proto__', '404'],
    ['/constructor', '404'],
  ]
  test.each(table)('%j', (target, refusal) => {
    expect(read(target)).toBe(refusal)
  })
})

test.each([
  ['/v1//a', '/v1/a'],
  ['/v1/a//', '/v1/a/'],
  ['/v1/kv/metadata//?list=true&a=%2f//b', '/v1/kv/metadata/?list=true&a=%2f//b'],
  ['/v1///a//b%2Fc', '/v1/a/b/c'],
  ['/v1//evil.example/x', '/v1/evil.example/x'],
])('%s leads to %s', (target, location) => {
  expect(read(target)).toBe(`307 ${location}`)
  expect(read(location)).toMatchObject({ target: location })
})

test('outside /v1/ some paths are Vault’s and some are ours', () => {
  const whose = (target: string) => {
    const canonical = canonicalise(target)
    return canonical.ok && belongsToVault(canonical.path)
  }
  expect(['/', '/ui', '/ui/vault/secrets', '/robots.txt', '/.well-known/x', '/v1/sys/health'].filter(whose)).toHaveLength(6)
  expect(['/metrics', '/healthz', '/readyz', '/nothing'].filter(whose)).toEqual([])
})

test.each([
  ...['broker', 'teams/blue', 'a b', '100%', 'grüße', 'a+b', '...'].map(path => [path, true] as const),
  ...['a/', '/a', 'a//b', '.', 'a/..', 'a\\b', 'a\u0000', '\ud800', 'a\u00a0b'].map(path => [path, false] as const),
])('a request can name a mount at %j: %s', (path, can) => {
  expect(isMountPath(path)).toBe(can)
})

/** What Go's net/url makes of a path: bytes, each escape decoded once, a plus sign left alone. Undefined where Go refuses. */
function goPath(encoded: string): Buffer | undefined {
  if (/%(?![0-9a-fA-F]{2})/.test(encoded)) return undefined
  return Buffer.from(
    encoded.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  )
}

describe('any target', () => {
  const escaped = fc.integer({ min: 0, max: 255 }).map(byte => `%${byte.toString(16).padStart(2, '0')}`)
  const piece = fc.oneof(
    { weight: 4, arbitrary: fc.string({ unit: fc.constantFrom(...Array.from('ab.%/\\+;=:@~?&#[]{}|"<>^` ü\u0000')) }) },
    { weight: 2, arbitrary: fc.constantFrom('/', '..', '.', '%2e', '%2f', '%5c', '%25', '%252f', '%00', '/v1/', 'sys') },
    { weight: 2, arbitrary: escaped },
    { weight: 2, arbitrary: fc.string({ unit: 'grapheme', maxLength: 6 }).map(encodeURIComponent) },
  )
  const target = fc
    .array(piece, { maxLength: 8 })
    .chain(pieces => fc.constantFrom('/v1/', '/', '').map(root => root + pieces.join('')))

  test('is refused, or means to Vault exactly what it means here', () => {
    fc.assert(
      fc.property(target, sent => {
        const canonical = canonicalise(sent)
        if (!canonical.ok) return
        const { api, path, segments, trailingSlash } = canonical.path
        const slash = trailingSlash && (api || path !== '') && !(api && path === '') ? '/' : ''
        const meant = `${api ? '/v1/' : '/'}${path}${slash}`
        expect(goPath(sent.split('?')[0] ?? '')?.toString('utf8')).toBe(meant)
        expect(goPath(canonical.path.target.split('?')[0] ?? '')?.toString('utf8')).toBe(meant)
        expect(segments.join('/')).toBe(path)
        expect(segments.some(segment => segment === '' || segment === '.' || segment === '..' || /[/\\]/.test(segment))).toBe(
          false,
        )
      }),
      { numRuns: 20_000 },
    )
  })

  test('is canonical after one pass', () => {
    fc.assert(
      fc.property(target, sent => {
        const once = canonicalise(sent)
        if (once.ok) expect(canonicalise(once.path.target)).toEqual(once)
      }),
      { numRuns: 20_000 },
    )
  })

  test('keeps every printable name', () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(name, wanted => {
        fc.pre(wanted !== '.' && wanted !== '..' && !/[/\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(wanted) && wanted.isWellFormed())
        expect(read(`/v1/kv/${encodeURIComponent(wanted)}`)).toMatchObject({ segments: ['kv', wanted] })
      }),
    )
  })
})
