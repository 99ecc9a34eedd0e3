import { Client } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { until } from '../harness/process.ts'
import { auditOf, done, openWorld, type World } from './world.ts'

// The root password of a real PostgreSQL server, behind Vault's database engine.
let world: World
let postgres: Postgres
const stack = new AsyncDisposableStack()
beforeAll(async () => {
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = stack.use(await openWorld({ vaultArgs: [`-dev-plugin-dir=${plugins}`] }))
  postgres = stack.use(await startPostgres())
  await sql(postgres, `CREATE ROLE vault SUPERUSER LOGIN PASSWORD 'canary-of-the-first-password'`)
  await write('sys/mounts/database', { type: 'database' })
  await write('database/config/orders', {
    plugin_name: 'postgresql-database-plugin',
    allowed_roles: '*',
    connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${postgres.port}/postgres?sslmode=disable`,
    username: 'vault',
    password: 'canary-of-the-first-password',
    password_authentication: 'scram-sha-256',
  })
  const creation_statements = [`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`]
  await write('database/roles/reader', { db_name: 'orders', creation_statements })
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/integration/orders', { type: 'vault_database', settings: { path: 'database/rotate-root/orders' } })
})
afterAll(() => stack.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))

async function sql(as: { user: string; password: string }, text: string): Promise<readonly unknown[]> {
  const { user, password } = as
  const client = new Client({ host: '127.0.0.1', port: postgres.port, database: 'postgres', user, password })
  await client.connect()
  try {
    return ((await client.query(text)) as { rows?: readonly unknown[] }).rows ?? []
  } finally {
    await client.end()
  }
}

test('is replaced by Vault in the name of who ordered it: the old one is worth nothing, what Vault issues still works', async () => {
  expect((await write('broker/integration/orders/rotate', {})).data).toMatchObject({ state: 'done' })
  await expect(sql({ user: 'vault', password: 'canary-of-the-first-password' }, 'SELECT 1')).rejects.toThrow(
    /password authentication failed/,
  )
  const { data } = await done(world.api('GET', 'database/creds/reader'))
  expect(await sql({ user: data.username, password: data.password }, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  // outcomes are written within a tenth of a second
  const told = await until('the outcome in the audit log', async () => {
    const mine = (await auditOf(world.door.auditFile)).filter(one => one['operation'] === 'rotate')
    return mine.length > 1 ? mine : undefined
  })
  expect(told.map(one => one['result'] ?? one['type'])).toEqual(['intent', 'rotated'])
})

test('that Vault cannot replace stays, and the answer says so without it', async () => {
  await write('broker/integration/nowhere', { type: 'vault_database', settings: { path: 'database/rotate-root/nowhere' } })
  const { status, body } = await world.api('POST', 'broker/integration/nowhere/rotate', {})
  expect(status).toBeGreaterThanOrEqual(400)
  expect(JSON.stringify(body)).not.toMatch(/canary/)
})
