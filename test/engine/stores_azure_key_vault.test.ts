import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import type { Reader } from '../../engine/stores/reader.ts'
import { type KeyVault, startKeyVault } from '../fakes/key_vault.ts'
import { CANARY, fault, opened, revealed, troubled, troubles, world } from './remote_stores.ts'

describe('Azure Key Vault', () => {
  let vault: KeyVault
  let reads: Reader
  const open = (more: object = {}) =>
    opened(
      'azure_key_vault',
      { vault_url: vault.url, authority: vault.url, tenant_id: vault.tenant, client_id: vault.client.id, ...more },
      { client_secret: vault.client.secret },
    )
  const keep = (value: string, attributes: object = {}) =>
    vault.secrets.set('root', { version: 'v1', value, attributes: { enabled: true, ...attributes } })
  beforeEach(async () => {
    vault = await startKeyVault()
    keep(JSON.stringify({ api_key: CANARY }))
    reads = open()
  })
  afterEach(async () => {
    await reads.close()
    await vault[Symbol.asyncDispose]()
  })

  test('is read after its challenge was answered at the configured authority; the token serves again', async () => {
    expect(revealed((await reads.fresh('root')).fields)).toEqual({ api_key: CANARY })
    await reads.fresh('root')
    expect(vault.arrived.map(({ method, path }) => `${method} ${path.replace(vault.tenant, 'tenant')}`)).toEqual([
      'GET /secrets/root',
      'POST /tenant/oauth2/v2.0/token',
      'GET /secrets/root',
      'GET /secrets/root',
    ])
    // asked without a token, it learns nothing
    expect(vault.arrived[0]?.headers.authorization).toBeUndefined()
  })

  test('a text that is no object is the field value; version and expiry come with it', async () => {
    const exp = Math.floor(world.now() / 1000) + 3600
    keep(CANARY, { exp })
    const { fields, version, expiresAt } = await reads.fresh('root')
    expect([revealed(fields), version, expiresAt]).toEqual([{ value: CANARY }, 'v1', exp])
  })

  test('a token that it does not take any more is replaced', async () => {
    await reads.fresh('root')
    vault.tokens.clear()
    expect(revealed((await reads.fresh('root')).fields)).toEqual({ api_key: CANARY })
  })

  test('the token serves until a minute before its end', async () => {
    const tokens = () => vault.arrived.filter(({ method }) => method === 'POST').length
    await reads.fresh('root')
    world.pass((3599 - 60) * 1000 - 1)
    await reads.fresh('root')
    expect([tokens(), vault.arrived.length]).toEqual([1, 4])
    world.pass(1)
    await reads.fresh('root')
    // asked anew without one first, as the vault may have moved
    expect([tokens(), vault.arrived.length]).toEqual([2, 7])
    expect(vault.arrived[4]?.headers.authorization).toBeUndefined()
  })

  test.each([
    ['that it refuses the broker', { status: 400, body: { error: 'invalid_request', error_description: CANARY } }, 'denied'],
    ['a token without a life', { status: 200, body: { access_token: 'token-a' } }, 'malformed'],
    ['a token of no life', { status: 200, body: { access_token: 'token-a', expires_in: 0 } }, 'malformed'],
    ['a token of a life that is no number', { status: 200, body: { access_token: 'token-a', expires_in: '3599' } }, 'malformed'],
    ['no token', { status: 200, body: { expires_in: 3599 } }, 'malformed'],
    ['an empty token', { status: 200, body: { access_token: '', expires_in: 3599 } }, 'malformed'],
  ])('an authority that says %s is believed', async (_, said, kind) => {
    vault.trouble = ({ path }) => (path.endsWith('/token') ? said : undefined)
    expect((await fault(reads.fresh('root'))).kind).toBe(kind)
    expect(vault.arrived).toHaveLength(2)
  })

  test.each([
    [
      'the domain of somebody else',
      () => {
        vault.resource = 'https://vault.evil.example'
      },
      'the challenge of the store is for another domain than its own',
    ],
    [
      'another tenant',
      () => {
        vault.challengeTenant = '00000000-0000-0000-0000-000000000000'
      },
      'the store belongs to another tenant than the configured one',
    ],
  ] as const)('a challenge for %s gets no token', async (_, change, reason) => {
    change()
    expect(await fault(reads.fresh('root'))).toEqual({ kind: 'denied', reason })
    expect(vault.arrived.filter(({ method }) => method === 'POST')).toEqual([])
  })

  test('one that answers without a challenge is no key vault', async () => {
    vault.trouble = () => ({
      status: 200,
      body: { value: CANARY, id: `${vault.url}/secrets/root/v1`, attributes: { enabled: true } },
    })
    expect(await fault(reads.fresh('root'))).toEqual({
      kind: 'malformed',
      reason: 'the store answered without asking for a token',
    })
  })

  test.each([
    ['disabled', { enabled: false }, 'denied'],
    ['expired', { exp: 1 }, 'denied'],
    ['of an unreadable expiry', { exp: 'soon' }, 'malformed'],
    ['of an expiry after all days', { exp: Number.MAX_SAFE_INTEGER }, 'malformed'],
  ])('a secret that is %s is none', async (_, attributes, kind) => {
    keep(CANARY, attributes)
    expect((await fault(reads.fresh('root'))).kind).toBe(kind)
  })

  test('wrong credentials of the broker are told without them', async () => {
    vault.client.secret = 'another'
    expect((await fault(reads.fresh('root'))).kind).toBe('denied')
  })

  test('is written when nobody changed it, and not when somebody did', async () => {
    await reads.replace('root', { fields: { api_key: new Secret('next') } }, 'v1')
    expect(vault.secrets.get('root')?.value).toBe('{"api_key":"next"}')
    expect((await fault(reads.replace('root', { fields: { api_key: new Secret('late') } }, 'v1'))).kind).toBe('conflict')
    expect(vault.secrets.get('root')?.value).toBe('{"api_key":"next"}')
  })

  test('is written with its end, where it has one', async () => {
    const exp = Math.floor(world.now() / 1000) + 3600
    await reads.replace('root', { fields: { value: new Secret('next') }, expiresAt: exp }, 'v1')
    expect(vault.secrets.get('root')).toMatchObject({ value: 'next', attributes: { enabled: true, exp } })
    const { version } = await reads.fresh('root')
    await reads.replace('root', { fields: { value: new Secret('last') } }, version)
    expect(vault.secrets.get('root')?.attributes).toEqual({ enabled: true })
  })

  test('is made where there is none, and only there', async () => {
    await reads.replace('made', { fields: { value: new Secret('first') } }, '')
    expect(vault.secrets.get('made')?.value).toBe('first')
    expect((await fault(reads.replace('made', { fields: { value: new Secret('second') } }, ''))).kind).toBe('conflict')
    expect((await fault(reads.replace('none', { fields: { value: new Secret('first') } }, 'v1'))).kind).toBe('conflict')
  })

  test('is not written when it cannot be seen what is there', async () => {
    await reads.fresh('root')
    vault.trouble = ({ method }) => (method === 'GET' ? { status: 403, body: {} } : undefined)
    expect((await fault(reads.replace('root', { fields: { value: new Secret('next') } }, ''))).kind).toBe('denied')
    expect(vault.arrived.map(({ method }) => method)).not.toContain('PUT')
  })

  test.each([
    ['another secret', () => `${vault.url}/secrets/other/v1`],
    ['a secret elsewhere', () => 'https://other.example/secrets/root/v1'],
    ['a key of this name', () => `${vault.url}/keys/root/v1`],
    ['no version of it', () => `${vault.url}/secrets/root`],
    ['nothing that can be read', () => 'http://['],
  ])('the answer about %s is not taken', async (_, id) => {
    await reads.fresh('root')
    vault.trouble = () => ({ status: 200, body: { value: CANARY, id: id(), attributes: { enabled: true } } })
    expect((await fault(reads.fresh('root'))).reason).toBe('the answer is about another secret')
  })

  describe('nothing is taken from one that, asked with a token,', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(vault, reads, 'root', trouble, kind))
  })
})
