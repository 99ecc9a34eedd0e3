import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import '../fakes/leased_issuer.ts' // first: it registers an issuer
import { type Here, serveUnlooking } from './in_process.ts'
import { leaseWorld } from './lease_world.ts'
import { ask, configureBroker, done } from './world.ts'

// What one front door does to mounts is known at another to who asks about them, at once: the other one here never looks by itself.

const { live, root } = leaseWorld()
let other: Here
beforeAll(async () => {
  other = await serveUnlooking(live.world.vault)
})
afterAll(() => other?.[Symbol.asyncDispose]())

const there = (method: string, path: string, body?: object) =>
  ask(other.address, method, path, { token: live.world.vault.rootToken, ...(body ? { body } : {}) })

const newName = () => `mount-${randomUUID()}`

describe('a mount that was made is there when one asks for', () => {
  test.each([
    ['sys/mounts', ['data', 'NAME/']],
    ['sys/mounts/NAME', ['data']],
    ['sys/internal/ui/mounts', ['data', 'secret', 'NAME/']],
    ['sys/internal/ui/mounts/NAME/creds/deploy', ['data']],
  ])('%s', async (path, place) => {
    const name = newName()
    await done(root('POST', `sys/mounts/${name}`, { type: 'broker' }))
    const body = await done(there('GET', path.replace('NAME', name)))
    expect(body).toHaveProperty([...place.map(one => one.replace('NAME', name)), 'type'], 'broker')
  })

  test.each([
    ['sys/auth', ['data', 'NAME/']],
    ['sys/auth/NAME', ['data']],
    ['sys/mounts/auth/NAME', ['data']],
    ['sys/internal/ui/mounts', ['data', 'auth', 'NAME/']],
    ['sys/internal/ui/mounts/auth/NAME', ['data']],
  ])('%s, of an auth method', async (path, place) => {
    const name = newName()
    await done(root('POST', `sys/auth/${name}`, { type: 'tpm-quote' }))
    const body = await done(there('GET', path.replace('NAME', name)))
    expect(body).toHaveProperty([...place.map(one => one.replace('NAME', name)), 'type'], 'tpm-quote')
  })

  test.each(['sys/mounts/NAME/tune', 'sys/mounts/auth/NAME/tune', 'sys/auth/NAME/tune'])('%s', async path => {
    const name = newName()
    const [kind, type] = path.includes('auth') ? ['sys/auth', 'tpm-quote'] : ['sys/mounts', 'broker']
    await done(root('POST', `${kind}/${name}`, { type, description: 'for a team' }))
    const replies = [root, there].map(at => done(at('GET', path.replace('NAME', name))))
    const [here, elsewhere] = await Promise.all(replies)
    expect(elsewhere.data).toEqual(here.data)
    expect(elsewhere.data).toMatchObject({ description: 'for a team' })
  })

  test('sys/internal/specs/openapi', async () => {
    const name = newName()
    await done(root('POST', `sys/mounts/${name}`, { type: 'broker' }))
    expect((await done(there('GET', 'sys/internal/specs/openapi'))).paths).toHaveProperty(`/${name}/creds/{role}`)
  })
})

test('a mount that was tuned shows it, and one that was disabled is gone', async () => {
  const name = newName()
  await done(root('POST', `sys/mounts/${name}`, { type: 'broker' }))
  await done(there('GET', `sys/mounts/${name}`))
  await done(root('POST', `sys/mounts/${name}/tune`, { description: 'for a team', max_lease_ttl: '30m' }))
  const { data } = await done(there('GET', `sys/mounts/${name}`))
  expect(data).toMatchObject({ description: 'for a team', config: { max_lease_ttl: 1800 } })
  await done(root('DELETE', `sys/mounts/${name}`))
  expect(await there('GET', `sys/internal/ui/mounts/${name}`)).toMatchObject({ status: 403 })
  expect((await there('GET', `sys/mounts/${name}`)).body).toEqual({ errors: [`No secret engine mount at ${name}/`] })
  expect((await done(there('GET', 'sys/mounts'))).data).not.toHaveProperty([`${name}/`])
})

test('a move is asked for there until it is done, as the stock CLI does behind two front doors', async () => {
  const [from, to] = [newName(), newName()]
  await done(root('POST', `sys/mounts/${from}`, { type: 'broker' }))
  await done(there('GET', `sys/mounts/${from}`))
  const { data } = await done(root('POST', 'sys/remount', { from, to }))
  const { migration_info: info } = (await done(there('GET', `sys/remount/status/${data.migration_id}`))).data
  expect(info).toEqual({ source_mount: `${from}/`, target_mount: `${to}/`, status: 'success' })
})

test('a front door that stood still serves no mount that moved meanwhile', async () => {
  const [from, to] = [newName(), newName()]
  await configureBroker({ ...live.world, api: root }, { path: from })
  await done(there('GET', `sys/mounts/${from}`))
  const policy = `path "${from}/creds/*" { capabilities = ["update"] }`
  await done(root('PUT', 'sys/policies/acl/builder', { policy }))
  const body = { plugin: 'kubernetes', action: 'deploy', scope: 'apps:read' }
  const creds = () => ask(other.address, 'POST', `${from}/creds/deploy`, { token: live.token, body })
  expect((await creds()).status).toBe(200)
  await done(root('POST', 'sys/remount', { from, to }))
  live.passes(5_001)
  expect(await creds()).toMatchObject({ status: 404, body: { errors: [expect.stringContaining('no handler for route')] } })
})

describe('a lease of a mount that was made', () => {
  const asked: readonly (readonly [string, string, (leaseId: string) => string])[] = [
    ['is looked up', 'PUT', () => 'sys/leases/lookup'],
    ['is renewed', 'PUT', () => 'sys/leases/renew'],
    ['is renewed, as old clients do', 'PUT', leaseId => `sys/renew/${leaseId}`],
    ['is listed', 'LIST', leaseId => `sys/leases/lookup/${leaseId.replace(/\/[^/]*$/, '')}`],
  ]
  test.each(asked)('%s', async (_, method, pathOf) => {
    const path = newName()
    await configureBroker({ ...live.world, api: root }, { path, role: { issuer: 'leased', ttl: '10m', max_ttl: '30m' } })
    const sent = { plugin: 'kubernetes', action: 'deploy', scope: 'apps:read' }
    const { lease_id } = await done(ask(live.here.address, 'POST', `${path}/creds/deploy`, { token: live.token, body: sent }))
    expect(await there(method, pathOf(lease_id), method === 'PUT' ? { lease_id } : undefined)).toMatchObject({ status: 200 })
  })
})
