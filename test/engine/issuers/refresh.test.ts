import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../../engine/secret.ts'
import { openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { type Provider, startProvider } from '../../fakes/provider.ts'
import { type Authority, newAuthority } from '../../mounts/hosts/certificates.ts'

// Every issuer that has a refresh token, at a server that rotates them. What is there is written by hand, too, by somebody who takes no turns.
let authority: Authority
beforeAll(async () => {
  authority = await newAuthority('Providers')
})

const own = { client_id: 'assay', client_secret: 'canary', refresh_token: 'first' }
const kinds = [
  ['oauth2', { grant: 'refresh_token', client_id: 'assay' }, {}],
  ['azure', { tenant_id: 'tenant', client_id: 'assay', auth: 'refresh_token' }, {}],
  [
    'oauth2_consent',
    { issuer: 'https://as.example', discovery: 'none', authorization_url: 'https://as.example/authorize', client_id: 'assay' },
    { delivery: 'sealed', destinations: 'https://api.example.com' },
  ],
] as const

describe.each(kinds)('a refresh token of %s', (type, settings, role) => {
  let provider: Provider
  let exchange: TestExchange
  beforeEach(async () => {
    provider = await startProvider(await authority.issue('provider'))
    const { client_secret, refresh_token } = own
    const where = type === 'azure' ? { authority: provider.url } : { token_url: `${provider.url}/token` }
    exchange = openTestExchange({
      type,
      settings: { ...settings, ...where, ca: authority.ca },
      secrets: { client_secret, ...(type === 'oauth2_consent' ? {} : { refresh_token }) },
      consented: { refresh_token },
      role,
    })
  })
  afterEach(async () => {
    await exchange[Symbol.asyncDispose]()
    await provider[Symbol.asyncDispose]()
  })
  const rootOf = () => (type === 'oauth2_consent' ? exchange.person : exchange.root)
  const write = async (refresh_token: string, expiresAt?: number) => {
    const { fields, version } = await rootOf().read()
    const next = { fields: { ...fields, refresh_token: new Secret(refresh_token) } }
    await rootOf().replace(expiresAt === undefined ? next : { ...next, expiresAt }, version)
  }
  const serve = (good: string, refused = async () => {}) => {
    provider.answer = async ({ body }) => {
      if (new URLSearchParams(body).get('refresh_token') === good)
        return { status: 200, body: { access_token: 'a', token_type: 'Bearer', expires_in: 60, refresh_token: 'next' } }
      await refused()
      return { status: 400, body: { error: 'invalid_grant' } }
    }
  }
  const asked = { grant: { scope: ['a'] } }
  const kept = async () => (await rootOf().read()).fields['refresh_token']?.reveal()

  test('that is refused, as somebody replaced it meanwhile, is read again', async () => {
    serve('by hand', () => write('by hand'))
    expect(await exchange.outcome(asked)).toBe('OK')
    expect(provider.asked).toHaveLength(2)
    expect(await kept()).toBe('next')
  })

  test('that is refused again is refused', async () => {
    serve('never', () => write('another'))
    expect(await exchange.outcome(asked)).toBe('EXCHANGE_REFUSED')
    expect(provider.asked).toHaveLength(2)
  })

  test('that is refused and is there still is not tried twice', async () => {
    serve('never')
    expect(await exchange.outcome(asked)).toBe('EXCHANGE_REFUSED')
    expect(provider.asked).toHaveLength(1)
  })

  test('whose answer is lost after the server replaced it is not sent twice, and stays: a server with a time of grace takes it once more', async () => {
    serve('first')
    const whole = provider.answer
    provider.answer = async one => {
      provider.answer = whole
      await whole(one)
      return 'reset' as const
    }
    expect(await exchange.outcome(asked)).toBe('unavailable')
    expect(provider.asked).toHaveLength(1)
    expect(await kept()).toBe('first')
    expect(await exchange.outcome(asked)).toBe('OK')
    expect(await kept()).toBe('next')
  })

  test('that came anew has no end that anybody knows: not that of the one before', async () => {
    serve('first')
    await write('first', 4_000_000_000)
    expect(await exchange.outcome(asked)).toBe('OK')
    expect(rootOf().replaced.map(({ expiresAt }) => expiresAt)).toEqual([4_000_000_000, undefined])
  })
})
