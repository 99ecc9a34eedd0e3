import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const ROLE = { plugins: 'a,b', actions: 'deploy', audiences: 'c' }
const write = (name: string, data: object = ROLE) => broker.ask('update', `broker/role/${name}`, data)
const read = async (name: string) => dataOf(await broker.ask('read', `broker/role/${name}`)) as Record<string, unknown>

describe('a record', () => {
  test('keeps what a later write leaves out, and takes what it gives', async () => {
    await write('ci', { ...ROLE, ttl: '10m', scopes: 'x' })
    await write('ci', { ttl: '5m', scopes: [] })
    expect(await read('ci')).toMatchObject({ plugins: ['a', 'b'], ttl: 300, scopes: [], max_ttl: 3600, attestation: 'login' })
  })

  test('that another replica wrote just now is there: who may only create does not change it', async () => {
    await using other = await openTestBroker({ beside: broker })
    expect(await outcomeOf(other.ask('read', 'broker/role/ci'))).toBe('not_found')
    await write('ci')
    const token = broker.vault.token({ allow: () => ['create'] })
    expect(await outcomeOf(other.ask('update', 'broker/role/ci', { actions: 'delete' }, { token }))).toBe('permission_denied')
    expect(await read('ci')).toMatchObject({ actions: ['deploy'] })
  })

  test('has to be whole when it is written first', async () => {
    await expect(write('ci', { plugins: 'a', actions: 'deploy' })).rejects.toThrow('audiences: wanted at least one')
    expect(await outcomeOf(read('ci'))).toBe('not_found')
  })

  test('that would make no sense stays as it was', async () => {
    await write('ci')
    expect(await outcomeOf(write('ci', { ttl: '10m', max_ttl: '5m' }))).toBe('bad_request')
    expect(await read('ci')).toMatchObject({ ttl: 0, max_ttl: 3600 })
  })

  test('is listed by name, and gone when it was deleted, also twice', async () => {
    for (const name of ['b', 'a', 'c.d-e_f']) await write(name)
    expect(dataOf(await broker.ask('list', 'broker/role'))).toEqual({ keys: ['a', 'b', 'c.d-e_f', 'deploy'] })
    await broker.ask('delete', 'broker/role/b')
    await broker.ask('delete', 'broker/role/b')
    expect(dataOf(await broker.ask('list', 'broker/role'))).toEqual({ keys: ['a', 'c.d-e_f', 'deploy'] })
  })

  const names = [
    'CI',
    'ci ',
    ' ci',
    'a b',
    '-a',
    'a-',
    '.',
    '..',
    'a\u0301',
    'é',
    'a:b',
    'a'.repeat(129),
    '',
    'a\0',
    'a/b',
    '__proto__',
  ]
  test.each(names)('cannot be called %j, to write, read or delete it', async name => {
    for (const operation of ['update', 'read', 'delete'] as const) {
      const asked = broker.ask(operation, `broker/role/${name}`, ROLE)
      expect(['bad_request', 'unsupported_path'], operation).toContain(await outcomeOf(asked))
      await asked.catch((error: Error) => expect(name.length > 2 && error.message.includes(name)).toBe(false))
    }
  })

  test('written twice at the same time: one write stands, the other hears of it', async () => {
    await write('ci')
    const ends = await Promise.all(['1m', '2m', '3m'].map(ttl => outcomeOf(write('ci', { ttl }))))
    expect(ends.filter(end => end === 'OK').length).toBeGreaterThan(0)
    expect(ends.filter(end => !['OK', 'conflict'].includes(end))).toEqual([])
  })

  test('of one mount is none of another', async () => {
    await broker.sys('POST', 'sys/mounts/other', { type: 'broker' })
    await write('ci')
    expect(await outcomeOf(broker.ask('read', 'other/role/ci'))).toBe('not_found')
    expect(dataOf(await broker.ask('list', 'other/role'))).toEqual({ keys: [] })
  })
})

describe('the record of a mount', () => {
  test('is as its fields say before it was written, and keeps what is left out', async () => {
    await broker.sys('POST', 'sys/auth/other', { type: 'tpm-quote' })
    const config = async () => dataOf(await broker.ask('read', 'auth/other/config')) as Record<string, unknown>
    const fresh = {
      enrollment: 'listed',
      ek_types: ['rsa-2048'],
      allow_software_tpms: false,
      challenge_ttl: 60,
      allowed_makers: [],
    }
    expect(await config()).toMatchObject(fresh)
    await broker.ask('update', 'auth/other/config', { challenge_ttl: '30s' })
    await broker.ask('update', 'auth/other/config', { enrollment: 'any' })
    expect(await config()).toMatchObject({ ...fresh, enrollment: 'any', challenge_ttl: 30 })
  })
})

describe('a role of the auth mount', () => {
  const role = (operation: 'update' | 'read' | 'delete', data = {}) => broker.ask(operation, 'auth/tpm-quote/role/ci', data)
  const native = () => broker.vault.state.jwt.get('tpm-quote')?.roles.get('ci')

  test('is two: which machines is ours, what their tokens may is Vault’s, which alone keeps it', async () => {
    await role('update', { references: 'good', token_policies: 'a,b', token_ttl: '20m', token_type: 'batch', revocable: false })
    expect(native()).toMatchObject({
      token_policies: ['a', 'b'],
      token_ttl: '20m',
      token_type: 'batch',
      role_type: 'jwt',
      bound_claims: { login_role: 'ci' },
    })
    expect(dataOf(await role('read'))).toMatchObject({ references: ['good'], token_policies: ['a', 'b'] })
    const [, kept] = [...broker.vault.state.kv].find(([path]) => path.endsWith('/role/ci')) ?? []
    expect(JSON.stringify(kept)).not.toContain('token_')
    await role('delete')
    expect(native()).toBeUndefined()
    expect(await outcomeOf(role('read'))).toBe('not_found')
  })

  test('that makes no sense reaches neither', async () => {
    expect(await outcomeOf(role('update', { references: 'none', token_ttl: '20m' }))).toBe('bad_request')
    expect([native(), await outcomeOf(role('read'))]).toEqual([undefined, 'not_found'])
  })

  test('is written with the operator’s token, not with ours', async () => {
    const token = broker.vault.token()
    await broker.ask('update', 'auth/tpm-quote/role/ci', { references: 'good' }, { token })
    const asked = broker.vault.asked.filter(one => one.path === 'auth/tpm-quote/role/ci')
    expect(new Set(asked.map(one => one.token))).toEqual(new Set([token]))
  })
})
