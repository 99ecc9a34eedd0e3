import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import type { Capability } from '../../engine/vault/authority.ts'
import { PLACES, provision } from '../../engine/vault/provision.ts'
import type { Store } from '../../engine/vault/store.ts'
import { until } from '../harness/process.ts'
import { startVault } from '../harness/vault.ts'
import { denied, type EngineVault, openEngineVault, unavailable } from './engine_vault_world.ts'

// What the fakes of test/fakes/vault.ts pretend of tokens, those of others and the broker's own, asked of a real server.

let here: EngineVault
let store: Store
beforeAll(async () => {
  here = await openEngineVault()
})
beforeEach(() => {
  store = here.newStore()
})
afterAll(() => here[Symbol.asyncDispose]())

describe('what Vault says of tokens', () => {
  const PATH = 'broker/creds/deploy'
  const policy = (name: string, text: string) => here.done('PUT', `sys/policies/acl/${name}`, { policy: text })
  const rule = (path: string, capabilities: string) => `path "${path}" { capabilities = [${capabilities}] }`
  const token = async (options: object) => {
    const { auth } = await here.done('POST', 'auth/token/create', options)
    return { token: new Secret(auth.client_token as string) }
  }
  const may = (caller: { token: Secret }, anyOf: readonly Capability[] = ['update'], path = PATH) =>
    here.authority.require(caller, path, anyOf)

  test('is what its policies say of this very path', async () => {
    await policy('updater', rule(PATH, '"update"'))
    await policy('denier', rule(PATH, '"deny"'))
    await policy('globber', rule('broker/creds/*', '"read", "update"'))
    await policy('segments', rule('broker/+/deploy', '"update"'))
    await may(await token({ policies: ['updater'] }))
    await may(await token({ policies: ['globber'] }), ['read'])
    await may(await token({ policies: ['segments'] }))
    await may({ token: new Secret(here.vault.rootToken) }, ['delete'])
    await expect(may(await token({ policies: ['updater', 'denier'] }))).rejects.toEqual(denied)
    await expect(may(await token({ policies: ['updater'] }), ['read'])).rejects.toEqual(denied)
    await expect(may(await token({ policies: ['updater'] }), ['update'], `${PATH}2`)).rejects.toEqual(denied)
    // a slash at the end is nothing to Vault; none of our paths has one
    await may(await token({ policies: ['updater'] }), ['update'], `${PATH}/`)
    await expect(may(await token({ policies: ['default'] }))).rejects.toEqual(denied)
  })

  test('follows templates and the policies of an identity', async () => {
    await here.done('POST', 'sys/auth/userpass', { type: 'userpass' })
    await here.done('POST', 'auth/userpass/users/ann', { password: 'x', token_policies: 'default' })
    const { auth } = await here.done('POST', 'auth/userpass/login/ann', { password: 'x' })
    const ann = { token: new Secret(auth.client_token as string) }
    await expect(may(ann)).rejects.toEqual(denied)
    await policy('templated', rule('broker/creds/{{identity.entity.id}}', '"update"'))
    await here.done('POST', `identity/entity/id/${auth.entity_id as string}`, { policies: ['updater', 'templated'] })
    await may(ann)
    await may(ann, ['update'], `broker/creds/${auth.entity_id as string}`)
    await expect(may(ann, ['update'], 'broker/creds/somebody')).rejects.toEqual(denied)
  })

  test('counts for batch tokens, and for tokens with uses, each request one', async () => {
    const batch = await token({ policies: ['updater'], type: 'batch', ttl: '10m' })
    await (await here.authority.identify(batch, PATH, ['update'])).permitted
    const limited = await token({ policies: ['updater'], num_uses: 3 })
    for (const left of [3, 2]) {
      const { facts, permitted } = await here.authority.identify(limited, PATH, ['update'])
      expect(facts.numUses).toBe(left)
      await permitted
    }
    const uses = (await here.vault.api('POST', 'auth/token/lookup', { token: limited.token.reveal() })).body.data
      .num_uses as number
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
    for (const caller of [one, other]) await (await here.authority.identify(caller, PATH, ['update'])).permitted
    await here.done('POST', 'auth/token/revoke', { token: one.token.reveal() })
    await expect((await here.authority.identify(one, PATH, ['update'])).permitted).rejects.toEqual(denied)
    await policy('updater', rule(PATH, '"read"'))
    await expect((await here.authority.identify(other, PATH, ['update'])).permitted).rejects.toEqual(denied)
    for (const none of ['hvs.none', 'x', 'hvb.AAAA'])
      await expect(here.authority.identify({ token: new Secret(none) }, PATH, ['update'])).rejects.toEqual(denied)
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
    await here.signer.create('assay-mine')
    const headers = { 'X-Vault-Token': here.session.token().reveal(), 'Content-Type': 'application/json' }
    const sent = method === 'GET' ? {} : { body: JSON.stringify(body) }
    expect((await fetch(`${here.vault.address}/v1/${path}`, { method, headers, ...sent })).status).toBe(403)
  })

  test('whose token was revoked logs in by itself, and neither state nor keys nor questions notice', async () => {
    const jobs = [
      () => store.fresh('live/none'),
      () => store.put('live/some', {}),
      () => store.list('live/'),
      () => here.signer.rotate('assay-mine'),
      () => here.authority.identify({ token: new Secret(here.vault.rootToken) }, 'x', ['update']),
    ]
    for (const job of jobs) {
      here.world.pass(60_001)
      const before = here.session.token().reveal()
      await here.done('POST', 'auth/token/revoke', { token: before })
      await job()
      expect(here.session.token().reveal()).not.toBe(before)
    }
  })

  test('whose policy was taken away is unavailable, does not log in without end, and is back when it has its rights again', async () => {
    const { policy } = (await here.done('GET', 'sys/policies/acl/assay')).data as { policy: string }
    await here.done('PUT', 'sys/policies/acl/assay', { policy: 'path "x" { capabilities = ["read"] }' })
    const accessors = async () => ((await here.done('LIST', 'auth/token/accessors')).data.keys as string[]).length
    here.world.pass(10_000)
    const before = await accessors()
    for (let index = 0; index < 10; index++) await expect(store.fresh('live/a')).rejects.toEqual(unavailable)
    expect(await accessors()).toBeLessThanOrEqual(before + 1)
    await here.done('PUT', 'sys/policies/acl/assay', { policy })
    await store.fresh('live/a')
  })

  test('beside a Vault that is sealed is unavailable, and works again once it is not', async () => {
    await here.vault.seal()
    const jobs = [
      () => store.fresh('live/a'),
      () => here.signer.rotate('assay-mine'),
      () => here.authority.require({ token: new Secret('x') }, 'x', ['read']),
    ]
    for (const job of jobs) await expect(job()).rejects.toThrow('the vault server is sealed or not active')
    await here.vault.unseal()
    await until('Vault to answer again', async () => (await store.fresh('live/a').catch(() => false)) !== false)
    await here.signer.rotate('assay-mine')
  })
})

test('set up by several at the same moment is set up once, for each of them', async () => {
  await using fresh = await startVault()
  const server = { address: fresh.address, deadlineMs: 60_000 }
  const made = await Promise.all(Array.from({ length: 8 }, () => provision(server, PLACES, new Secret(fresh.rootToken))))
  expect(new Set(made.map(({ roleId }) => roleId)).size).toBe(1)
})
