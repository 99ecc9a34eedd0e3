import { expect, test } from 'vitest'
import type { CanonicalPath } from '../../mounts/path.ts'
import { findSys } from '../../mounts/sys/mounts.ts'
import { openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { warningsOf } from './integration_world.ts'

// Leases of an integration that was deleted: through nothing can what it issued be revoked.

async function leaseOf({ broker, sys, world }: TestBroker, integration = 'forge', role = 'review'): Promise<string> {
  if (!broker.mounts.find('team')) await sys('POST', 'sys/mounts/team', { type: 'broker' })
  const mount = broker.mounts.find('team')
  if (!mount) throw new Error('no mount')
  const about = {
    mount,
    path: `creds/${role}`,
    accessor: '',
    tpmId: 'tpm',
    issuer: 'oauth2',
    role,
    integration,
  }
  const begun = await broker.leases.begin({ ...about, txn: 'txn', ttlSeconds: 600, maxTtlSeconds: 600 })
  await begun.confirm({ token: 'sealed' }, world.now() / 1000 + 600)
  return begun.leaseId
}

/** What Vault, which has none itself, is made to say. */
async function irrevocable({ broker }: TestBroker): Promise<unknown> {
  const row = findSys('GET', { path: 'sys/leases', query: '', trailingSlash: false } as CanonicalPath)?.row
  const look = async () => ({ status: 200, body: { data: { lease_count: 0, leases: [] } } })
  return (await row?.handle({ broker, path: '', look } as never))?.body
}

test('are tried again, say why and what to do about it, and can be dropped', async () => {
  await using at = await openTestBroker()
  const { leases } = at.broker
  const leaseId = await leaseOf(at)
  await leases.revoke(leaseId)
  for (let tries = 0; leases.stuck().length === 0; tries++) {
    expect(tries).toBeLessThan(60)
    at.world.pass(31_000)
    await leases.sweep()
  }
  const drop = `vault lease revoke -force -prefix ${leaseId}`
  const why = 'the integration forge that it was issued through was deleted'
  const error = `${why}: it is tried again until it is done, or dropped by \`${drop}\``
  expect(await irrevocable(at)).toEqual({ data: { lease_count: 1, leases: [{ lease_id: leaseId, error }] } })
  const logged = at.world.lines.map(line => JSON.parse(line) as object)
  expect(logged).toContainEqual(expect.objectContaining({ drop, error: expect.objectContaining({ message: why }) as object }))
  expect(await leases.revokeWhere({ prefix: leaseId }, { force: true })).toEqual({ found: 1, left: 0 })
  expect(await leases.lookup(leaseId)).toBeUndefined()
})

test('are counted to who deletes it: those that were issued through it, whatever role names it now', async () => {
  await using at = await openTestBroker()
  await leaseOf(at)
  await leaseOf(at, 'forge', 'merge')
  await leaseOf(at, 'other')
  const settings = { token_url: 'https://as.example/token', grant: 'client_credentials', client_auth: 'none' }
  for (const name of ['forge', 'idle']) await at.ask('update', `team/integration/${name}`, { type: 'oauth2', settings })
  const warnings = async (name: string) => warningsOf(await at.ask('delete', `team/integration/${name}`))
  expect(await warnings('idle')).toEqual([])
  expect(await warnings('forge')).toEqual([expect.stringMatching(/^live leases that were issued through it: 2\. Nothing can/)])
})
