import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Sealing } from '../fakes/sealing.ts'
import { codeOf, decoded, encoded, forged, type Here, holder, sealing } from './sealing_world.ts'

describe('forms of tokens', () => {
  const bad: readonly (readonly [string, string, (token: string, here: Here) => string])[] = [
    ...['none', 'None', 'NONE', 'nOnE'].map(
      alg => [`alg ${alg}`, 'TOKEN_FORM', (token: string) => withHeader(token, { alg })] as const,
    ),
    [
      'alg none without a signature',
      'TOKEN_FORM',
      token => `${encoded({ ...decoded(token, 0), alg: 'none' })}.${token.split('.')[1]}.`,
    ],
    ['HS256 with the public key', 'TOKEN_FORM', (token, here) => hmac(token, publicPem(here))],
    ['RS256', 'TOKEN_FORM', token => withHeader(token, { alg: 'RS256' })],
    ['ES384', 'TOKEN_FORM', token => withHeader(token, { alg: 'ES384' })],
    ['another typ', 'TOKEN_FORM', token => withHeader(token, { typ: 'at+jwt' })],
    ['an embedded key', 'TOKEN_FORM', token => withHeader(token, { jwk: {} })],
    ['jku', 'TOKEN_FORM', token => withHeader(token, { jku: 'https://evil.example/jwks' })],
    ['x5u', 'TOKEN_FORM', token => withHeader(token, { x5u: 'https://evil.example/' })],
    ['crit', 'TOKEN_FORM', token => withHeader(token, { crit: ['x'] })],
    ['zip', 'TOKEN_FORM', token => withHeader(token, { zip: 'DEF' })],
    ['a kid that is a path', 'TOKEN_KEY', token => withHeader(token, { kid: '../../dev/null' })],
    ['a kid that is SQL', 'TOKEN_KEY', token => withHeader(token, { kid: "' OR 1=1 --" })],
    ['a kid of another key', 'TOKEN_KEY', token => withHeader(token, { kid: 'assay-issue-1-v1' })],
    ['a name and a number', 'TOKEN_KEY', token => withHeader(token, { kid: 'assay-seal-sign-v1' })],
    ['a kid that is no text', 'TOKEN_FORM', token => withHeader(token, { kid: { a: 1 } })],
    ['r and s that are zero', 'TOKEN_SIGNATURE', token => `${token.split('.').slice(0, 2).join('.')}.${'A'.repeat(86)}`],
    [
      'other claims',
      'TOKEN_SIGNATURE',
      token => [token.split('.')[0], encoded({ ...decoded(token, 1), exp: 2 ** 40 }), token.split('.')[2]].join('.'),
    ],
    [
      'another signature of the same key',
      'TOKEN_SIGNATURE',
      (token, here) => `${token.split('.').slice(0, 2).join('.')}.${forged(here, token, {}).split('.')[2]}`,
    ],
    ['white space', 'TOKEN_FORM', token => `${token} `],
    ['padding', 'TOKEN_FORM', token => `${token}==`],
    ['spare bits', 'TOKEN_FORM', token => `${token.slice(0, -1)}${String.fromCharCode(token.charCodeAt(token.length - 1) + 1)}`],
    ['four parts', 'TOKEN_FORM', token => `${token}.a`],
    ['a JWE', 'TOKEN_FORM', token => `${token}.a.b`],
    ['a million dots', 'TOKEN_FORM', () => '.'.repeat(1_000_000)],
    [
      'a length that nobody seals',
      'TOKEN_FORM',
      token => [token.split('.')[0], 'A'.repeat(2 ** 14), token.split('.')[2]].join('.'),
    ],
    ['nothing', 'TOKEN_FORM', () => ''],
    ['a header that is no object', 'TOKEN_FORM', token => [encoded(null), ...token.split('.').slice(1)].join('.')],
    ...['9999999999', true, Number.POSITIVE_INFINITY, [], null, -1, 0, 1.5].map(
      exp =>
        [
          `exp ${JSON.stringify(exp)}`,
          'TOKEN_CLAIMS',
          (token: string, here: Here) => forged(here, token, { ...decoded(token, 1), exp }),
        ] as const,
    ),
    ['no exp', 'TOKEN_CLAIMS', (token, here) => forged(here, token, { ...decoded(token, 1), exp: undefined })],
    ['no cnf', 'TOKEN_CLAIMS', (token, here) => forged(here, token, { ...decoded(token, 1), cnf: undefined })],
    [
      'a cnf of another kind',
      'TOKEN_CLAIMS',
      (token, here) => forged(here, token, { ...decoded(token, 1), cnf: { jkt: holder.jkt } }),
    ],
    ...[{ 'x5t#S256': 'short' }, { 'x5t#S256': holder.x5tS256, jkt: 'short' }, { 'x5t#S256': holder.x5tS256, x: 'y' }].map(
      cnf =>
        [
          `the cnf ${JSON.stringify(cnf)}`,
          'TOKEN_CLAIMS',
          (token: string, here: Here) => forged(here, token, { ...decoded(token, 1), cnf }),
        ] as const,
    ),
    ...[
      (jwe: string) => `${encoded({ alg: 'dir', enc: 'A128GCM' })}${jwe.slice(jwe.indexOf('.'))}`,
      (jwe: string) => jwe.replace('..', '.AAAA.'),
      (jwe: string) => `${jwe}.AAAA`,
    ].map(
      (other, at) =>
        [
          `a JWE in it with another spelling, ${at}`,
          'TOKEN_SEAL',
          (token: string, here: Here) => {
            const claims = decoded(token, 1)
            const seal = { ...claims.assay.seal, jwe: other(claims.assay.seal.jwe) }
            return forged(here, token, { ...claims, assay: { ...claims.assay, seal } })
          },
        ] as const,
    ),
    [
      'no destination',
      'TOKEN_CLAIMS',
      (token, here) => forged(here, token, { ...decoded(token, 1), assay: { ...decoded(token, 1).assay, destinations: [] } }),
    ],
  ]
  test.each(bad)('%s: %s', async (_, code, make) => {
    const here = await sealing()
    const token = await here.seal()
    expect(await codeOf(here, make(token, here))).toBe(code)
    expect(await codeOf(here, token)).toBe('OK')
  })

  test('no text of any kind opens or throws', async () => {
    const here = await sealing()
    await here.seal()
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          fc.array(fc.base64String(), { maxLength: 6 }).map(parts => parts.join('.')),
        ),
        async text => {
          expect(await codeOf(here, text)).toBe('TOKEN_FORM')
        },
      ),
    )
  })
})

function withHeader(token: string, more: object): string {
  return [encoded({ ...decoded(token, 0), ...more }), ...token.split('.').slice(1)].join('.')
}

function publicPem({ vault }: Sealing): string {
  return createPublicKey(vault.stolen('assay-seal-sign')).export({ format: 'pem', type: 'spki' }).toString()
}

function hmac(token: string, secret: string): string {
  const input = `${encoded({ ...decoded(token, 0), alg: 'HS256' })}.${token.split('.')[1]}`
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
}

test('a stranger who signs is nobody', async () => {
  const here = await sealing()
  const token = await here.seal()
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const input = token.split('.').slice(0, 2).join('.')
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
  expect(await codeOf(here, `${input}.${signature}`)).toBe('TOKEN_SIGNATURE')
})
