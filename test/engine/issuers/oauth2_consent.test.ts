import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { type Provider, type ProviderAsked, startProvider } from '../../fakes/provider.ts'

// What a provider with metadata gives in the name of a person; consent itself is shown in a browser (`live/consent.test.ts`).
let provider: Provider
let exchange: TestExchange
let scope: string
beforeEach(async () => {
  provider = await startProvider()
  scope = 'repo:read'
  provider.answer = asked => ({ status: 200, body: answer(asked) })
  exchange = openTestExchange({
    type: 'oauth2_consent',
    settings: { issuer: provider.url, discovery: 'oauth2', client_id: 'assay', client_auth: 'client_secret_post' },
    secrets: { client_secret: 'secret' },
    consented: { refresh_token: 'of-a-person' },
    role: { delivery: 'sealed', destinations: 'https://forge.example.com' },
  })
})
afterEach(async () => {
  await exchange[Symbol.asyncDispose]()
  await provider[Symbol.asyncDispose]()
})

function answer({ url }: ProviderAsked): object | undefined {
  const { url: issuer } = provider
  if (url.startsWith('/.well-known/'))
    return { issuer, token_endpoint: `${issuer}/token`, revocation_endpoint: `${issuer}/revoke` }
  return url === '/token' ? { access_token: 'upstream', token_type: 'Bearer', expires_in: 600, scope } : undefined
}
const asked = () => provider.asked.filter(({ url }) => url === '/revoke')
const WANTED = { grant: { scope: ['repo:read'] } }

test('what is no wider than the person consented to is given', async () => {
  expect(await exchange.outcome(WANTED)).toBe('OK')
  expect(asked()).toEqual([])
})

test.each(['token_endpoint', 'revocation_endpoint', 'authorization_endpoint'])(
  'nothing is sent when the metadata name a %s that anybody on the way could read',
  async name => {
    provider.answer = one => ({ status: 200, body: { ...answer(one), [name]: 'http://idp.example/x' } })
    expect(await exchange.outcome(WANTED)).toBe('EXCHANGE_UNUSABLE')
    expect(provider.asked.map(({ method }) => method)).toEqual(['GET'])
  },
)

test('what is wider is revoked, and not given', async () => {
  scope = 'repo:read repo:admin'
  expect(await exchange.outcome(WANTED)).toBe('EXCHANGE_WIDER')
  expect(asked().map(({ body }) => Object.fromEntries(new URLSearchParams(body)))).toMatchObject([
    { token: 'upstream', client_id: 'assay', client_secret: 'secret' },
  ])
})

test('what is wider and cannot be revoked is not given either', async () => {
  scope = 'repo:read repo:admin'
  provider.answer = one => (one.url === '/revoke' ? { status: 500 } : { status: 200, body: answer(one) })
  expect(await exchange.outcome(WANTED)).toBe('EXCHANGE_WIDER')
  expect(asked()).toHaveLength(1)
})

test('what cannot be used and cannot be revoked is told as what it is', async () => {
  provider.answer = one => {
    if (one.url === '/revoke') return { status: 500 }
    return { status: one.url === '/token' ? 201 : 200, body: answer(one) }
  }
  expect(await exchange.outcome(WANTED)).toBe('EXCHANGE_UNUSABLE')
  expect(asked()).toHaveLength(1)
})

test('an ID token of an issuer that is not the origin of its token endpoint, as most servers give it with a refresh, does no harm', async () => {
  const claims = { iss: `${provider.url}/realms/people`, sub: 'ada', aud: 'assay', iat: 1, exp: 2 }
  const parts = [{ alg: 'ES256' }, claims].map(one => Buffer.from(JSON.stringify(one)).toString('base64url'))
  provider.answer = one => ({ status: 200, body: { ...answer(one), id_token: `${parts.join('.')}.c2lnbmF0dXJl` } })
  expect(await exchange.outcome(WANTED)).toBe('OK')
  expect(asked()).toEqual([])
})
