import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import * as jose from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Credential } from '../../../engine/issuers/index.ts'
import { Secret } from '../../../engine/secret.ts'
import { ISSUER_URL, jwkOf, newEcKey, openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { startProvider } from '../../fakes/provider.ts'
import { type OauthServer, type OauthServerOptions, startOauthServer } from '../../harness/peers/oauth_server.ts'

// A real authorization server: oidc-provider.
const SECRET = 'CanaRy7-the-secret-of-the-client-0123456789'
const API = 'https://api.example.com'
const ASSERTIONS = ['urn:ietf:params:oauth:grant-type:token-exchange', 'urn:ietf:params:oauth:grant-type:jwt-bearer']
const bare = { redirect_uris: [], response_types: [] }

let stack: AsyncDisposableStack
beforeEach(() => {
  stack = new AsyncDisposableStack()
})
afterEach(() => stack.disposeAsync())

type Options = {
  readonly server?: Partial<OauthServerOptions>
  readonly secrets?: Record<string, string>
  readonly role?: object
}
async function opened(
  settings: object | ((url: string) => object),
  options: Options = {},
): Promise<{ server: OauthServer; test: TestExchange }> {
  const ec = newEcKey()
  const jwk = jwkOf(ec.publicKey)
  const secret = { client_id: 'by-secret', client_secret: SECRET, redirect_uris: ['https://assay.example/back'] }
  const clients = [
    { ...secret, grant_types: ['client_credentials', 'authorization_code', 'refresh_token'] },
    {
      ...secret,
      client_id: 'by-post',
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      ...bare,
    },
    {
      client_id: 'by-key',
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [jwk] },
      grant_types: ['client_credentials'],
      ...bare,
    },
    { client_id: 'none', token_endpoint_auth_method: 'none', grant_types: ASSERTIONS, ...bare },
  ] as OauthServerOptions['clients']
  const trusts = { issuer: ISSUER_URL, jwk, audience: 'https://as.example' }
  const scopes = ['orders:read', 'orders:write']
  const server = stack.use(await startOauthServer({ clients, scopes, trusts, resource: API, ...options.server }))
  const where = { token_url: `${server.url}/token`, client_id: 'by-secret', audience: 'https://as.example' }
  const own = typeof settings === 'function' ? settings(server.url) : settings
  const { secrets = { client_secret: SECRET }, role = {} } = options
  return { server, test: stack.use(openTestExchange({ type: 'oauth2', settings: { ...where, ...own }, secrets, role, ec })) }
}
const read = { grant: { scope: ['orders:read'] } }
const tokenOf = ({ fields }: Credential) => (fields['token'] as Secret).reveal()

describe('client credentials', () => {
  test.each([
    ['client_secret_basic', 'by-secret'],
    ['client_secret_post', 'by-post'],
    ['private_key_jwt', 'by-key'],
  ])('%s', async (client_auth, client_id) => {
    const audience = client_auth === 'private_key_jwt' ? { audience: '' } : {}
    const { server, test } = await opened({ grant: 'client_credentials', client_auth, client_id, ...audience })
    const credential = await test.credential(read)
    expect(credential).toMatchObject({ tokenType: 'Bearer', granted: { scope: ['orders:read'], expires_in: 600 } })
    expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true, scope: 'orders:read' })
  })

  test('a JWT for the audience that is told is what the server says that it is', async () => {
    const { test } = await opened(
      { grant: 'client_credentials' },
      { server: { tokenFormat: 'jwt' }, role: { target: 'resource' } },
    )
    const claims = jose.decodeJwt(tokenOf(await test.credential(read)))
    expect(claims).toMatchObject({ aud: API, scope: 'orders:read' })
  })

  test('a wrong secret is refused by its code', async () => {
    const { test } = await opened({ grant: 'client_credentials' }, { secrets: { client_secret: 'another' } })
    expect(await test.issue(read)).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: invalid_client' })
  })

  test('a token that lives longer than the grant is refused, unless the role puts up with it', async () => {
    const { test } = await opened({ grant: 'client_credentials' }, { server: { ttlSeconds: 3600 } })
    expect(await test.outcome(read)).toBe('EXCHANGE_WIDER')
    const { expiresAt } = await test.credential({ ...read, role: { provider_ttl: '1h' } })
    expect(expiresAt - Date.now() / 1000).toBeGreaterThan(3500)
  })

  test('what can be revoked has a handle without the token, and is revoked by it', async () => {
    const { server, test: first } = await opened({ grant: 'client_credentials' })
    const settings = {
      grant: 'client_credentials',
      client_id: 'by-secret',
      token_url: `${server.url}/token`,
      revocation_url: `${server.url}/token/revocation`,
    }
    const test = stack.use(openTestExchange({ type: 'oauth2', settings, secrets: { client_secret: SECRET } }))
    const credential = await test.credential(read)
    expect(JSON.stringify(credential.handle)).not.toContain(tokenOf(credential))
    expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true })
    // whoever took the name may have another server
    await expect(test.revoke(credential, 'second')).rejects.toThrow(
      'it was issued through another integration acme than there is now',
    )
    expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true })
    await test.revoke(credential)
    await test.revoke(credential)
    expect(await server.introspect(tokenOf(credential))).toEqual({ active: false })
    expect((await first.credential(read)).handle).toBeUndefined()
    // what nobody asks to revoke is not told as revoked
    await expect(first.revoke(credential)).rejects.toThrow('the integration acme has no revocation_url any more')
  })

  test('what can be revoked is so by a key, too: the server takes none of its assertions twice', async () => {
    const byKey = { grant: 'client_credentials', client_auth: 'private_key_jwt', client_id: 'by-key', audience: '' }
    const { server, test } = await opened(url => ({ ...byKey, revocation_url: `${url}/token/revocation` }))
    const credential = await test.credential(read)
    await test.revoke(credential)
    await test.revoke(credential)
    expect(await server.introspect(tokenOf(credential))).toEqual({ active: false })
  })

  test('what is wider than was asked for is revoked by another assertion than it was got by', async () => {
    const provider = stack.use(await startProvider())
    provider.answer = () => ({ status: 200, body: { access_token: 'a', token_type: 'Bearer', expires_in: 60, scope: 'all' } })
    const { test } = await opened({
      grant: 'client_credentials',
      client_auth: 'private_key_jwt',
      token_url: `${provider.url}/token`,
      revocation_url: `${provider.url}/revoke`,
    })
    expect(await test.outcome(read)).toBe('EXCHANGE_WIDER')
    const assertions = provider.asked.map(({ body }) => new URLSearchParams(body).get('client_assertion') ?? '')
    expect(provider.asked.map(({ url }) => url)).toEqual(['/token', '/revoke'])
    expect(new Set(assertions.map(one => jose.decodeJwt(one).jti)).size).toBe(2)
  })
})

describe('refresh tokens', () => {
  test('rotate: 50 who ask at once take turns, and each new token is kept before anything is handed out', async () => {
    const { server } = await opened({ grant: 'client_credentials' })
    const refresh_token = await server.refreshToken('by-secret', 'orders:read')
    const settings = { grant: 'refresh_token', client_id: 'by-secret', token_url: `${server.url}/token` }
    const test = stack.use(openTestExchange({ type: 'oauth2', settings, secrets: { client_secret: SECRET, refresh_token } }))
    const all = await Promise.all(Array.from({ length: 50 }, () => test.credential(read)))
    expect(new Set(all.map(tokenOf)).size).toBe(50)
    expect(test.root.replaced).toHaveLength(50)
    const kept = (await test.root.read()).fields
    expect(kept['refresh_token']?.reveal()).not.toBe(refresh_token)
    expect(kept['client_secret']?.reveal()).toBe(SECRET)
  })

  test('one that was used elsewhere is refused by its code', async () => {
    const { server } = await opened({ grant: 'client_credentials' })
    const refresh_token = await server.refreshToken('by-secret', 'orders:read')
    const settings = { grant: 'refresh_token', client_id: 'by-secret', token_url: `${server.url}/token` }
    const secrets = { client_secret: SECRET, refresh_token }
    const [one, other] = [1, 2].map(() => stack.use(openTestExchange({ type: 'oauth2', settings, secrets }))) as [
      TestExchange,
      TestExchange,
    ]
    await one.credential(read)
    expect(await other.issue(read)).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: invalid_grant' })
  })

  test('one that somebody replaced meanwhile is tried by another assertion, as no server takes one twice', async () => {
    const provider = stack.use(await startProvider())
    const { test } = await opened(
      { grant: 'refresh_token', client_auth: 'private_key_jwt', token_url: `${provider.url}/token` },
      { secrets: { refresh_token: 'first' } },
    )
    const taken: unknown[] = []
    provider.answer = async ({ body }) => {
      const form = new URLSearchParams(body)
      const { jti } = jose.decodeJwt(form.get('client_assertion') ?? '')
      if (taken.includes(jti)) return { status: 401, body: { error: 'invalid_client' } }
      taken.push(jti)
      if (form.get('refresh_token') === 'by hand')
        return { status: 200, body: { access_token: 'a', token_type: 'Bearer', expires_in: 60, refresh_token: 'next' } }
      await test.root.replace({ fields: { refresh_token: new Secret('by hand') } }, (await test.root.read()).version)
      return { status: 400, body: { error: 'invalid_grant' } }
    }
    expect(await test.outcome(read)).toBe('OK')
    expect((await test.root.read()).fields['refresh_token']?.reveal()).toBe('next')
  })
})

test('a token whose refresh token could not be kept is given to nobody, and revoked', async () => {
  const provider = stack.use(await startProvider())
  const [token_url, revocation_url] = [`${provider.url}/token`, `${provider.url}/revoke`]
  for (const status of [200, 201]) {
    const { test } = await opened(
      { grant: 'refresh_token', token_url, revocation_url },
      { secrets: { client_secret: SECRET, refresh_token: 'first' } },
    )
    provider.answer = async ({ url }) => {
      if (url !== '/token') return { status: 200 }
      // somebody else replaces it meanwhile
      const { fields, version } = await test.root.read()
      await test.root.replace({ fields: { ...fields, refresh_token: new Secret('by hand') } }, version)
      return { status, body: { access_token: `of-${status}`, token_type: 'Bearer', expires_in: 60, refresh_token: 'second' } }
    }
    expect(await test.outcome(read)).toBe('conflict')
    const { url, body } = provider.asked.at(-1) ?? { url: '', body: '' }
    expect([url, new URLSearchParams(body).get('token')]).toEqual(['/revoke', `of-${status}`])
    expect((await test.root.read()).fields['refresh_token']?.reveal()).toBe('by hand')
  }
})

describe('assertions that transit signs', () => {
  test.each(['token_exchange', 'jwt_bearer'])('%s, without any root credential', async grant => {
    const { server, test } = await opened({ grant, client_auth: 'none', client_id: 'none' }, { secrets: {} })
    expect(await server.introspect(tokenOf(await test.credential(read)))).toMatchObject({ active: true, scope: 'orders:read' })
  })

  test.each(['token_exchange', 'jwt_bearer'])('%s: not for another audience', async grant => {
    const { test } = await opened(
      { grant, client_auth: 'none', client_id: 'none', audience: 'https://other.example' },
      { secrets: {} },
    )
    expect(await test.issue(read)).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: invalid_grant' })
  })
})

describe('DPoP: the token is bound to the key of the machine, by its own proof', () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const bound = async () => ({ scope: ['orders:read'], keyThumbprint: await thumbprintOf(key.publicKey) })
  const proofFor = (url: string, { by = key, more = {} } = {}) =>
    new jose.SignJWT({ htm: 'POST', htu: url, jti: randomUUID(), ...more })
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: by.publicKey.export({ format: 'jwk' }) as jose.JWK })
      .setIssuedAt()
      .sign(by.privateKey)
  const dpop = { role: { dpop: 'required' } }

  test('is given with a proof for the token endpoint', async () => {
    const { server, test } = await opened({ grant: 'client_credentials' }, dpop)
    const parameters = { dpop: await proofFor(`${server.url}/token`) }
    const credential = await test.credential({ grant: { ...(await bound()), parameters } })
    expect(credential.tokenType).toBe('DPoP')
    expect(await server.introspect(tokenOf(credential))).toMatchObject({ jkt: await thumbprintOf(key.publicKey) })
  })

  test('is not given without one, with one by another key, or with one for another place', async () => {
    const { server, test } = await opened({ grant: 'client_credentials' }, dpop)
    const url = `${server.url}/token`
    const proofs = [
      undefined,
      7,
      'x.y.z',
      await proofFor(url, { by: newEcKey() }),
      await proofFor('https://other.example/token'),
      await proofFor(url, { more: { htm: 'GET' } }),
    ]
    for (const proof of proofs)
      expect(await test.outcome({ grant: { ...(await bound()), parameters: { dpop: proof } } })).toBe('PARAMETERS')
    expect(server.granted()).toBe(0)
  })

  test.each([
    ['a token of another type', 'opaque', 'Bearer', 'EXCHANGE_WIDER'],
    ['a JWT that is bound to another key', { cnf: { jkt: 'another' } }, 'DPoP', 'EXCHANGE_WIDER'],
    ['a JWT that is bound to no key', {}, 'DPoP', 'EXCHANGE_WIDER'],
    ['a JWT that is bound to the key', { cnf: { jkt: 'bound' } }, 'DPoP', 'OK'],
    ['one that cannot be read', 'opaque', 'DPoP', 'OK'],
  ])('%s', async (_, what, token_type, code) => {
    const grant = await bound()
    const claims = JSON.stringify(what).replace('bound', grant.keyThumbprint)
    const access_token = typeof what === 'string' ? what : `e30.${Buffer.from(claims).toString('base64url')}.c2ln`
    const provider = stack.use(await startProvider())
    provider.answer = () => ({ status: 200, body: { access_token, token_type, expires_in: 60 } })
    const [token_url, revocation_url] = [`${provider.url}/token`, `${provider.url}/revoke`]
    const { test } = await opened({ grant: 'client_credentials', token_url, revocation_url }, dpop)
    const parameters = { dpop: await proofFor(token_url) }
    expect(await test.outcome({ grant: { ...grant, parameters } })).toBe(code)
    const revoked = provider.asked.flatMap(({ url, body }) => (url === '/revoke' ? new URLSearchParams(body).get('token') : []))
    expect(revoked).toEqual(code === 'OK' ? [] : [access_token])
  })

  test('a nonce that the server wants is told', async () => {
    const { server, test } = await opened({ grant: 'client_credentials' }, { ...dpop, server: { nonces: true } })
    const url = `${server.url}/token`
    const verdict = await test.issue({ grant: { ...(await bound()), parameters: { dpop: await proofFor(url) } } })
    const nonce = /with the nonce (\S+)$/.exec(verdict.ok ? '' : verdict.detail)?.[1]
    const parameters = { dpop: await proofFor(url, { more: { nonce } }) }
    expect(await test.outcome({ grant: { ...(await bound()), parameters } })).toBe('OK')
  })
})

const thumbprintOf = (key: KeyObject) => jose.calculateJwkThumbprint(key.export({ format: 'jwk' }) as jose.JWK)
