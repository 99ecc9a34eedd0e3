import { describe, expect, test } from 'vitest'
import { openProvider, type ProviderSettings } from '../../engine/consent/provider.ts'
import type { Outbound } from '../../engine/issuers/outbound.ts'
import { Secret } from '../../engine/secret.ts'

// The journey through an identity provider, as far as the words of one answer go; the whole of it is shown in a browser (`live/consent.test.ts`).

const JOURNEY = { state: 'state', nonce: 'nonce', verifier: 'v'.repeat(43) }
const REDIRECT = 'https://assay.example/assay/consent/callback'

type Server = {
  readonly also?: readonly string[]
  readonly nonce?: string
  readonly sub?: string
  readonly metadata?: object
  readonly asked?: string[]
  /** what a code is answered with beside a token */
  readonly answer?: object
  readonly status?: number
}

/** A provider that redeems any code, and answers with an ID token with this nonce where it was asked for one. */
function providerOf(
  issuer: string,
  { also = [], nonce = JOURNEY.nonce, sub = 'person', metadata: more = {}, asked = [], answer = {}, status = 200 }: Server,
) {
  const settings = {
    issuer,
    discovery: 'oauth2',
    authorization_url: '',
    token_url: '',
    client_id: 'assay',
    client_auth: 'none',
    also_scope: also,
    authorization_parameters: {},
    consent_ttl: 60,
    ca: '',
  } as unknown as ProviderSettings
  const now = Math.floor(Date.now() / 1000)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { iss: issuer, aud: 'assay', sub, iat: now, exp: now + 60, nonce }
  const idToken = `${part({ alg: 'RS256' })}.${part(claims)}.c2ln`
  const metadata = { issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, ...more }
  const tokens = { access_token: 'a', token_type: 'Bearer', refresh_token: 'r', id_token: idToken, ...answer }
  const http = {
    fetch: async (url: string) => {
      asked.push(new URL(url).pathname)
      return url.endsWith('/token') ? Response.json(tokens, { status }) : Response.json(metadata)
    },
    failure: () => undefined,
  } as unknown as Outbound
  return openProvider('forge', settings, http)
}

const callback = new URL(`${REDIRECT}?code=c&state=state`)
const WAYS: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['every consent asks for', ['openid', 'offline_access'], ['repo']],
  ['the agent asks for', ['offline_access'], ['openid', 'repo']],
]

test.each(WAYS)('an identity that %s has to be of this journey', async (_, also, scope) => {
  const issuer = `https://id-${also.length}.example`
  const own = providerOf(issuer, { also })
  const sent = await own.authorizationUrl(JOURNEY, scope, REDIRECT)
  expect(sent.searchParams.get('nonce')).toBe('nonce')
  expect(await own.redeem(callback, JOURNEY, scope, REDIRECT, undefined)).toMatchObject({ refreshToken: 'r', subject: 'person' })
  const others = providerOf(issuer, { also, nonce: 'of another journey' })
  await expect(others.redeem(callback, JOURNEY, scope, REDIRECT, undefined)).rejects.toMatchObject({ code: 'EXCHANGE_UNUSABLE' })
})

test.each(['\u001b[2J', 'a\nb', 'x'.repeat(256)])('a person is not named %j', async sub => {
  const named = providerOf('https://names.example', { also: ['openid'], sub })
  await expect(named.redeem(callback, JOURNEY, [], REDIRECT, undefined)).rejects.toMatchObject({ code: 'EXCHANGE_UNUSABLE' })
})

test.each(['authorization', 'token', 'revocation'])('a provider elsewhere has no %s endpoint on this machine', async which => {
  const metadata = { [`${which}_endpoint`]: 'http://127.0.0.1:8200/v1/sys/unseal' }
  const elsewhere = providerOf(`https://${which}.example`, { metadata })
  await expect(elsewhere.tokenEndpoint()).rejects.toMatchObject({ code: 'EXCHANGE_UNUSABLE' })
  const here = providerOf(`http://127.0.0.1/of-${which}`, { metadata })
  expect(await here.authorizationEndpoint()).toMatch(/^http:/)
})

const turnedBack = new URL(`${REDIRECT}?error=access_denied&state=state`)
test.each<readonly [string, URL, Server, string]>([
  ['a person who turned back', turnedBack, {}, 'EXCHANGE_REFUSED'],
  ['a code that it does not take', callback, { status: 400, answer: { error: 'invalid_grant' } }, 'EXCHANGE_REFUSED'],
  ['no refresh token', callback, { answer: { refresh_token: undefined } }, 'EXCHANGE_UNUSABLE'],
  ['a refresh token that is longer than any', callback, { answer: { refresh_token: 'r'.repeat(65_537) } }, 'EXCHANGE_UNUSABLE'],
])('whoever is answered with %s is told it as that', async (_, answered, server, code) => {
  const provider = providerOf('https://answers.example', server)
  await expect(provider.redeem(answered, JOURNEY, ['openid'], REDIRECT, undefined)).rejects.toMatchObject({ code })
})

test('what a provider has no way to end is not tried to be ended', async () => {
  const asked: string[] = []
  const provider = providerOf('https://endless.example', { asked })
  for (const token of ['r', 's']) await provider.revoke(new Secret(token), undefined)
  // what it can is asked once
  expect(asked).toEqual(['/.well-known/oauth-authorization-server'])
})

// Who is led to an honest server by a dishonest one brings the code of the one to the other (RFC 9207).
describe('the issuer of an answer', () => {
  const tells = { authorization_response_iss_parameter_supported: true }
  const another = () => 'https://evil.example.com'
  const ANSWERS: readonly (readonly [string, string, object, (issuer: string) => string | undefined, boolean])[] = [
    ['of a server that names itself', 'named', tells, issuer => issuer, true],
    ['of a server that does not', 'unnamed', {}, () => undefined, true],
    ['may not be another', 'mixed', tells, another, false],
    ['may not be another where the server never said that it names itself', 'mixed-silent', {}, another, false],
    ['may not be one that only begins alike', 'alike', tells, issuer => `${issuer}.evil.example.com`, false],
    ['may not be missing where the server said that it names itself', 'left-out', tells, () => undefined, false],
  ]

  test.each(ANSWERS)('%s', async (_, name, metadata, issOf, good) => {
    const issuer = `https://${name}.example`
    const asked: string[] = []
    const provider = providerOf(issuer, { metadata, asked })
    await provider.authorizationUrl(JOURNEY, ['openid'], REDIRECT)
    const answer = new URL(callback)
    const iss = issOf(issuer)
    if (iss !== undefined) answer.searchParams.set('iss', iss)
    const redeemed = provider.redeem(answer, JOURNEY, ['openid'], REDIRECT, undefined)
    if (good) expect(await redeemed).toMatchObject({ refreshToken: 'r' })
    else await expect(redeemed).rejects.toMatchObject({ code: 'EXCHANGE_UNUSABLE' })
    expect(asked.filter(path => path === '/token')).toHaveLength(good ? 1 : 0)
  })
})
