import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { freePort, type Running, run, start } from '../harness/process.ts'
import { startVault, type Vault, vaultBinary } from '../harness/vault.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { done } from './world.ts'

// Set-up as in production: what `assay setup` prints or applies, then `assay server --config` as an AppRole, over TLS.

let folder: string
let authority: Authority
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-production-'))
  authority = await openAuthority()
  await symlink(await vaultBinary(), join(folder, 'vault'))
})
afterAll(async () => {
  await authority?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const at = (name: string) => join(folder, name)
const command = [join(import.meta.dirname, '../../scripts/assay.js'), 'server', '--config']

type Settings = { vault: Vault; roleId: string; secretIdFile: string; port: number; tls?: object; more?: object }

async function configured(name: string, { vault, roleId, secretIdFile, port, tls, more }: Settings): Promise<string> {
  const config = {
    vault: { address: vault.address, approle: { role_id: roleId, secret_id_file: secretIdFile } },
    listen: { port, ...(tls ? { tls } : {}) },
    audit: { file: at(`${name}.jsonl`) },
    ...more,
  }
  await writeFile(at(`${name}.yaml`), JSON.stringify(config))
  return at(`${name}.yaml`)
}

async function serving(config: string): Promise<Running> {
  const server = await start(process.execPath, [...command, config], { env: { PATH: process.env['PATH'], HOME: folder } })
  await server.line(/^assay serves /)
  return server
}

const get = (url: string, ...options: string[]) => run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...options, url])

test('what setup prints can be run as it is, and is enough to serve', async () => {
  await using vault = await startVault()
  const printed = await assay(['setup', '--print'])
  expect(printed.code).toBe(0)
  const [, hcl = '', lines = ''] = printed.stdout.match(/# policy\.hcl\n(.*)\n# commands\n(.*)$/s) ?? []
  expect((await assay(['setup', '--policy'])).stdout.trim()).toBe(hcl.trim())
  await writeFile(at('policy.hcl'), hcl)
  const said: string[] = []
  for (const line of lines.trim().split('\n')) {
    expect(line).toMatch(/^vault /)
    const env = { ...vault.env, PATH: `${folder}:${process.env['PATH']}` }
    const { code, stdout, stderr } = await run('sh', ['-c', line], { cwd: folder, env })
    expect({ line, code, stderr }).toEqual({ line, code: 0, stderr: '' })
    said.push(stdout.trim())
  }
  const [roleId = '', secretId = ''] = said.slice(-2)
  await writeFile(at('secret-id'), secretId)
  const port = await freePort()
  await using _server = await serving(await configured('printed', { vault, roleId, secretIdFile: at('secret-id'), port }))
  expect((await get(`http://127.0.0.1:${port}/readyz`)).stdout).toBe('200')
  expect(await vault.cli(['secrets', 'enable', 'broker'], { env: { VAULT_ADDR: `http://127.0.0.1:${port}` } })).toMatchObject({
    code: 0,
  })
})

describe('applied', () => {
  let vault: Vault
  let roleId: string
  beforeAll(async () => {
    vault = await startVault()
    await writeFile(at('applied-id'), 'one of before, that others may read', { mode: 0o644 })
    const applied = await assay(['setup', '--apply', '--secret-id-file', at('applied-id')], vault.env)
    expect(applied).toMatchObject({ code: 0, stderr: '' })
    roleId = applied.stdout.match(/^role_id: (\S+)$/m)?.[1] ?? ''
  })
  afterAll(() => vault?.stop())

  test('the secret id is in its file alone, private to its owner', async () => {
    expect((await stat(at('applied-id'))).mode & 0o777).toBe(0o600)
    expect((await readFile(at('applied-id'), 'utf8')).trim()).toMatch(/^[0-9a-f-]{36}$/)
    expect(roleId).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('whoever comes with wrong secret ids does not lock out who has the right one', async () => {
    const login = async (secret_id: string) =>
      (await vault.api('POST', 'auth/approle/login', { role_id: roleId, secret_id })).status
    // as many as Vault puts up with of users who have passwords, and one more
    for (const _ of [1, 2, 3, 4, 5, 6]) expect(await login('one of before')).toBe(400)
    expect(await login((await readFile(at('applied-id'), 'utf8')).trim())).toBe(200)
  })

  test('a second time changes nothing that is there', async () => {
    const again = await assay(['setup', '--apply', '--secret-id-file', at('again-id')], vault.env)
    expect(again.stdout).toContain(roleId)
  })

  test('over TLS: the stock CLI, curl, and nobody without trust', async () => {
    const { cert, key } = await authority.issue('server')
    const port = await freePort()
    const tls = { cert_file: cert, key_file: key }
    await using _server = await serving(await configured('tls', { vault, roleId, secretIdFile: at('applied-id'), port, tls }))
    const address = `https://127.0.0.1:${port}`
    expect((await get(`${address}/readyz`, '--cacert', authority.ca)).stdout).toBe('200')
    expect((await get(`${address}/readyz`)).code).not.toBe(0)
    expect((await get(`${address}/readyz`, '--cacert', authority.ca, '--tls-max', '1.2')).code).not.toBe(0)
    const env = { VAULT_ADDR: address, VAULT_CACERT: authority.ca }
    expect(await vault.cli(['secrets', 'enable', '-path=overtls', 'broker'], { env })).toMatchObject({ code: 0 })
    const discovery = await run('curl', [
      '-s',
      '--cacert',
      authority.ca,
      `${address}/v1/overtls/.well-known/openid-configuration`,
    ])
    expect(JSON.parse(discovery.stdout)).toMatchObject({ issuer: `${address}/v1/overtls` })
  })

  test('who is told to stop says so, and goes on until balancers have seen it', async () => {
    const port = await freePort()
    const settings = { vault, roleId, secretIdFile: at('applied-id'), port, more: { drain_seconds: 600 } }
    await using server = await serving(await configured('drained', settings))
    const door = (path: string) => fetch(`http://127.0.0.1:${port}${path}`)
    expect((await door('/readyz')).status).toBe(200)
    process.kill(server.pid, 'SIGTERM')
    await server.ready('to say that it leaves', async () => (await door('/readyz')).status === 503)
    expect(await (await door('/readyz')).json()).toMatchObject({ ready: false, checks: { vault: true, serving: false } })
    const passed = await door('/v1/sys/health')
    expect([passed.status, passed.headers.get('connection')]).toEqual([200, 'close'])
    await server.stop('SIGKILL')
  })

  test('over mutual TLS: only who has a certificate, the agent included', async () => {
    const [server, client] = await Promise.all([authority.issue('door'), authority.issue('client')])
    const port = await freePort()
    const tls = { cert_file: server.cert, key_file: server.key, client_ca_file: authority.ca, min_version: 'TLSv1.2' }
    await using _server = await serving(await configured('mtls', { vault, roleId, secretIdFile: at('applied-id'), port, tls }))
    const address = `https://127.0.0.1:${port}`
    const trust = ['--cacert', authority.ca]
    const known = ['--cert', client.cert, '--key', client.key]
    expect((await get(`${address}/readyz`, ...trust, ...known)).stdout).toBe('200')
    expect((await get(`${address}/readyz`, ...trust, ...known, '--tls-max', '1.2')).stdout).toBe('200')
    expect((await get(`${address}/readyz`, ...trust)).code).not.toBe(0)
    const { stdout: metrics } = await run('curl', ['-s', ...trust, ...known, `${address}/metrics`])
    for (const [setting, file] of [
      ['cert_file', server.cert],
      ['client_ca_file', authority.ca],
    ] as const) {
      const ends = new X509Certificate(await readFile(file)).validToDate.getTime() / 1000
      expect(metrics).toContain(`assay_certificate_end_timestamp_seconds{setting="listen.tls.${setting}"} ${ends}\n`)
    }
    const env = { VAULT_ADDR: address, VAULT_CACERT: authority.ca }
    const cli = { ...env, VAULT_CLIENT_CERT: client.cert, VAULT_CLIENT_KEY: client.key }
    expect((await vault.cli(['status'], { env: cli })).code).toBe(0)
    expect((await vault.cli(['status'], { env })).code).not.toBe(0)
    const asked = (more: object) => assay(['agent', 'creds', 'x', '--address', address], { VAULT_TOKEN: 'hvs.none', ...more })
    expect(await asked(cli)).toMatchObject({ code: 2, stderr: expect.stringContaining('(403)') as string })
    expect(await asked(env)).toMatchObject({ code: 3 })
  })

  test('the service may do what its policy names: neither create tokens nor export keys nor read what is not its own', async () => {
    const port = await freePort()
    await using _server = await serving(await configured('may', { vault, roleId, secretIdFile: at('applied-id'), port }))
    const accessor = await serviceAccessor(vault)
    const may = async (path: string) => {
      const { data } = await done(vault.api('POST', 'sys/capabilities-accessor', { accessor, paths: [path] }))
      return data[path] as string[]
    }
    for (const path of DENIED) expect({ path, may: await may(path) }).toEqual({ path, may: ['deny'] })
    expect(await may('transit/sign/assay-issue-x')).toEqual(['update'])
    expect(await may('assay/data/any')).toEqual(['create', 'read', 'update'])
  })
})

/** Making tokens, taking keys out, changing its own rights, reading what others keep. */
const DENIED = `
  auth/token/create auth/token/create-orphan auth/token/create/any auth/tpm-quote/role/builder auth/approle/role/assay
  transit/export/signing-key/assay-issue-x transit/backup/assay-issue-x transit/restore transit/keys/other transit/sign/other
  transit/decrypt/assay-x secret/data/any sys/policies/acl/assay sys/auth/any sys/mounts/any sys/seal sys/raw/any
  identity/entity sys/capabilities-accessor sys/leases/lookup cubbyhole/any`
  .trim()
  .split(/\s+/)

async function serviceAccessor(vault: Vault): Promise<string> {
  const { data } = await done(vault.api('LIST', 'auth/token/accessors'))
  for (const accessor of data.keys as string[]) {
    const { body } = await vault.api('POST', 'auth/token/lookup-accessor', { accessor })
    if (body.data?.path === 'auth/approle/login') return accessor
  }
  throw new Error('the service has no token')
}
