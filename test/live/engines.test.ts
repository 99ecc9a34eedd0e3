import { createPrivateKey, X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { assay } from '../harness/assay.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { type Sshd, startSshd } from '../harness/peers/sshd.ts'
import { until } from '../harness/process.ts'
import { sql as asked, connected, databaseEngine, isRefused, type Login } from './database_engine.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, auditOf, done, logIn } from './world.ts'

// Engines of Vault through a role of ours: a real PostgreSQL server, a real sshd.
let world: EnrolledWorld
let attester: Attester
let token: string
let postgres: Postgres
let sshd: Sshd
const stack = new AsyncDisposableStack()
beforeAll(async () => {
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = stack.use(await openEnrolledWorld({ vaultArgs: [`-dev-plugin-dir=${plugins}`], broker: false }))
  ;({ attester } = world)
  postgres = stack.use(await startPostgres())
  await databaseEngine(write, postgres)
  sshd = stack.use(await startSshd(await certificateAuthority()))
  await pki()
  await roles()
  token = await logIn(world.service, attester)
})
afterAll(() => stack.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))
const creds = (role: string, body: object = {}, as = token) =>
  ask(world.door.address, 'PUT', `broker/creds/${role}`, { token: as, body })

async function certificateAuthority(): Promise<string> {
  await write('sys/mounts/ssh', { type: 'ssh' })
  const { data } = (await done(world.api('POST', 'ssh/config/ca', { generate_signing_key: true, key_type: 'ed25519' }))) as {
    data: { public_key: string }
  }
  return data.public_key
}

async function pki(): Promise<void> {
  await write('sys/mounts/pki', { type: 'pki' })
  await write('pki/root/generate/internal', { common_name: 'Authority of the agents', ttl: '24h' })
  const allowed = { allowed_domains: 'agents.example', allow_subdomains: true, max_ttl: '12h', ttl: '12h' }
  await write('pki/roles/agents', { ...allowed, key_type: 'ec', key_bits: 256 })
  await write('pki/roles/leased', { ...allowed, key_type: 'ec', key_bits: 256, generate_lease: true })
}

async function roles(): Promise<void> {
  const signing = {
    key_type: 'ca',
    allow_user_certificates: true,
    default_user: sshd.user,
    allowed_users: sshd.user,
    ttl: '1h',
    max_ttl: '1h',
  }
  await write('ssh/roles/agents', { ...signing, default_extensions: { 'permit-pty': '' } })
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/config', { actions: 'deploy' })
  await write('broker/policy/builders', { policy: 'permit (principal, action == Action::"deploy", resource);' })
  const common = { plugins: 'reader', actions: 'deploy', audiences: 'orders', issuer: 'vault', ttl: '5m' }
  await write('broker/role/orders', { ...common, vault_path: 'database/creds/reader' })
  const ssh = { vault_path: 'ssh/sign/agents', vault_write: true, vault_accepts: 'public_key', vault_ttl: 'ttl' }
  await write('broker/role/host', { ...common, ...ssh, vault_parameters: { valid_principals: sshd.user } })
  const pki = { vault_path: 'pki/issue/agents', vault_write: true, vault_parameters: { common_name: 'deploy.agents.example' } }
  await write('broker/role/certificate', { ...common, ...pki, vault_ttl: 'ttl' })
  await write('broker/role/long-certificate', { ...common, ...pki })
  await write('broker/role/leased-certificate', { ...common, ...pki, vault_path: 'pki/issue/leased' })
  await write('broker/role/short-certificate', { ...common, ...pki, vault_path: 'pki/issue/leased', vault_ttl: 'ttl' })
  const allowed = ['broker/creds/*', 'auth/token/create', 'ssh/sign/agents', 'pki/issue/*'].map(
    path => `path "${path}" { capabilities = ["update"] }`,
  )
  await write('sys/policies/acl/builder', {
    policy: [...allowed, 'path "database/creds/reader" { capabilities = ["read"] }'].join('\n'),
  })
}

const sql = (as: Login, text: string) => asked(postgres, as, text)
const refusedLogin = (login: Login) => isRefused(postgres, login)

describe('PostgreSQL through the database engine', () => {
  test('a login that reads, lives as long as the grant, and has a lease of Vault’s own', async () => {
    const { status, body } = await creds('orders')
    expect({ status, errors: body.errors }).toEqual({ status: 200 })
    expect(body.lease_id).toMatch(/^database\/creds\/reader\//)
    expect(body.data.expires_in).toBeLessThanOrEqual(300)
    const login = { user: body.data.username as string, password: body.data.password as string }
    expect(await sql(login, 'SELECT id FROM orders')).toEqual([{ id: 7 }])
    await expect(sql(login, 'DELETE FROM orders')).rejects.toThrow(/permission denied/)
    await done(world.api('POST', 'sys/leases/lookup', { lease_id: body.lease_id }))
  })

  test('revoking the lease with the stock CLI ends the login, and the sessions that are open', async () => {
    const { body } = await creds('orders')
    const login = { user: body.data.username as string, password: body.data.password as string }
    const client = await connected(postgres, login)
    await world.operator(['lease', 'revoke', body.lease_id])
    await until('the login to be refused', () => refusedLogin(login))
    await expect(client.query('SELECT 1')).rejects.toThrow()
  })

  test('the same request again gets the same login while it lives, and another when it does not', async () => {
    const [first, second] = await Promise.all([creds('orders', { ttl: '4m' }), creds('orders', { ttl: '4m' })])
    expect(second.body.lease_id).toBe(first.body.lease_id)
    expect(second.body.data.username).toBe(first.body.data.username)
    await world.operator(['lease', 'revoke', first.body.lease_id])
    await until(
      'the lease to be gone',
      async () => (await world.api('POST', 'sys/leases/lookup', { lease_id: first.body.lease_id })).status === 400,
    )
    const third = await creds('orders', { ttl: '4m' })
    expect(third.body.lease_id).not.toBe(first.body.lease_id)
  })

  test('the end of the grant is the end of the login, though the engine would have given an hour', async () => {
    const { body } = await creds('orders', { ttl: '10s' })
    expect(body.data.expires_in).toBeLessThanOrEqual(10)
    const login = { user: body.data.username as string, password: body.data.password as string }
    await until('the login to be refused', () => refusedLogin(login))
  })

  test('revoking the token of the agent ends what was issued to it', async () => {
    const own = await logIn(world.service, attester)
    const { body } = await creds('orders', {}, own)
    const login = { user: body.data.username as string, password: body.data.password as string }
    expect(await sql(login, 'SELECT id FROM orders')).toEqual([{ id: 7 }])
    await done(world.api('POST', 'auth/token/revoke', { token: own }))
    await until('the login to be refused', () => refusedLogin(login))
  })

  test('neither the password nor the token is in the audit log', async () => {
    const { body } = await creds('orders')
    const log = JSON.stringify(await auditOf(world.door.auditFile))
    expect(log).toContain(body.request_id)
    expect(log).not.toContain(body.data.password)
    expect(log).not.toContain(token)
  })
})

describe('SSH through the ssh engine', () => {
  test('a certificate for the key of the agent, which sshd takes', async () => {
    const { status, body } = await creds('host', { parameters: { public_key: sshd.publicKey } })
    expect(status).toBe(200)
    expect(body.data.expires_in).toBeLessThanOrEqual(300)
    const login = await sshd.ssh(body.data.signed_key as string, 'echo in')
    expect({ ...login, stderr: '' }).toMatchObject({ code: 0, stdout: 'in\n' })
    expect((await sshd.ssh(undefined, 'echo in')).code).not.toBe(0)
  })

  test('an agent cannot name another principal, or no key', async () => {
    const other = await creds('host', { parameters: { public_key: sshd.publicKey, valid_principals: 'admin' } })
    expect({ status: other.status, errors: other.body.errors }).toMatchObject({
      status: 403,
      errors: [expect.stringMatching(/^PARAMETERS: /)],
    })
    const none = await creds('host')
    expect({ status: none.status, errors: none.body.errors }).toMatchObject({
      status: 403,
      errors: [expect.stringMatching(/^EXCHANGE_REFUSED: .*status_400/)],
    })
  })
})

describe('certificates through the pki engine', () => {
  test('one for the name of the role, that ends with the grant', async () => {
    const { status, body } = await creds('certificate')
    expect({ status, errors: body.errors }).toEqual({ status: 200 })
    const certificate = new X509Certificate(body.data.certificate as string)
    expect(certificate.verify(new X509Certificate(body.data.issuing_ca as string).publicKey)).toBe(true)
    expect(certificate.subject).toBe('CN=deploy.agents.example')
    expect(certificate.checkPrivateKey(createPrivateKey(body.data.private_key as string))).toBe(true)
    expect(Date.parse(certificate.validTo)).toBe(Math.floor(Date.parse(body.data.expires_at as string) / 1000) * 1000)
    expect(body.data.expires_in).toBeLessThanOrEqual(305)
  })

  test('none for a name of the agent’s own', async () => {
    const { status, body } = await creds('certificate', { parameters: { common_name: 'admin.agents.example' } })
    expect({ status, errors: body.errors }).toMatchObject({ status: 403, errors: [expect.stringMatching(/^PARAMETERS: /)] })
  })

  test.each([
    ['', 'long-certificate'],
    [', though it has a lease that ends with it', 'leased-certificate'],
  ])('none that would outlive the grant, where the engine was not told how long%s', async (_, role) => {
    const { status, body } = await creds(role)
    expect({ status, errors: body.errors }).toMatchObject({ status: 403, errors: [expect.stringMatching(/^EXCHANGE_WIDER: /)] })
    const leased = async () => (await world.vault.api('LIST', 'sys/leases/lookup/pki/issue/leased')).status
    await until('no lease to be left', async () => (await leased()) === 404)
  })

  test('one with a lease, that ends with the grant', async () => {
    const { status, body } = await creds('short-certificate')
    expect({ status, lease: body.lease_id }).toEqual({ status: 200, lease: expect.stringMatching(/^pki\/issue\/leased\//) })
    expect(Date.parse(new X509Certificate(body.data.certificate as string).validTo)).toBe(Date.parse(body.data.expires_at))
  })
})

test('the agent’s own command line gives the parts, and what the provider has to know', async () => {
  const agent = (args: readonly string[]) =>
    assay(['agent', ...args, '--address', world.door.address, '--json'], { PATH: process.env['PATH'], VAULT_TOKEN: token })
  const login = JSON.parse((await agent(['creds', 'orders'])).stdout) as { data: { username: string; password: string } }
  const { username: user, password } = login.data
  expect(await sql({ user, password }, 'SELECT id FROM orders')).toEqual([{ id: 7 }])
  const signed = await agent(['creds', 'host', '--parameter', `public_key=${sshd.publicKey.trim()}`])
  const { data } = JSON.parse(signed.stdout) as { data: { signed_key: string } }
  expect((await sshd.ssh(data.signed_key, 'echo in')).stdout).toBe('in\n')
})

test('what Vault does not let the agent do is not done for it', async () => {
  await write('broker/role/admin', {
    plugins: 'reader',
    actions: 'deploy',
    audiences: 'x',
    issuer: 'vault',
    vault_path: 'database/creds/admin',
  })
  expect((await creds('admin')).body.errors).toEqual([
    expect.stringMatching(/EXCHANGE_REFUSED: .*database\/creds\/admin: status_403/),
  ])
})

test('a role that lacks what its issuer needs is refused when it is written', async () => {
  const role = { plugins: 'reader', actions: 'deploy', audiences: 'x', issuer: 'vault' }
  const refused = async (more: object) => (await world.api('POST', 'broker/role/bad', { ...role, ...more })).body?.errors
  expect(await refused({})).toEqual([expect.stringMatching(/^missing vault_path: /)])
  expect(await refused({ vault_path: 'a/b', repositories: 'x' })).toEqual(['repositories: the issuer vault has no such field'])
  expect(await refused({ vault_path: '../sys/raw' })).toEqual([expect.stringMatching(/^vault_path: wanted /)])
  expect(await refused({ vault_path: 'a/b', vault_write: true, vault_accepts: 'ttl', vault_ttl: 'ttl' })).toEqual([
    expect.stringMatching(/^vault_accepts: /),
  ])
  expect(await refused({ vault_path: 'a/b', vault_ttl: 'ttl' })).toEqual([
    expect.stringMatching(/^vault_write: wanted with parameters/),
  ])
  expect(await refused({ vault_path: 'a/b', integration: 'x' })).toEqual(['integration: the issuer vault has no use for one'])
})
