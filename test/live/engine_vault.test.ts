import { createPublicKey, randomBytes, verify } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { duration, parseFields } from '../../engine/fields.ts'
import { Secret } from '../../engine/secret.ts'
import { type Authority, type Capability, openAuthority } from '../../engine/vault/authority.ts'
import { type Vault as Client, openVault } from '../../engine/vault/client.ts'
import { type OwnVault, openOwn } from '../../engine/vault/own.ts'
import { PLACES, provision } from '../../engine/vault/provision.ts'
import { openSession, type Session } from '../../engine/vault/session.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { openSigner, type Signer } from '../../engine/vault/transit.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'

// What the fakes of test/fakes/vault.ts pretend, asked of a real server.

const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
const denied = expect.objectContaining({ name: 'BrokerError', code: 'permission_denied' })

let vault: Vault
let client: Client
let world: TestWorld
let session: Session
let own: OwnVault
let store: Store
let signer: Signer
let authority: Authority
beforeAll(async () => {
  vault = await startVault()
  client = openVault({ address: vault.address, deadlineMs: 60_000 })
  const { roleId, secretId } = await provision(
    { address: vault.address, deadlineMs: 60_000 },
    PLACES,
    new Secret(vault.rootToken),
  )
  world = testWorld()
  session = await openSession(client, { mount: PLACES.approle, roleId, secretId: async () => secretId }, world)
  own = openOwn(client, session, world.log)
  signer = openSigner(own, PLACES.transit, world.monotonic)
  authority = openAuthority(client, own, world.monotonic)
})
beforeEach(() => {
  store = newStore()
})
afterAll(async () => {
  await session.stop()
  await client.close()
  await vault.stop()
})

const newStore = () => openStore(own, PLACES.kv, world.monotonic)
const done = async (method: string, path: string, body?: object) => {
  const { status, body: reply } = await vault.api(method, path, body)
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(reply)}`)
  return reply
}

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
    const { status } = await vault.api('POST', 'auth/approle/role/durations', { token_ttl: raw })
    if (status === 400) return 'refused'
    return (await done('GET', 'auth/approle/role/durations')).data.token_ttl as number
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
    const puts = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => newStore().put('live/race', { n }, 0)))
    expect(puts.filter(one => one.status === 'fulfilled')).toHaveLength(1)
    for (const put of puts) if (put.status === 'rejected') expect(put.reason).toMatchObject({ code: 'conflict' })
  })

  test('that another replica changed is seen after five seconds at the latest', async () => {
    const other = newStore()
    await store.put('live/fresh', { n: 1 })
    await other.get('live/fresh')
    await store.put('live/fresh', { n: 2 })
    expect(await store.get('live/fresh')).toMatchObject({ value: { n: 2 } })
    expect(await other.get('live/fresh')).toMatchObject({ value: { n: 1 } })
    world.pass(5001)
    expect(await other.get('live/fresh')).toMatchObject({ value: { n: 2 } })
  })

  test('whose engine is not there is not absent', async () => {
    const root = openOwn(client, { ...session, token: () => new Secret(vault.rootToken) }, world.log)
    const gone = openStore(root, 'gone', world.monotonic)
    for (const ask of [() => gone.fresh('a'), () => gone.list('a/'), () => gone.put('a', {}), () => gone.delete('a')])
      await expect(ask()).rejects.toEqual(unavailable)
  })

  test('in a mount that wants the version with every write is written with the one that is there', async () => {
    await done('POST', `${PLACES.kv}/config`, { cas_required: true })
    for (const one of [1, 2]) await store.put('unversioned', { one })
    expect(await store.fresh('unversioned')).toEqual({ value: { one: 2 }, version: 2 })
    await store.put('versioned', { one: 1 }, 0)
    await expect(store.put('versioned', { one: 2 }, 0)).rejects.toMatchObject({ code: 'conflict' })
    await done('POST', `${PLACES.kv}/config`, { cas_required: false })
  })

  test('that somebody deleted or wrote by hand cannot be read: never taken for ours, nor for absent', async () => {
    await store.put('live/by-hand', {})
    await done('DELETE', 'assay/data/live/by-hand')
    await expect(store.fresh('live/by-hand')).rejects.toThrow('a record of this service was deleted at vault')
    await done('POST', 'assay/undelete/live/by-hand', { versions: [1] })
    expect(await store.fresh('live/by-hand')).toEqual({ value: {}, version: 1 })
    await done('POST', 'assay/destroy/live/by-hand', { versions: [1] })
    await expect(store.fresh('live/by-hand')).rejects.toEqual(unavailable)
    await store.delete('live/by-hand')
    expect(await store.fresh('live/by-hand')).toBeUndefined()
    await done('POST', 'assay/data/live/by-hand', { data: { other: 'shape' } })
    await expect(store.fresh('live/by-hand')).rejects.toEqual(unavailable)
  })
})

describe('keys in transit', () => {
  const KEY = 'assay-live'
  const fresh = async () => {
    world.pass(5001)
    return signer.key(KEY)
  }

  test('sign by the version that is named, under twenty rotations at the same time', async () => {
    await signer.create(KEY)
    const issued: { kid: string; input: Buffer; signature: Buffer }[] = []
    const sign = async () => {
      const { latest } = await signer.key(KEY)
      const input = randomBytes(64)
      issued.push({ kid: latest.kid, input, signature: await signer.sign(KEY, latest.version, input) })
    }
    const rotations = Promise.all(Array.from({ length: 20 }, () => signer.rotate(KEY)))
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 20 }, sign))
    await rotations
    await sign()
    const { versions } = await signer.key(KEY)
    expect(versions).toHaveLength(21)
    expect(issued.at(-1)?.kid).toBe(versions.find(({ version }) => version === 21)?.kid)
    const pem = new Map(versions.map(version => [version.kid, createPublicKey(version.publicPem)]))
    for (const { kid, input, signature } of issued) {
      const key = pem.get(kid)
      expect(key && verify('sha256', input, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true)
    }
  })

  test('of a version that is not to sign any more do not', async () => {
    const before = await signer.key(KEY)
    await done('POST', `transit/keys/${KEY}/config`, { min_encryption_version: 21, min_decryption_version: 21 })
    await expect(signer.sign(KEY, 1, randomBytes(9))).rejects.toEqual(unavailable)
    await expect(signer.sign(KEY, 99, randomBytes(9))).rejects.toEqual(unavailable)
    expect(before.versions).toHaveLength(21)
    expect((await signer.key(KEY)).versions.map(one => one.version)).toEqual([21])
    expect(await signer.sign(KEY, 21, randomBytes(9))).toHaveLength(64)
  })

  test('of another type, or that may leave, are not used', async () => {
    for (const type of ['ed25519', 'ecdsa-p384', 'rsa-2048', 'aes256-gcm96']) {
      await done('POST', `transit/keys/assay-${type}`, { type })
      await expect(signer.key(`assay-${type}`)).rejects.toEqual(unavailable)
    }
    await done('POST', `transit/keys/${KEY}/config`, { exportable: true })
    await expect(fresh()).rejects.toThrow('can be exported')
    await done('POST', 'transit/keys/assay-backup', { type: 'ecdsa-p256', allow_plaintext_backup: true })
    await expect(signer.key('assay-backup')).rejects.toThrow('can be exported')
  })

  test('that were destroyed are gone', async () => {
    await signer.destroy(KEY)
    await expect(signer.key(KEY)).rejects.toThrow('does not exist')
    await expect(signer.sign(KEY, 21, randomBytes(9))).rejects.toEqual(unavailable)
  })
})

describe('what Vault says of tokens', () => {
  const PATH = 'broker/creds/deploy'
  const policy = (name: string, text: string) => done('PUT', `sys/policies/acl/${name}`, { policy: text })
  const rule = (path: string, capabilities: string) => `path "${path}" { capabilities = [${capabilities}] }`
  const token = async (options: object) => {
    const { auth } = await done('POST', 'auth/token/create', options)
    return { token: new Secret(auth.client_token as string) }
  }
  const may = (caller: { token: Secret }, anyOf: readonly Capability[] = ['update'], path = PATH) =>
    authority.require(caller, path, anyOf)

  test('is what its policies say of this very path', async () => {
    await policy('updater', rule(PATH, '"update"'))
    await policy('denier', rule(PATH, '"deny"'))
    await policy('globber', rule('broker/creds/*', '"read", "update"'))
    await policy('segments', rule('broker/+/deploy', '"update"'))
    await may(await token({ policies: ['updater'] }))
    await may(await token({ policies: ['globber'] }), ['read'])
    await may(await token({ policies: ['segments'] }))
    await may({ token: new Secret(vault.rootToken) }, ['delete'])
    await expect(may(await token({ policies: ['updater', 'denier'] }))).rejects.toEqual(denied)
    await expect(may(await token({ policies: ['updater'] }), ['read'])).rejects.toEqual(denied)
    await expect(may(await token({ policies: ['updater'] }), ['update'], `${PATH}2`)).rejects.toEqual(denied)
    // a slash at the end is nothing to Vault; none of our paths has one
    await may(await token({ policies: ['updater'] }), ['update'], `${PATH}/`)
    await expect(may(await token({ policies: ['default'] }))).rejects.toEqual(denied)
  })

  test('follows templates and the policies of an identity', async () => {
    await done('POST', 'sys/auth/userpass', { type: 'userpass' })
    await done('POST', 'auth/userpass/users/ann', { password: 'x', token_policies: 'default' })
    const { auth } = await done('POST', 'auth/userpass/login/ann', { password: 'x' })
    const ann = { token: new Secret(auth.client_token as string) }
    await expect(may(ann)).rejects.toEqual(denied)
    await policy('templated', rule('broker/creds/{{identity.entity.id}}', '"update"'))
    await done('POST', `identity/entity/id/${auth.entity_id as string}`, { policies: ['updater', 'templated'] })
    await may(ann)
    await may(ann, ['update'], `broker/creds/${auth.entity_id as string}`)
    await expect(may(ann, ['update'], 'broker/creds/somebody')).rejects.toEqual(denied)
  })

  test('counts for batch tokens, and for tokens with uses, each request one', async () => {
    const batch = await token({ policies: ['updater'], type: 'batch', ttl: '10m' })
    await (await authority.identify(batch, PATH, ['update'])).permitted
    const limited = await token({ policies: ['updater'], num_uses: 3 })
    for (const left of [3, 2]) {
      const { facts, permitted } = await authority.identify(limited, PATH, ['update'])
      expect(facts.numUses).toBe(left)
      await permitted
    }
    const uses = (await vault.api('POST', 'auth/token/lookup', { token: limited.token.reveal() })).body.data.num_uses as number
    expect(uses).toBe(1)
  })

  test('is that the token may not even ask, when it lacks the default policy', async () => {
    const caller = await token({ policies: ['updater'], no_default_policy: true })
    await expect(may(caller)).rejects.toThrow('which the default policy allows')
    await policy('asker', rule('sys/capabilities-self', '"update"'))
    await may(await token({ policies: ['updater', 'asker'], no_default_policy: true }))
  })

  test('ends at once when a token or its right does', async () => {
    const [one, other] = [await token({ policies: ['updater'] }), await token({ policies: ['updater'] })]
    for (const caller of [one, other]) await (await authority.identify(caller, PATH, ['update'])).permitted
    await done('POST', 'auth/token/revoke', { token: one.token.reveal() })
    await expect((await authority.identify(one, PATH, ['update'])).permitted).rejects.toEqual(denied)
    await policy('updater', rule(PATH, '"read"'))
    await expect((await authority.identify(other, PATH, ['update'])).permitted).rejects.toEqual(denied)
    for (const none of ['hvs.none', 'x', 'hvb.AAAA'])
      await expect(authority.identify({ token: new Secret(none) }, PATH, ['update'])).rejects.toEqual(denied)
  })
})

describe('the broker itself', () => {
  const forbidden: readonly (readonly [string, string, object])[] = [
    ['GET', 'transit/export/signing-key/assay-mine', {}],
    ['GET', 'transit/backup/assay-mine', {}],
    ['POST', 'transit/keys/other', {}],
    ['POST', 'transit/sign/other', { input: 'AAAA' }],
    ['POST', 'auth/token/create', {}],
    ['POST', 'auth/token/revoke', { token: 'x' }],
    ['POST', 'sys/mounts/x', { type: 'kv' }],
    ['POST', 'sys/auth/x', { type: 'jwt' }],
    ['PUT', 'sys/policies/acl/assay', { policy: '' }],
    ['GET', 'auth/approle/role/assay/role-id', {}],
    ['GET', 'secret/data/x', {}],
    ['PUT', 'sys/seal', {}],
  ]
  test.each(forbidden)('may not: %s %s', async (method, path, body) => {
    await signer.create('assay-mine')
    const headers = { 'X-Vault-Token': session.token().reveal(), 'Content-Type': 'application/json' }
    const sent = method === 'GET' ? {} : { body: JSON.stringify(body) }
    expect((await fetch(`${vault.address}/v1/${path}`, { method, headers, ...sent })).status).toBe(403)
  })

  test('whose token was revoked logs in by itself, and neither state nor keys nor questions notice', async () => {
    const jobs = [
      () => store.fresh('live/none'),
      () => store.put('live/some', {}),
      () => store.list('live/'),
      () => signer.rotate('assay-mine'),
      () => authority.identify({ token: new Secret(vault.rootToken) }, 'x', ['update']),
    ]
    for (const job of jobs) {
      world.pass(60_001)
      const before = session.token().reveal()
      await done('POST', 'auth/token/revoke', { token: before })
      await job()
      expect(session.token().reveal()).not.toBe(before)
    }
  })

  test('whose policy was taken away is unavailable, does not log in without end, and is back when it has its rights again', async () => {
    const { policy } = (await done('GET', 'sys/policies/acl/assay')).data as { policy: string }
    await done('PUT', 'sys/policies/acl/assay', { policy: 'path "x" { capabilities = ["read"] }' })
    const accessors = async () => ((await done('LIST', 'auth/token/accessors')).data.keys as string[]).length
    world.pass(10_000)
    const before = await accessors()
    for (let index = 0; index < 10; index++) await expect(store.fresh('live/a')).rejects.toEqual(unavailable)
    expect(await accessors()).toBeLessThanOrEqual(before + 1)
    await done('PUT', 'sys/policies/acl/assay', { policy })
    await store.fresh('live/a')
  })

  test('beside a Vault that is sealed is unavailable, and works again once it is not', async () => {
    await vault.seal()
    const jobs = [
      () => store.fresh('live/a'),
      () => signer.rotate('assay-mine'),
      () => authority.require({ token: new Secret('x') }, 'x', ['read']),
    ]
    for (const job of jobs) await expect(job()).rejects.toThrow('the vault server is sealed or not active')
    await vault.unseal()
    await until('Vault to answer again', async () => (await store.fresh('live/a').catch(() => false)) !== false)
    await signer.rotate('assay-mine')
  })
})

test('set up by several at the same moment is set up once, for each of them', async () => {
  await using fresh = await startVault()
  const server = { address: fresh.address, deadlineMs: 60_000 }
  const made = await Promise.all(Array.from({ length: 8 }, () => provision(server, PLACES, new Secret(fresh.rootToken))))
  expect(new Set(made.map(({ roleId }) => roleId)).size).toBe(1)
})
