import type { Client } from 'pg'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { until } from '../harness/process.ts'
import { connected, databaseEngine, isRefused, type Login } from './database_engine.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type Here, moveClocks, serveHere } from './in_process.ts'
import { ask, done, logIn, serviceOf } from './world.ts'

// Whoever asks an engine of Vault the same again, at another replica: one login lives.
let world: EnrolledWorld
let postgres: Postgres
let here: Here
let other: Here
let token: string
let passes: (ms: number) => void
const stack = new AsyncDisposableStack()
beforeAll(async () => {
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = stack.use(await openEnrolledWorld({ vaultArgs: [`-dev-plugin-dir=${plugins}`] }))
  postgres = stack.use(await startPostgres())
  // whoever has the lock decides how long the engine takes
  await databaseEngine(write, postgres, { others: { slow: 'SELECT pg_advisory_xact_lock(1);' } })
  const common = { plugins: 'kubernetes', actions: 'deploy', audiences: 'orders', issuer: 'vault', ttl: '10m' }
  for (const name of ['reader', 'slow']) await write(`broker/role/${name}`, { ...common, vault_path: `database/creds/${name}` })
  const allowed = ['"broker/creds/*" { capabilities = ["update"] }', '"auth/token/create" { capabilities = ["update"] }']
  const policy = [...allowed, '"database/creds/*" { capabilities = ["read"] }'].map(rule => `path ${rule}`).join('\n')
  await write('sys/policies/acl/builder', { policy })
  here = stack.use(await serveHere(world.vault))
  other = stack.use(await serveHere(world.vault))
  passes = moveClocks()
  stack.defer(() => void vi.restoreAllMocks())
  token = await logIn(serviceOf(here.address), world.attester)
})
afterAll(() => stack.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))
const creds = (at: { address: string }, role: string, ttl: number) =>
  ask(at.address, 'POST', `broker/creds/${role}`, { token, body: { plugin: 'kubernetes', action: 'deploy', ttl } })
const loginOf = ({ data }: { data: { username: string; password: string } }): Login => ({
  user: data.username,
  password: data.password,
})
/** What Vault, asked past the front door, has leased. */
const leased = async (role: string): Promise<readonly string[]> =>
  (await world.vault.api('LIST', `sys/leases/lookup/database/creds/${role}`)).body?.data?.keys ?? []
type Kept = { readonly role: string; readonly state: string; readonly under: { readonly accessor: string } }
/** What is on record of child tokens: names of leases that have ended may be listed for a while. */
const held = async (role: string): Promise<readonly Kept[]> => {
  const ids: readonly string[] = (await world.vault.api('LIST', 'assay/metadata/leases/record')).body?.data?.keys ?? []
  const records = await Promise.all(ids.map(id => world.vault.api('GET', `assay/data/leases/record/${id}`)))
  return records.map(({ body }) => body?.data?.data?.value as Kept).filter(kept => kept?.role === role)
}

test('the same request at another replica gets another login, and the first is gone', async () => {
  const first = await creds(here, 'reader', 599)
  const second = await creds(other, 'reader', 599)
  expect([first.status, second.status]).toEqual([200, 200])
  expect(second.body.lease_id).toMatch(/^database\/creds\/reader\//)
  await until('the first to be refused', () => isRefused(postgres, loginOf(first.body)))
  expect(await isRefused(postgres, loginOf(second.body))).toBe(false)
  await until('one lease to be left', async () => (await leased('reader')).length === 1)
  expect(second.body.lease_id).toBe(`database/creds/reader/${(await leased('reader'))[0]}`)
})

test('what a mount issued through an engine is revoked with the rest of what it issued', async () => {
  const { body } = await creds(here, 'reader', 598)
  expect(await isRefused(postgres, loginOf(body))).toBe(false)
  await world.operator(['lease', 'revoke', '-sync', '-prefix', 'broker/creds/reader'])
  await until('it to be refused', () => isRefused(postgres, loginOf(body)))
  expect(await held('reader')).toEqual([])
})

test('while the engine is at the first, the second waits or is told to; one login lives', async () => {
  const lock = await locked()
  const first = creds(here, 'slow', 597)
  await until('the engine to be asked', async () => (await waiting(lock)) === 1)
  const second = creds(other, 'slow', 597)
  await until('the first to be given up', async () => (await held('slow'))[0]?.state === 'revoking')
  await lock.end()
  expect({ status: (await first).status, errors: (await first).body.errors }).toEqual({
    status: 503,
    errors: ['the credential was revoked while it was made: ask again'],
  })
  const last = (await second).status === 409 ? await until('the first to be ended', answered) : await second
  expect(last.status).toBe(200)
  await until('one lease to be left', async () => (await leased('slow')).length === 1)
  expect(await isRefused(postgres, loginOf(last.body))).toBe(false)

  async function answered() {
    const reply = await creds(other, 'slow', 597)
    return reply.status === 409 ? undefined : reply
  }
})

test('of a replica that is killed while the engine is at it nothing is left', async () => {
  await world.operator(['lease', 'revoke', '-sync', '-prefix', 'broker/creds/slow'])
  const lock = await locked()
  const first = creds(world.door, 'slow', 596).catch(() => undefined)
  await until('the engine to be asked', async () => (await waiting(lock)) === 1)
  const accessor = (await held('slow'))[0]?.under.accessor ?? ''
  await world.door.server.stop('SIGKILL')
  await first
  await lock.end()
  // who asks in that minute is told so
  expect((await creds(other, 'slow', 596)).status).toBe(409)
  expect(await lives(accessor)).toBe(true)
  passes(61_000)
  await until('what it made to be gone', async () => (await leased('slow')).length === 0)
  await until('its token to be gone', async () => !(await lives(accessor)))
})

const lives = async (accessor: string) =>
  (await world.vault.api('POST', 'auth/token/lookup-accessor', { accessor })).status === 200

/** A session that has what the engine waits for. */
async function locked(): Promise<Client> {
  const client = await connected(postgres, postgres)
  onTestFinished(() => client.end())
  await client.query('SELECT pg_advisory_lock(1)')
  return client
}

async function waiting(lock: Client): Promise<number> {
  const { rows } = await lock.query<{ count: number }>(
    "SELECT count(*)::int AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
  )
  return rows[0]?.count ?? 0
}
