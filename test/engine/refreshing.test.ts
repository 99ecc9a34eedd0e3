import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { openTestExchange, type TestExchange } from '../fakes/exchange.ts'
import { type Provider, startProvider } from '../fakes/provider.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'

// A refresh token that rotates is sent by one at a time: by nobody who is not certain to be that one at the moment of sending.
const UNCERTAIN = 'it is not certain that no other replica works on this: try again'
const SCOPED = { grant: { scope: ['a'] } }
let authority: Authority
let provider: Provider
beforeEach(async () => {
  authority = await newAuthority('Authority of the provider')
  provider = await startProvider(await authority.issue('provider'))
  provider.answer = ({ url }) => {
    const metadata = { issuer: provider.url, token_endpoint: `${provider.url}/token` }
    return { status: 200, body: url.startsWith('/.well-known/') ? metadata : TOKEN }
  }
})
afterEach(() => provider[Symbol.asyncDispose]())

const TOKEN = { access_token: 'upstream', token_type: 'Bearer', expires_in: 600, scope: 'a', refresh_token: 'next' }
const secrets = { client_secret: 'secret', refresh_token: 'first' }
const issuers: Readonly<Record<string, (url: string, ca: string) => TestExchange>> = {
  oauth2: (url, ca) => {
    const settings = { token_url: `${url}/token`, grant: 'refresh_token', client_id: 'assay', ca }
    return openTestExchange({ type: 'oauth2', settings, secrets })
  },
  azure: (url, ca) => {
    const settings = { authority: url, tenant_id: 't', client_id: 'c', auth: 'refresh_token', ca }
    return openTestExchange({ type: 'azure', settings, secrets })
  },
  oauth2_consent: (url, ca) => {
    const settings = { issuer: url, discovery: 'oauth2', client_id: 'assay', client_auth: 'client_secret_post', ca }
    const role = { delivery: 'sealed', destinations: 'https://api.example.com' }
    return openTestExchange({ type: 'oauth2_consent', settings, secrets, consented: { refresh_token: 'first' }, role })
  },
}
const sent = () => provider.asked.filter(({ body }) => String(body).includes('first')).length

describe.each(Object.keys(issuers))('%s', type => {
  let one: TestExchange
  beforeEach(() => {
    one = issuers[type]?.(provider.url, authority.ca) as TestExchange
  })
  afterEach(() => one[Symbol.asyncDispose]())
  const said = () => one.issue(SCOPED).then(({ ok }) => (ok ? 'OK' : 'refused'), String)

  test('sends nothing then, and tells why', async () => {
    one.hold(() => {
      throw new BrokerError('unavailable', UNCERTAIN)
    })
    expect(await said()).toContain(UNCERTAIN)
    expect(sent()).toBe(0)
    one.hold(() => undefined)
    expect(await said()).toBe('OK')
  })

  test('does not send it again, either, where the provider was busy', async () => {
    let asked = 0
    one.hold(() => {
      asked += 1
      if (asked > 1) throw new BrokerError('unavailable', UNCERTAIN)
    })
    const whole = provider.answer
    provider.answer = one => (String(one.body).includes('first') ? { status: 503 } : whole(one))
    expect(await said()).toContain(UNCERTAIN)
    expect(sent()).toBe(1)
  })
})
