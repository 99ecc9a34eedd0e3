import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { freePort } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { type Authority, certificateOf, openAuthority } from './certificates.ts'
import { databaseEngine } from './database_engine.ts'
import { asking, configureAuth, done, enrol, MEASURED, machine, measure, openWorld, serviceOf, type World } from './world.ts'

// The whole way: a TPM, Vault and its database engine, the front door, the proxy, psql as it is, and a PostgreSQL server that is spoken to over TLS alone. The
// credential is one that the engine makes for this request.

let parts = new AsyncDisposableStack()
let world: World
let database: Postgres
let ca: Authority
let proxy: AssayProxy
const ports = { orders: 0, stranger: 0 }

beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = opening.use(await openWorld({ tpms: [{}], vaultArgs: [`-dev-plugin-dir=${plugins}`] }))
  ca = opening.use(await openAuthority())
  database = opening.use(await startPostgres(await ca.issue('database')))
  await databaseEngine(write, database, { ca: ca.ca })
  await configure()
  proxy = opening.use(await served())
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))

/** A role whose logins are made for each request, and sealed to one database of one server. */
async function configure(): Promise<void> {
  const [tpm] = world.tpms
  if (!tpm) throw new Error('no TPM')
  await measure(tpm, MEASURED, 'good')
  await using attester = await machine(tpm)
  await configureAuth(world, tpm, attester)
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/config', { actions: 'read' })
  await write('broker/policy/builders', { policy: 'permit (principal, action == Action::"read", resource);' })
  await write('broker/role/orders', {
    plugins: 'reader',
    actions: 'read',
    audiences: 'orders',
    ttl: '10m',
    issuer: 'vault',
    vault_path: 'database/creds/reader',
    delivery: 'sealed',
    destinations: `postgres://127.0.0.1:${database.port}/postgres`,
  })
  const allowed = ['broker/creds/*', 'auth/token/create'].map(path => `path "${path}" { capabilities = ["update"] }`)
  const read = 'path "database/creds/reader" { capabilities = ["read"] }'
  await write('sys/policies/acl/builder', { policy: [...allowed, read].join('\n') })
  await enrol(serviceOf(world.door.address), tpm, attester)
}

async function served(): Promise<AssayProxy> {
  const { cert, key } = await ca.issue('localhost')
  const strange = await writtenTo('stranger.pem', await certificateOf('Stranger'))
  const service = async (name: keyof typeof ports, ca_file: string) => {
    ports[name] = await freePort()
    const place = { listen: { port: ports[name] }, server: `127.0.0.1:${database.port}`, addresses: ['127.0.0.1'] }
    return { kind: 'postgres', name, ...place, ca_file, start_within_ms: 60_000 }
  }
  const services = [await service('orders', ca.ca), await service('stranger', strange)]
  return startProxy(world.vault, { listen: { cert_file: cert, key_file: key }, services })
}

async function writtenTo(name: string, text: string): Promise<string> {
  await writeFile(ca.at(name), text)
  return ca.at(name)
}

function psql(service: keyof typeof ports, sql: string) {
  const asked = asking(world, 'reader', 'read')
  const where = ['--proxy', `https://localhost:${proxy.port}`, '--proxy-ca', ca.ca, '--postgres', String(ports[service])]
  const words = ['psql', '--no-psqlrc', '--no-password', '-At', '-c', sql, 'postgres']
  return assay(['agent', 'exec', 'orders', ...asked, ...where, '--', ...words], { HOME: ca.at('.'), PATH: process.env['PATH'] })
}

test('psql has a login that was made for it, by SCRAM over TLS, and the agent has never seen it', async () => {
  const sql = 'select current_user, ssl, version from pg_stat_ssl where pid = pg_backend_pid()'
  const { code, stdout, stderr } = await psql('orders', sql)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toMatch(/^v-.*-reader-.*\|t\|TLSv1\.3\n$/)
  const [first, second] = [stdout, (await psql('orders', sql)).stdout]
  expect(second).toMatch(/^v-/)
  expect(second).not.toBe(first)
  const swaps = (await readFile(proxy.auditFile, 'utf8')).split('\n').filter(line => /"swap".*"orders"/.test(line))
  expect(swaps).toHaveLength(2)
  expect(swaps.join('\n')).not.toContain(first.split('|')[0])
})

test('a server whose certificate leads to another authority is sent nothing', async () => {
  const { code, stderr } = await psql('stranger', 'select 1')
  expect(code).toBe(2)
  expect(stderr).toContain('UPSTREAM')
})
