import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import type { Reply } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { shapeOf } from './sides.ts'
import { ask, done, logIn } from './world.ts'

// What Terraform’s provider for Vault sends today: the requests of its client library, with all fields that it fills in, in its order. An older
// one is run itself, by scripts/test-clients.

let world: EnrolledWorld
beforeAll(async () => {
  world = await openEnrolledWorld()
  await done(world.api('POST', 'secret/data/app', { data: { a: 'b' } }))
})
afterAll(() => world?.[Symbol.asyncDispose]())

/** Where the provider is pointed at, with the token that it made for itself. */
type Provider = (method: string, path: string, body?: object) => Promise<Reply>

const sent = (address: string, token: string): Provider => {
  const headers = { 'X-Vault-Request': 'true' }
  return (method, path, body) => ask(address, method, path, { token, headers, ...(body ? { body } : {}) })
}

/** A child of the given token, twenty minutes at most: what every run begins with, unless `skip_child_token` is set. */
async function configured(address: string, given: string): Promise<Provider> {
  const asGiven = sent(address, given)
  await done(asGiven('GET', 'auth/token/lookup-self'))
  const life = { ttl: '1200s', explicit_max_ttl: '1200s', renewable: false }
  const child = { ...life, display_name: 'terraform', num_uses: 0, type: '', entity_alias: '' }
  const { auth } = await done(asGiven('POST', 'auth/token/create', child))
  const provider = sent(address, auth.client_token as string)
  expect(await done(provider('GET', 'sys/seal-status'))).toHaveProperty('version', expect.stringMatching(/^\d+\.\d+\.\d+/))
  return provider
}

const config = { options: null, default_lease_ttl: '0s', max_lease_ttl: '0s', force_no_cache: false }
const flags = { local: false, seal_wrap: false, external_entropy_access: false }
const input = (type: string) => ({ type, description: 'by Terraform', config, ...flags, options: {} })
const tuned = { options: {}, default_lease_ttl: '600s', max_lease_ttl: '1800s', force_no_cache: false, description: 'changed' }

/** `vault_mount`, from `apply` to `destroy`. */
const mountOf = (type: string): readonly Parameters<Provider>[] => [
  ['POST', 'sys/mounts/made', input(type)],
  ['GET', 'sys/mounts/made'],
  ['POST', 'sys/mounts/made/tune', tuned],
  ['GET', 'sys/mounts/made'],
  ['POST', 'sys/remount', { from: 'made', to: 'moved' }],
  ['GET', 'sys/mounts/moved'],
  ['DELETE', 'sys/mounts/moved'],
  ['GET', 'sys/mounts/moved'],
]
/** `vault_auth_backend`, likewise. */
const methodOf = (type: string): readonly Parameters<Provider>[] => [
  ['POST', 'sys/auth/made', input(type)],
  ['GET', 'sys/mounts/auth/made'],
  ['GET', 'sys/auth'],
  ['POST', 'sys/mounts/auth/made/tune', tuned],
  ['GET', 'sys/auth/made/tune'],
  ['DELETE', 'sys/auth/made'],
  ['GET', 'sys/mounts/auth/made'],
]

/** What it reads back, without which type it is, and without the lives of a mount of which nothing was said. */
async function applied(provider: Provider, steps: readonly Parameters<Provider>[], type: string): Promise<object[]> {
  const replies: object[] = []
  for (const step of steps) {
    const { status, body } = await provider(...step)
    if (body?.data?.migration_id) await moved(provider, body.data.migration_id as string)
    const made = body?.data?.['made/'] ?? body?.data ?? {}
    const { default_lease_ttl, max_lease_ttl } = made.config ?? made
    const lives = [default_lease_ttl, max_lease_ttl]
    const said = UNSAID.has(String(lives)) ? 'unsaid' : lives
    // which of what Vault ships is deprecated; and options that are none are {} or null
    const { deprecation_status: _, options, ...shape } = shapeOf(made) as Readonly<Record<string, unknown>>
    const kept = JSON.stringify([shape, Object.keys(options ?? {}), made.type, made.description, body?.errors])
    replies.push({ step: step.slice(0, 2), status, said, kept: JSON.parse(kept.replaceAll(type, 'TYPE')) as unknown })
  }
  return replies
}

/** Vault moves a mount when it has answered already; the provider asks until it has. */
async function moved(provider: Provider, id: string): Promise<void> {
  await until('the move', async () => {
    const { data } = await done(provider('GET', `sys/remount/status/${id}`))
    return data.migration_info.status === 'success'
  })
}

/** How long what a mount issues lives by default, at most too: Vault's, and ours. */
const UNSAID = new Set(['2764800,2764800', '900,3600'])

test.each([
  ['vault_mount', mountOf, 'broker', 'transit'],
  ['vault_auth_backend', methodOf, 'tpm-quote', 'userpass'],
])('%s makes, reads, tunes and takes away a mount of ours as one of Vault’s', async (_, steps, ours, vaults) => {
  const { vault, door } = world
  const straight = await applied(await configured(vault.address, vault.rootToken), steps(vaults), vaults)
  const through = await applied(await configured(door.address, vault.rootToken), steps(vaults), vaults)
  const own = await applied(await configured(door.address, vault.rootToken), steps(ours), ours)
  expect(through).toEqual(straight)
  expect(own).toEqual(straight)
  expect(straight).toMatchObject([{ status: 204 }, { status: 200 }, ...straight.slice(2, -1), { status: 400 }])
})

test('vault_generic_secret writes and reads a role of ours, and takes it away', async () => {
  const provider = await configured(world.door.address, world.vault.rootToken)
  const role = { plugins: 'kubernetes', actions: 'deploy', audiences: 'https://api.example.com' }
  // is it a path of a KV store of version 2?
  const { body } = await provider('GET', 'sys/internal/ui/mounts/broker/role/by-terraform')
  expect(body.data).toMatchObject({ path: 'broker/', type: 'broker', options: {} })
  expect((await provider('PUT', 'broker/role/by-terraform', role)).status).toBeLessThan(300)
  expect((await done(provider('GET', 'broker/role/by-terraform'))).data).toMatchObject({ plugins: ['kubernetes'] })
  expect((await provider('DELETE', 'broker/role/by-terraform')).status).toBe(204)
  expect(await provider('GET', 'broker/role/by-terraform')).toMatchObject({ status: 404, body: { errors: [] } })
})

const creds = { plugin: 'kubernetes', action: 'deploy', scope: 'apps:read' }

test('with the token of an attested machine: the child may what the machine may at Vault, but is no attested machine', async () => {
  const token = await logIn(world.service, world.attester)
  await expect(configured(world.door.address, token)).rejects.toThrow(/answered with 403/)
  const rules = ['broker/creds/*', 'auth/token/create'].map(path => `path "${path}" { capabilities = ["update"] }`)
  const policy = [...rules, 'path "secret/data/app" { capabilities = ["read"] }'].join('\n')
  await done(world.api('PUT', 'sys/policies/acl/builder', { policy }))
  const provider = await configured(world.door.address, token)
  expect((await done(provider('GET', 'sys/internal/ui/mounts/secret/app'))).data).toMatchObject({ options: { version: '2' } })
  expect((await done(provider('GET', 'secret/data/app'))).data.data).toEqual({ a: 'b' })
  const refused = await provider('PUT', 'broker/creds/deploy', creds)
  expect({ ...refused, body: String(refused.body.errors) }).toMatchObject({
    status: 403,
    body: expect.stringMatching(/^NOT_ATTESTED/) as string,
  })
})

test('with skip_child_token the machine’s own token is used, and gets credentials', async () => {
  const own = sent(world.door.address, await logIn(world.service, world.attester))
  await done(own('GET', 'auth/token/lookup-self'))
  expect((await done(own('PUT', 'broker/creds/deploy', creds))).data).toMatchObject({ scope: 'apps:read' })
})
