import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { until } from '../harness/process.ts'
import { sql as asked, databaseEngine, type Login } from './database_engine.ts'
import { auditOf, done, openWorld, type World } from './world.ts'

// The root password of a real PostgreSQL server, behind Vault's database engine.
let world: World
let postgres: Postgres
const FIRST = { user: 'vault', password: 'canary-of-the-first-password' }
const stack = new AsyncDisposableStack()
beforeAll(async () => {
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = stack.use(await openWorld({ vaultArgs: [`-dev-plugin-dir=${plugins}`] }))
  postgres = stack.use(await startPostgres())
  await sql(postgres, `CREATE ROLE vault SUPERUSER LOGIN PASSWORD '${FIRST.password}'`)
  await database('RETURN')
  // the second has the last word on what the first did: both are one transaction
  const rootRotation = [`ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}';`, 'SELECT agree();']
  await databaseEngine(write, postgres, { as: FIRST, rootRotation })
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/integration/orders', { type: 'vault_database', settings: { path: 'database/rotate-root/orders' } })
})
afterAll(() => stack.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))
const sql = (as: Login, text: string) => asked(postgres, as, text)

/** Whether the database takes another root password. */
const database = (statement: 'RETURN' | `RAISE ${string}`) =>
  sql(postgres, `CREATE OR REPLACE FUNCTION agree() RETURNS void LANGUAGE plpgsql AS 'BEGIN ${statement}; END'`)
const logsIn = async (as: Login) => expect(await sql(as, 'SELECT 1 AS one')).toEqual([{ one: 1 }])

/** What Vault issues with its root password. */
async function issued(): Promise<Login> {
  const { data } = await done(world.api('GET', 'database/creds/reader'))
  return { user: data.username, password: data.password }
}

test('that the database does not take is not taken: the one before is good there, and Vault goes on with it', async () => {
  await database("RAISE ''not today''")
  const { status, body } = await world.api('POST', 'broker/integration/orders/rotate', {})
  expect(status).toBeGreaterThanOrEqual(400)
  expect(JSON.stringify(body)).not.toMatch(/canary/)
  await logsIn(FIRST)
  await logsIn(await issued())
  const told = await rotations(2)
  expect(told).toEqual(['intent', 'not made'])
  await database('RETURN')
})

test('is replaced by Vault in the name of who ordered it: the old one is worth nothing, what Vault issues still works', async () => {
  expect((await write('broker/integration/orders/rotate', {})).data).toMatchObject({ state: 'done' })
  await expect(sql(FIRST, 'SELECT 1')).rejects.toThrow(/password authentication failed/)
  await logsIn(await issued())
  expect((await rotations(4)).slice(2)).toEqual(['intent', 'rotated'])
})

/** So many lines of the audit log; outcomes are written within a tenth of a second. */
async function rotations(count: number): Promise<readonly unknown[]> {
  const told = await until('the outcome in the audit log', async () => {
    const mine = (await auditOf(world.door.auditFile)).filter(one => one['operation'] === 'rotate')
    return mine.length >= count ? mine : undefined
  })
  return told.map(one => one['result'] ?? one['type'])
}
