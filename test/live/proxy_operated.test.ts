import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openSealer } from '../../engine/sealing/seal.ts'
import type { OwnVault } from '../../engine/vault/own.ts'
import { openSigner } from '../../engine/vault/transit.ts'
import { toSeal } from '../fakes/sealing.ts'
import { assay } from '../harness/assay.ts'
import { eventually } from '../harness/patience.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { freePair, freePort, run, start } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { vaultBinary } from '../harness/vault.ts'
import { bearer, openSealedWorld, type SealedWorld } from './proxy_world.ts'
import { done } from './world.ts'

// The proxy in the hands of its operator: what its file says, its processes, and how they end.

let opened: SealedWorld
let { world, proxy, ca, agent, sealed, curl, base, tunnelled } = {} as SealedWorld
/** Answers that somebody waits for, of `/apps/slow`. */
const waited: ServerResponse[] = []

beforeAll(async () => {
  opened = await openSealedWorld(({ url }, outgoing) => {
    if (url === '/apps/slow') waited.push(outgoing)
    else outgoing.end('fine')
  })
  ;({ world, proxy, ca, agent, sealed, curl, base, tunnelled } = opened)
})
afterAll(() => opened?.[Symbol.asyncDispose]())

test('services are taken over when the file changes, and a broken file changes nothing', async () => {
  const held = (await sealed()).token
  const before = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  await proxy.write({ ...before, services: [{ ...before.services[0], allow: ['/none'] }] })
  await eventually(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"ROUTE"'))
  await proxy.write({ ...before, services: [{ ...before.services[0], allow: 'nonsense' }] })
  await proxy.server.line(/was not taken over/)
  expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"ROUTE"')
  await proxy.write(before)
  await eventually(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toBe('fine 200'))
})

test('a host that the authority does not permit is named at once, and has to be set up', async () => {
  const before = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const [, declared] = before.services
  const added = { ...declared, name: 'added', hosts: ['added.test'] }
  await proxy.write({ ...before, services: [...before.services, added] })
  await proxy.server.line(/"host":"added.test".*its authority has to permit it/)
  await proxy.write(before)
  const file = ca.at('added.yaml')
  await writeFile(file, JSON.stringify({ ...before, services: [...before.services, added] }))
  const { stdout } = await assay(['proxy', 'check', file])
  expect(stdout).toContain('its authority has to permit: 127.0.0.1 added.test\n')
  const env = { VAULT_TOKEN: world.vault.rootToken, VAULT_ADDR: world.vault.address }
  const setup = ['setup', '--proxy', '--permit', '127.0.0.1', '--permit', 'added.test']
  const { stdout: printed } = await assay([...setup, '--print'])
  expect(printed).toContain("permitted_dns_domains='added.test' permitted_ip_ranges='127.0.0.1/32'")
  expect((await assay(['setup', '--proxy', '--print'])).stdout).not.toContain('root/generate')
  expect(await assay([...setup, '--apply', '--secret-id-file', ca.at('secret-id')], env)).toMatchObject({ code: 0 })
  const { body } = await world.vault.api('GET', 'assay-proxy-ca/cert/ca')
  await writeFile(ca.at('renewed.pem'), body.data.certificate)
  const { stdout: named } = await run('openssl', ['x509', '-in', ca.at('renewed.pem'), '-noout', '-ext', 'nameConstraints'])
  expect(named).toMatch(/DNS:added\.test\s+IP:127\.0\.0\.1/)
  process.kill(proxy.server.pid, 'SIGHUP')
  const { token: held } = await sealed()
  await eventually(async () => expect(await tunnelled(held, ca.at('renewed.pem'))).toBe('fine 200'))
})

test('SIGHUP: new connections see its own renewed certificate, and one that cannot be used is named', async () => {
  const { listen } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const shown = async () => {
    const socket = tlsConnect({ port: proxy.port, host: '127.0.0.1', ca: await readFile(ca.ca) })
    await once(socket, 'secureConnect')
    const { raw } = socket.on('error', () => undefined).getPeerCertificate()
    socket.destroy()
    return raw
  }
  const files = await ca.issue('renewed')
  const before = await shown()
  await copyFile(files.cert, listen.cert_file)
  process.kill(proxy.server.pid, 'SIGHUP')
  await proxy.server.line(/its own certificates could not be read again/)
  expect(await shown()).toEqual(before)
  await copyFile(files.key, listen.key_file)
  process.kill(proxy.server.pid, 'SIGHUP')
  await eventually(async () => expect(await shown()).toEqual(new X509Certificate(await readFile(files.cert)).raw))
})

async function workersOf({ server: { pid } }: AssayProxy): Promise<readonly number[]> {
  return (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ').map(Number)
}

test('several workers serve the same, and one that is killed comes back', async () => {
  const { token: held } = await sealed()
  const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const port = await freePair()
  await using many = await startProxy(world.vault, { listen, services, workers: 2, metrics: { port } })
  const place = `${base(many.port)}/apps/a`
  const served = async () => expect(await curl(place, bearer(held))).toBe('fine 200')
  for (const _ of [1, 2, 3, 4]) await served()
  const children = await workersOf(many)
  expect(children).toHaveLength(2)
  process.kill(children[0] ?? 0, 'SIGKILL')
  await many.server.line(/a worker ended: it is started again/)
  for (const _ of [1, 2, 3, 4]) await eventually(served)
  for (const own of [port, port + 1])
    await eventually(async () => expect((await fetch(`http://127.0.0.1:${own}/readyz`)).status).toBe(200))
  for (const number of [1, 2])
    expect(await assay(['audit', 'verify', many.auditFile.replace('.jsonl', `.${number}.jsonl`)])).toMatchObject({ code: 0 })
})

/** What an operator could seal at this Vault: a login of the server, for the agent. */
async function loginOf({ port, user: username, password }: Postgres): Promise<string> {
  const asked = async (method: string, path: string, body?: object) => (await world.vault.api(method, path, body)).body
  const vault = {
    read: (path: string) => asked('GET', path),
    write: (path: string, body: object) => asked('POST', path, body),
  } as unknown as OwnVault
  const monotonic = () => performance.now()
  // the keys are there once the broker has used them
  await sealed()
  const sealing = {
    vault,
    signer: openSigner(vault, 'transit', monotonic),
    transit: 'transit',
    mode: 'datakey',
    monotonic,
  } as const
  const x5tS256 = createHash('sha256').update(agent.held.certificate).digest('base64url')
  const destinations = [`postgres://127.0.0.1:${port}/postgres`]
  const what = toSeal({ x5tS256, destinations, fields: { username, password }, now: Date.now() })
  return (await openSealer(sealing)(what)).token.reveal()
}

test('a query is cancelled whichever of the workers hears that it is to be', async () => {
  await using database = await startPostgres()
  const held = await loginOf(database)
  const { listen } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const port = await freePort()
  const server = { server: `127.0.0.1:${database.port}`, tls: 'disable', addresses: ['127.0.0.1'], start_within_ms: 60_000 }
  const service = { kind: 'postgres', name: 'db', listen: { port }, ...server }
  await using _many = await startProxy(world.vault, { listen, workers: 2, services: [service] })
  const shown = { PGSSLMODE: 'verify-full', PGSSLROOTCERT: ca.ca, PGSSLCERT: agent.cert, PGSSLKEY: agent.key, PGPASSWORD: held }
  const where = { PGHOST: 'localhost', PGPORT: String(port), PGUSER: 'agent', PGDATABASE: 'postgres' }
  const env = { PATH: process.env['PATH'], ...where, ...shown }
  const words = ['--no-psqlrc', '--no-password', '-At', '-c']
  const { user: PGUSER, password: PGPASSWORD } = database
  const beside = { PATH: process.env['PATH'], PGHOST: '127.0.0.1', PGPORT: String(database.port), PGUSER, PGPASSWORD }
  const running = []
  for (const seconds of [601, 602]) {
    running.push(await start('psql', [...words, `select pg_sleep(${seconds})`], { env }))
    const begun = [...words, `select count(*) from pg_stat_activity where query = 'select pg_sleep(${seconds})'`, 'postgres']
    await eventually(async () => expect((await run('psql', begun, { env: beside })).stdout).toBe('1\n'))
  }
  // connections go to the workers by turns: each of these comes to the one that has not its session
  for (const one of running.toReversed()) {
    process.kill(one.pid, 'SIGINT')
    await one.line(/canceling statement due to user request/)
  }
})

test('workers that are told to stop with their whole group, as by a terminal, finish what is in flight and have it on record', async () => {
  const { token: held } = await sealed()
  const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  await using many = await startProxy(world.vault, { listen, services, workers: 2, shutdown_seconds: 600 })
  const children = await workersOf(many)
  const asked = [1, 2].map(() => curl(`${base(many.port)}/apps/slow`, bearer(held)))
  await eventually(() => expect(waited).toHaveLength(2))
  for (const pid of [...children, many.server.pid]) process.kill(pid, 'SIGINT')
  await eventually(async () => expect(await curl(base(many.port))).toContain('onnect'))
  for (const outgoing of waited.splice(0)) outgoing.end('fine')
  expect(await Promise.all(asked)).toEqual(['fine 200', 'fine 200'])
  expect((await many.server.exited).code).toBe(0)
  for (const number of [1, 2])
    expect(await assay(['audit', 'verify', many.auditFile.replace('.jsonl', `.${number}.jsonl`)])).toMatchObject({ code: 0 })
})

describe('a proxy that is killed', () => {
  const killed = async (audit: object, after: (one: AssayProxy) => Promise<void>) => {
    const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
    const { token: held } = await sealed()
    const file = ca.at(`killed-${Math.random()}.jsonl`)
    await using one = await startProxy(world.vault, { listen, services, audit: { file, deadline_ms: 60_000, ...audit } })
    const place = `${base(one.port)}/apps/a`
    for (const _ of [1, 2, 3]) expect(await curl(place, bearer(held))).toBe('fine 200')
    await after({ ...one, auditFile: file })
    expect(await curl(place, bearer(held))).toBe('fine 200')
    await one.server.stop('SIGKILL')
    expect(await assay(['audit', 'verify', file])).toMatchObject({ code: 0 })
    return swapsIn(file)
  }
  const swapsIn = async (file: string) => ((await readFile(file, 'utf8')).match(/"operation":"swap"/g) ?? []).length

  test('has on record all that went out, where each record is durable first', async () => {
    expect(await killed({ durable: true }, async () => {})).toBe(4)
  })

  test('else lacks what went out in its last tenth of a second, at most', async () => {
    const settled = (one: AssayProxy) => eventually(async () => expect(await swapsIn(one.auditFile)).toBe(3))
    expect(await killed({}, settled)).toBeGreaterThanOrEqual(3)
  })
})

test('a configuration is checked by its command, with line and column', async () => {
  expect(await assay(['proxy', 'check', proxy.configFile])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('2 services'),
  })
  const file = ca.at('wrong.yaml')
  await writeFile(file, (await readFile(proxy.configFile, 'utf8')).replace('"hosts"', '"host"'))
  const { code, stderr } = await assay(['proxy', 'check', file])
  expect(code).toBe(1)
  expect(stderr).toMatch(/wrong\.yaml:\d+:\d+ services\.0\.host: there is no such setting/)
  const started = await assay(['proxy', '--dev', '--config', file], { VAULT_TOKEN: world.vault.rootToken })
  expect(started).toMatchObject({ code: 1, stderr })
})

test.each([
  ['without verification of certificates', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, 'not starting without verification'],
  ['with a parser that is lenient', { NODE_OPTIONS: '--insecure-http-parser' }, '--insecure-http-parser is set'],
  ['without a login', {}, 'vault.approle: wanted'],
])('it does not start %s', async (_, env, sentence) => {
  const { code, stderr } = await assay(['proxy', '--config', proxy.configFile], env)
  expect(code).not.toBe(0)
  expect(stderr).toContain(sentence)
})

test('what the pages have an operator write is taken as it stands', async () => {
  const pages = await Promise.all(
    ['proxy', 'postgres-and-ssh', 'consent'].map(name => readFile(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')),
  )
  const blocks = pages.flatMap(page => page.split(/^```.*\n/m).filter((_, at) => at % 2 === 1))
  const written = blocks.filter(block => block.startsWith('vault write '))
  expect(written.length).toBeGreaterThan(2)
  // what the pages say is there already
  const before = [
    'vault secrets enable ssh',
    'vault write -f ssh/config/ca',
    'vault write -f transit/keys/assay-github-acme type=rsa-2048',
    'vault write broker/integration/gh-acme type=github_app settings=app_id=12,installation_id=34,key=assay-github-acme,ceiling=contents:read',
  ]
  const { data } = await done(world.api('GET', 'broker/config'))
  const named = written.flatMap(block => [...block.matchAll(/ actions=(\S+)/g)].map(([, actions = '']) => actions))
  await done(world.api('POST', 'broker/config', { actions: [...data.actions, ...named].join(',') }))
  const env = { PATH: process.env['PATH'], VAULT_ADDR: world.door.address, VAULT_TOKEN: world.vault.rootToken }
  const folder = await mkdtemp(join(tmpdir(), 'assay-pages-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await symlink(await vaultBinary(), join(folder, 'vault'))
  const script = ['set -e', 'cd "$0"', 'PATH="$0:$PATH"', ...before, ...written].join('\n')
  const { code, stderr } = await run('sh', ['-c', script, folder], { env: { ...env, HOME: folder } })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})
