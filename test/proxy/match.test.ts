import { describe, expect, test } from 'vitest'
import { readHead } from '../../proxy/http/head.ts'
import { findToken, parseMatch } from '../../proxy/http/match.ts'

const TOKEN = 'a.sealed-token'
const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`

/** What is found in a request with these headers, by a service with this match. */
function found(match: string, headers: readonly string[], path = '/'): string {
  const head = readHead(
    { method: 'GET', target: `/_/api.example.com${path}`, httpVersion: '1.1', rawHeaders: ['Host', 'a', ...headers] },
    undefined,
  )
  const kind = parseMatch(match)
  if (!head.ok || !kind) throw new Error('wanted a head and a match')
  const token = findToken(head.value, kind)
  return token.ok ? token.value : token.code
}

describe('a match', () => {
  test.each(['bearer', 'basic', 'aws', 'header X-Key', 'query key', 'query a.b~c_d'])('is read off %j', text => {
    expect(parseMatch(text)).toBeDefined()
  })

  test.each([
    '',
    'cookie',
    'Bearer',
    'constructor',
    'bearer x',
    'basic x',
    ' bearer',
    'header',
    'query',
    'header X-Key more',
    'query key more',
    'header X_Key',
    'header X:Key',
    `header ${'a'.repeat(65)}`,
    'query a&b',
    `query ${'a'.repeat(65)}`,
  ])('is none of %j', text => {
    expect(parseMatch(text)).toBeUndefined()
  })
})

describe('the token is found', () => {
  test.each([
    ['bearer', ['Authorization', `Bearer ${TOKEN}`]],
    ['bearer', ['authorization', `bearer  ${TOKEN}`]],
    ['bearer', ['Authorization', `token ${TOKEN}`]],
    ['basic', ['Authorization', basic(`x:${TOKEN}`)]],
    ['basic', ['Authorization', basic(`:${TOKEN}`)]],
    ['aws', ['X-Amz-Security-Token', TOKEN]],
    ['header X-Key', ['x-key', TOKEN]],
    ['bearer', ['Assay-Token', TOKEN, 'Authorization', 'Bearer other']],
    // where the service wants it, it may stand beside its own header: both are dropped
    ['bearer', ['Assay-Token', TOKEN, 'Authorization', `Bearer ${TOKEN}`]],
  ] as const)('by %s in %j', (match, headers) => {
    expect(found(match, headers)).toBe(TOKEN)
  })

  test('in the query, by any spelling of the name', () => {
    expect(found('query key', [], `/a?x=1&k%65y=${TOKEN}`)).toBe(TOKEN)
  })
})

describe('there is none', () => {
  test.each([
    ['bearer', ['Authorization', basic(`x:${TOKEN}`)], 'NO_TOKEN'],
    ['bearer', ['Authorization', `Bearer${TOKEN}`], 'NO_TOKEN'],
    ['bearer', ['Authorization', `Digest Bearer ${TOKEN}`], 'NO_TOKEN'],
    ['basic', ['Authorization', `Digest ${basic(`x:${TOKEN}`)}`], 'NO_PASSWORD'],
    ['bearer', ['Authorization', 'Bearer '], 'NO_TOKEN'],
    ['basic', ['Authorization', `Bearer ${TOKEN}`], 'NO_PASSWORD'],
    ['basic', ['Authorization', basic(TOKEN)], 'NO_PASSWORD'],
    ['basic', ['Authorization', basic('x:')], 'NO_PASSWORD'],
    ['aws', ['Authorization', `Bearer ${TOKEN}`], 'NO_TOKEN'],
    ['header Authorization', ['X-Key', TOKEN], 'NO_AUTHORIZATION'],
    ['header X-Key', ['X-Keys', TOKEN], 'NO_TOKEN'],
    ['bearer', ['Assay-Token', '', 'Authorization', `Bearer ${TOKEN}`], 'NO_TOKEN'],
  ] as const)('by %s in %j: %s', (match, headers, code) => {
    expect(found(match, headers)).toBe(code)
  })
})

test.each([
  ['in the path', 'bearer', `/a/${TOKEN}/b`, []],
  ['in the query', 'bearer', `/a?b=${TOKEN}`, []],
  ['in the query beside its place', 'query key', `/a?key=${TOKEN}&b=x${TOKEN}`, []],
  ['in a header', 'bearer', '/', ['X-Other', `x ${TOKEN} y`]],
  ['in the path and in the query', 'bearer', `/a/${TOKEN}?b=${TOKEN}`, []],
  ['in a header before its own', 'header X-Key', '/', ['X-Other', TOKEN, 'X-Key', TOKEN]],
  ['in the name of its header with underscores', 'header X-Key', '/', ['X-Key', TOKEN, 'X_Key', TOKEN]],
])('a copy of it %s is refused', (_, match, path, headers) => {
  const own = match === 'bearer' ? ['Authorization', `Bearer ${TOKEN}`] : []
  expect(found(match, [...own, ...headers], path)).toBe('TOKEN_STRAY')
})
