import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { outcome } from './integration_world.ts'
import { rotationWorld } from './rotation_world.ts'

// Refresh tokens of clients that are not known by what `rotation_refresh.test.ts` has: a server that asks who comes, and gives the next one to who has the last.
const world = rotationWorld()

function serve(): { readonly url: string; readonly forms: Record<string, string>[]; current: string } {
  const served = { url: world.provider.url, forms: [] as Record<string, string>[], current: 'canary-0' }
  world.answer = ({ path, body }) => {
    const form = Object.fromEntries(new URLSearchParams(body))
    served.forms.push({ path, ...form })
    if (form['refresh_token'] !== served.current) return { status: 400, body: { error: 'invalid_grant' } }
    served.current = `canary-${served.forms.length}`
    const given = { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, refresh_token: served.current }
    return { status: 200, body: given }
  }
  return served
}

describe('a refresh token of a client that proves itself by a key', () => {
  const settings = (url: string) => ({
    token_url: `${url}/token`,
    grant: 'refresh_token',
    client_id: 'broker',
    client_auth: 'private_key_jwt',
  })

  test('is replaced, each time with another JWT that the key of the mount signed', async () => {
    const served = serve()
    await world.write({ type: 'oauth2', settings: settings(served.url), secrets: { refresh_token: 'canary-0' } })
    for (const _ of [1, 2]) expect(await world.rotate()).toMatchObject({ state: 'done' })
    expect(await world.root()).toEqual({ refresh_token: 'canary-2' })
    const { mounts, issue } = world.broker.broker
    const mount = mounts.find('broker/x')
    const keys = createLocalJWKSet((mount && (await issue.keys.jwks(mount))) as JSONWebKeySet)
    const currentDate = new Date(world.broker.world.now())
    const checks = { issuer: 'broker', subject: 'broker', audience: `${served.url}/token`, currentDate, algorithms: ['ES256'] }
    const proofs = await Promise.all(
      served.forms.map(async form => {
        expect(form['client_assertion_type']).toBe('urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
        return (await jwtVerify(form['client_assertion'] ?? '', keys, checks)).payload.jti
      }),
    )
    expect(new Set(proofs).size).toBe(2)
  })
})

describe('a refresh token of Entra', () => {
  const record = (url: string) => ({
    type: 'azure',
    settings: { authority: url, tenant_id: 'tenant', client_id: 'app', auth: 'refresh_token' },
    secrets: { client_secret: 'canary-client', refresh_token: 'canary-0' },
  })

  test('is replaced at the token endpoint of the tenant, and may be on schedule', async () => {
    const served = serve()
    await world.write({ ...record(served.url), rotate_every: '1d' })
    world.broker.world.pass(86_400_000)
    await world.upkeep()
    expect(await world.root()).toEqual({ client_secret: 'canary-client', refresh_token: 'canary-1' })
    expect(served.forms).toEqual([
      {
        path: '/tenant/oauth2/v2.0/token',
        grant_type: 'refresh_token',
        refresh_token: 'canary-0',
        client_id: 'app',
        client_secret: 'canary-client',
      },
    ])
  })

  test('that Entra does not take stays', async () => {
    const served = serve()
    await world.write(record(served.url))
    served.current = 'another'
    expect(await outcome(world.rotate())).toBe('it: invalid_grant: the refresh token was not replaced')
    expect(await world.root()).toMatchObject({ refresh_token: 'canary-0' })
  })

  test('of an application that has none has no rotator', async () => {
    const { settings } = record(world.provider.url)
    await world.write({ type: 'azure', settings: { ...settings, auth: 'secret' }, secrets: { client_secret: 'canary' } })
    expect(await outcome(world.rotate())).toBe('nothing can rotate this kind of root credential: write the next one into secrets')
  })
})
