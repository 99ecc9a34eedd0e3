import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { athOf } from '../../agent/dpop.ts'
import * as flow from '../../agent/flow.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { AUDIENCE, ask, auditOf, done, logIn, ROLE } from './world.ts'

let world: EnrolledWorld
let attester: Attester
let token: string
let tpmId: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ attester, tpmId } = world)
  token = await logIn(world.service, attester)
})
afterAll(() => world?.[Symbol.asyncDispose]())

const issuer = () => `${world.door.address}/v1/broker`
const ask_ = { role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: ['apps:write', 'apps:read'] }
const creds = (asked: Partial<flow.CredsRequest> = {}, as = token) => flow.creds(world.service, { ...ask_, ...asked }, as)
const write = (path: string, body: object) => done(world.api('POST', path, body))
const claimsOf = (jwt: string) => jose.decodeJwt(jwt)

describe('what is issued', () => {
  test('is an access token as RFC 9068 wants it, bound to the key of the machine', async () => {
    const before = Math.floor(Date.now() / 1000)
    const { data, token: jwt } = await creds({ ttl: '5m' })
    const after = Date.now() / 1000
    const { thumbprint } = await attester.boundKey()
    const { kid, ...header } = jose.decodeProtectedHeader(jwt)
    expect(header).toEqual({ alg: 'ES256', typ: 'at+jwt' })
    const claims = claimsOf(jwt)
    expect(claims).toEqual({
      iss: issuer(),
      sub: 'kubernetes',
      aud: AUDIENCE,
      client_id: tpmId,
      scope: 'apps:read apps:write',
      action: 'deploy',
      iat: expect.any(Number) as number,
      exp: Number(claims.iat) + 300,
      jti: expect.stringMatching(/^[\w-]{22}$/) as string,
      txn: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      cnf: { jkt: thumbprint },
    })
    expect(claims.iat).toBeGreaterThanOrEqual(before)
    expect(claims.iat).toBeLessThanOrEqual(after)
    const { jti, txn } = claims
    expect(data).toEqual({
      token: jwt,
      token_type: 'DPoP',
      expires_in: 300,
      expires_at: new Date(Number(claims.exp) * 1000).toISOString(),
      renew_at: new Date((Number(claims.iat) + 200) * 1000).toISOString(),
      scope: 'apps:read apps:write',
      plugin: 'kubernetes',
      action: 'deploy',
      audience: AUDIENCE,
      kid,
      jti,
      txn,
    })
  })

  test('no two are the same', async () => {
    const many = await Promise.all(Array.from({ length: 20 }, () => creds()))
    expect(new Set(many.map(one => claimsOf(one.token).jti)).size).toBe(20)
  })

  test('what the role leaves no choice of may be left out', async () => {
    await write('broker/role/one', { plugins: 'kubernetes', actions: 'deploy', audiences: `${AUDIENCE},https://other.example` })
    const { data } = await flow.creds(world.service, { role: 'one', scope: [] }, token)
    expect(data).toMatchObject({ plugin: 'kubernetes', action: 'deploy', audience: AUDIENCE, scope: '' })
    expect(claimsOf((data as { token: string }).token)).not.toHaveProperty('scope')
    const other = await flow.creds(world.service, { role: 'one', scope: [], audience: 'https://other.example' }, token)
    expect(claimsOf(other.token).aud).toBe('https://other.example')
  })

  test('a bearer token, when no key was bound and the role does not insist', async () => {
    await write('broker/role/lax', { ...ROLE, bind_key: 'optional' })
    await write('broker/policy/lax', { policy: 'permit (principal, action, resource) when { context.role == "lax" };' })
    const unbound = await logIn(world.service, attester, { bind: false })
    const { data, token: jwt } = await creds({ role: 'lax' }, unbound)
    expect(data).toMatchObject({ token_type: 'Bearer' })
    expect(claimsOf(jwt)).not.toHaveProperty('cnf')
  })
})

describe('its life is the least of what bounds it', () => {
  const life = async (asked: Partial<flow.CredsRequest>, as?: string) => (await creds(asked, as)).expiresInSeconds

  test('the role’s ttl, what was asked for, the role’s max_ttl', async () => {
    await write('broker/role/deploy', { ...ROLE, ttl: '10m', max_ttl: '12m' })
    expect([await life({}), await life({ ttl: '1m30s' }), await life({ ttl: '14m' })]).toEqual([600, 90, 720])
    await write('broker/role/deploy', { ...ROLE, ttl: '15m', max_ttl: '1h' })
  })

  test('an hour, whatever is configured', async () => {
    const { status, body } = await world.api('POST', 'broker/role/deploy', { ...ROLE, max_ttl: '61m' })
    expect({ status, ...body }).toEqual({ status: 400, errors: ['max_ttl: wanted at most 3600 seconds'] })
    await write('auth/tpm-quote/role/long', { references: 'good', token_policies: 'builder', token_ttl: '8h' })
    await write('broker/policy/long', { policy: 'permit (principal, action, resource) when { principal.role == "long" };' })
    const long = await logIn(world.service, attester, { role: 'long' })
    expect(await life({ ttl: '3h' }, long)).toBe(3600)
  })

  test('the rest of the token’s life', async () => {
    await write('auth/tpm-quote/role/short', { references: 'good', token_policies: 'builder', token_ttl: '100s' })
    await write('broker/policy/short', { policy: 'permit (principal, action, resource) when { principal.role == "short" };' })
    const began = Date.now()
    const short = await logIn(world.service, attester, { role: 'short' })
    const left = await life({}, short)
    const tookSeconds = (Date.now() - began) / 1000
    expect(left).toBeLessThanOrEqual(100)
    // both ends are whole seconds
    expect(left).toBeGreaterThanOrEqual(100 - tookSeconds - 2)
  })
})

describe('relying parties verify it with stock libraries', () => {
  const insecure = { [oauth.allowInsecureRequests]: true }
  const discovered = async () =>
    oauth.processDiscoveryResponse(new URL(issuer()), await oauth.discoveryRequest(new URL(issuer()), insecure))
  const request = (jwt: string, dpop?: string, scheme = 'DPoP') =>
    new Request('https://api.example.com/apps', {
      method: 'POST',
      headers: { authorization: `${scheme} ${jwt}`, ...(dpop ? { dpop } : {}) },
    })
  const validate = async (sent: Request, audience = AUDIENCE) =>
    oauth.validateJwtAccessToken(await discovered(), sent, audience, insecure)
  const proof = (jwt: string, htu = 'https://api.example.com/apps') => attester.dpopProof({ htm: 'POST', htu, ath: athOf(jwt) })

  test('oauth4webapi: by discovery, with a proof by the key in the TPM', async () => {
    const { token: jwt } = await creds()
    expect(await validate(request(jwt, await proof(jwt)))).toMatchObject({ sub: 'kubernetes', scope: 'apps:read apps:write' })
  })

  test('not without the proof, as bearer, for another request, with another token’s proof, or for another audience', async () => {
    const [{ token: jwt }, { token: other }] = await Promise.all([creds(), creds()])
    await expect(validate(request(jwt))).rejects.toThrow()
    await expect(validate(request(jwt, undefined, 'Bearer'))).rejects.toThrow()
    await expect(validate(request(jwt, await proof(jwt, 'https://api.example.com/other')))).rejects.toThrow(/htu/)
    await expect(validate(request(jwt, await proof(other)))).rejects.toThrow(/ath|mismatch/)
    await expect(validate(request(jwt, await proof(jwt)), 'https://other.example')).rejects.toThrow(/aud/)
  })

  test('jose: with the JWKS of the discovery document', async () => {
    const { token: jwt, data } = await creds()
    const { jwks_uri } = await discovered()
    const keys = jose.createRemoteJWKSet(new URL(String(jwks_uri)), { timeoutDuration: PATIENCE_MS })
    const verified = await jose.jwtVerify(jwt, keys, {
      issuer: issuer(),
      audience: AUDIENCE,
      typ: 'at+jwt',
      algorithms: ['ES256'],
    })
    expect(verified.protectedHeader.kid).toBe((data as { kid: string }).kid)
    const [head, body, signature = ''] = jwt.split('.')
    const forged = `${head}.${body}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`
    await expect(jose.jwtVerify(forged, keys)).rejects.toThrow(/signature/)
  })

  test('the documents need no token and name no private key', async () => {
    const { status, body } = await ask(world.door.address, 'GET', 'broker/.well-known/jwks.json')
    expect(status).toBe(200)
    for (const key of body.keys as object[])
      expect(Object.keys(key).toSorted()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
    expect((await ask(world.door.address, 'GET', 'broker/.well-known/openid-configuration')).body.issuer).toBe(issuer())
  })

  test('an issuer that is configured is the one in token and documents', async () => {
    await write('broker/config', { issuer: 'https://assay.example/v1/broker' })
    expect(claimsOf((await creds()).token).iss).toBe('https://assay.example/v1/broker')
    const { body } = await ask(world.door.address, 'GET', 'broker/.well-known/openid-configuration')
    expect(body).toMatchObject({
      issuer: 'https://assay.example/v1/broker',
      jwks_uri: 'https://assay.example/v1/broker/.well-known/jwks.json',
    })
    await write('broker/config', { issuer: '' })
  })
})

test('wrapped, and unwrapped once', async () => {
  const wrapped = await world.door.vault(
    [
      'write',
      '-wrap-ttl=1m',
      '-field=wrapping_token',
      'broker/creds/deploy',
      'plugin=kubernetes',
      'action=deploy',
      'scope=apps:read',
    ],
    { env: { VAULT_TOKEN: token } },
  )
  expect(wrapped.stdout).toMatch(/^hvs\./)
  const opened = await world.operator(['unwrap', '-field=token', wrapped.stdout.trim()])
  expect(claimsOf(opened.trim()).sub).toBe('kubernetes')
  expect((await world.door.vault(['unwrap', wrapped.stdout.trim()])).code).toBe(2)
})

test('the intent is on record before the credential, the outcome after it, and neither holds the credential or the token', async () => {
  const { token: jwt } = await creds({ ttl: '5m' })
  const { txn, jti } = claimsOf(jwt)
  const mine = async () => (await auditOf(world.door.auditFile)).filter(one => one['txn'] === txn)
  await until('the outcome', async () => (await mine()).length === 2)
  expect(await mine()).toMatchObject([
    { type: 'intent', jti, tpm_id: tpmId, plugin: 'kubernetes', scope: ['apps:read', 'apps:write'], ttl_seconds: 300 },
    { type: 'outcome', jti, result: 'issued' },
  ])
  const log = JSON.stringify(await auditOf(world.door.auditFile)) + world.door.server.output()
  for (const secret of [jwt, token]) expect(log).not.toContain(secret.split('.').at(-1))
})
