import { createPublicKey, randomBytes, verify } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { duration, parseFields } from '../../engine/fields.ts'
import { Secret } from '../../engine/secret.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { PLACES } from '../../engine/vault/provision.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { type EngineVault, openEngineVault, unavailable } from './engine_vault_world.ts'

// What the fakes of test/fakes/vault.ts pretend of state and keys, asked of a real server.

let here: EngineVault
let store: Store
beforeAll(async () => {
  here = await openEngineVault()
})
beforeEach(() => {
  store = here.newStore()
})
afterAll(() => here[Symbol.asyncDispose]())

describe('durations', () => {
  const field = { ttl: duration('How long.') }
  const ours = (raw: unknown) => {
    try {
      return parseFields(field, { ttl: raw }).values.ttl
    } catch {
      return 'refused'
    }
  }
  const theirs = async (raw: unknown) => {
    const { status } = await here.vault.api('POST', 'auth/approle/role/durations', { token_ttl: raw })
    if (status === 400) return 'refused'
    return (await here.done('GET', 'auth/approle/role/durations')).data.token_ttl as number
  }
  const taken = [
    900,
    '900',
    '00',
    '',
    '15m',
    '1h30m',
    '1.5h',
    '.5h',
    '5.h',
    '0.7h',
    '+5s',
    '1d',
    '365d',
    '1500ms',
    '999ms',
    '1ms500us',
    '5µs',
    '5ns',
    '1m1m',
  ]
  const not = ['-5s', '1.5d', '1d12h', '1w', '1y', '90.5', ' 15m', '15m ', '1H', '1e3', '0x10', '1_000', 'm', 'soon', 90.5, true]
  test.each([...taken, ...not])('%j is to us what it is to Vault', async raw => expect(ours(raw)).toBe(await theirs(raw)))
})

describe('state in KV', () => {
  test('is created once, replaced by version, listed and deleted', async () => {
    await store.put('live/a', { n: 1 }, 0)
    await expect(store.put('live/a', { n: 2 }, 0)).rejects.toMatchObject({ code: 'conflict' })
    await store.put('live/a', { n: 2 }, 1)
    await expect(store.put('live/a', { n: 3 }, 1)).rejects.toMatchObject({ code: 'conflict' })
    expect(await store.get('live/a')).toEqual({ value: { n: 2 }, version: 2 })
    await store.put('live/sub/b', {})
    expect(await store.list('live/')).toEqual(['a', 'sub/'])
    expect(await store.list('live/none/')).toEqual([])
    await store.deleteAll('live/')
    expect(await store.list('live/')).toEqual([])
    await store.put('live/a', { n: 4 }, 0)
  })

  test('is raced for by twenty: one wins', async () => {
    const puts = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => here.newStore().put('live/race', { n }, 0)))
    expect(puts.filter(one => one.status === 'fulfilled')).toHaveLength(1)
    for (const put of puts) if (put.status === 'rejected') expect(put.reason).toMatchObject({ code: 'conflict' })
  })

  test('that another replica changed is seen after five seconds at the latest', async () => {
    const other = here.newStore()
    await store.put('live/fresh', { n: 1 })
    await other.get('live/fresh')
    await store.put('live/fresh', { n: 2 })
    expect(await store.get('live/fresh')).toMatchObject({ value: { n: 2 } })
    expect(await other.get('live/fresh')).toMatchObject({ value: { n: 1 } })
    here.world.pass(5001)
    expect(await other.get('live/fresh')).toMatchObject({ value: { n: 2 } })
  })

  test('whose engine is not there is not absent', async () => {
    const root = openOwn(here.client, { ...here.session, token: () => new Secret(here.vault.rootToken) }, here.world.log)
    const gone = openStore(root, 'gone', here.world.monotonic)
    for (const ask of [() => gone.fresh('a'), () => gone.list('a/'), () => gone.put('a', {}), () => gone.delete('a')])
      await expect(ask()).rejects.toEqual(unavailable)
  })

  test('in a mount that wants the version with every write is written with the one that is there', async () => {
    await here.done('POST', `${PLACES.kv}/config`, { cas_required: true })
    for (const one of [1, 2]) await store.put('unversioned', { one })
    expect(await store.fresh('unversioned')).toEqual({ value: { one: 2 }, version: 2 })
    await store.put('versioned', { one: 1 }, 0)
    await expect(store.put('versioned', { one: 2 }, 0)).rejects.toMatchObject({ code: 'conflict' })
    await here.done('POST', `${PLACES.kv}/config`, { cas_required: false })
  })

  test('that somebody deleted or wrote by hand cannot be read: never taken for ours, nor for absent', async () => {
    await store.put('live/by-hand', {})
    await here.done('DELETE', 'assay/data/live/by-hand')
    await expect(store.fresh('live/by-hand')).rejects.toThrow('a record of this service was deleted at vault')
    await here.done('POST', 'assay/undelete/live/by-hand', { versions: [1] })
    expect(await store.fresh('live/by-hand')).toEqual({ value: {}, version: 1 })
    await here.done('POST', 'assay/destroy/live/by-hand', { versions: [1] })
    await expect(store.fresh('live/by-hand')).rejects.toEqual(unavailable)
    await store.delete('live/by-hand')
    expect(await store.fresh('live/by-hand')).toBeUndefined()
    await here.done('POST', 'assay/data/live/by-hand', { data: { other: 'shape' } })
    await expect(store.fresh('live/by-hand')).rejects.toEqual(unavailable)
  })
})

describe('keys in transit', () => {
  const KEY = 'assay-live'
  const fresh = async () => {
    here.world.pass(5001)
    return here.signer.key(KEY)
  }

  test('sign by the version that is named, under twenty rotations at the same time', async () => {
    await here.signer.create(KEY)
    const issued: { kid: string; input: Buffer; signature: Buffer }[] = []
    const sign = async () => {
      const { latest } = await here.signer.key(KEY)
      const input = randomBytes(64)
      issued.push({ kid: latest.kid, input, signature: await here.signer.sign(KEY, latest.version, input) })
    }
    const rotations = Promise.all(Array.from({ length: 20 }, () => here.signer.rotate(KEY)))
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 20 }, sign))
    await rotations
    await sign()
    const { versions } = await here.signer.key(KEY)
    expect(versions).toHaveLength(21)
    expect(issued.at(-1)?.kid).toBe(versions.find(({ version }) => version === 21)?.kid)
    const pem = new Map(versions.map(version => [version.kid, createPublicKey(version.publicPem)]))
    for (const { kid, input, signature } of issued) {
      const key = pem.get(kid)
      expect(key && verify('sha256', input, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true)
    }
  })

  test('of a version that is not to sign any more do not', async () => {
    const before = await here.signer.key(KEY)
    await here.done('POST', `transit/keys/${KEY}/config`, { min_encryption_version: 21, min_decryption_version: 21 })
    await expect(here.signer.sign(KEY, 1, randomBytes(9))).rejects.toEqual(unavailable)
    await expect(here.signer.sign(KEY, 99, randomBytes(9))).rejects.toEqual(unavailable)
    expect(before.versions).toHaveLength(21)
    expect((await here.signer.key(KEY)).versions.map(one => one.version)).toEqual([21])
    expect(await here.signer.sign(KEY, 21, randomBytes(9))).toHaveLength(64)
  })

  test('of another type, or that may leave, are not used', async () => {
    for (const type of ['ed25519', 'ecdsa-p384', 'rsa-2048', 'aes256-gcm96']) {
      await here.done('POST', `transit/keys/assay-${type}`, { type })
      await expect(here.signer.key(`assay-${type}`)).rejects.toEqual(unavailable)
    }
    await here.done('POST', `transit/keys/${KEY}/config`, { exportable: true })
    await expect(fresh()).rejects.toThrow('can be exported')
    await here.done('POST', 'transit/keys/assay-backup', { type: 'ecdsa-p256', allow_plaintext_backup: true })
    await expect(here.signer.key('assay-backup')).rejects.toThrow('can be exported')
  })

  test('that were destroyed are gone', async () => {
    await here.signer.destroy(KEY)
    await expect(here.signer.key(KEY)).rejects.toThrow('does not exist')
    await expect(here.signer.sign(KEY, 21, randomBytes(9))).rejects.toEqual(unavailable)
  })
})
