import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { freePort, start } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'

// `assay setup --config`: what is set up is where the service will look for it.

let folder: string
let vault: Vault
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-setup-config-'))
  vault = await startVault()
})
afterAll(async () => {
  await vault?.stop()
  await rm(folder, { recursive: true, force: true })
})

const at = (name: string) => join(folder, name)
const places = { transit: 'keys', kv: 'broker-state' }

async function written(name: string, roleId: string, port: number): Promise<string> {
  const config = {
    vault: { address: vault.address, approle: { mount: 'machines', role_id: roleId, secret_id_file: at('secret-id') } },
    listen: { port },
    audit: { file: at('audit.jsonl') },
    places,
  }
  await writeFile(at(name), JSON.stringify(config))
  return at(name)
}

test('the places, the server and the file of a configuration: what serves there finds all that it needs', async () => {
  const port = await freePort()
  const file = await written('assay.yaml', 'not known yet', port)
  const applied = await assay(['setup', '--apply', '--config', file, '--name', 'blue'], { VAULT_TOKEN: vault.rootToken })
  expect(applied).toMatchObject({ code: 0, stderr: '' })
  const [, roleId = ''] = applied.stdout.match(/^role_id: (\S+)$/m) ?? []
  const command = [join(import.meta.dirname, '../../scripts/assay.js'), 'server', '--config', await written('b', roleId, port)]
  await using server = await start(process.execPath, command, { env: { PATH: process.env['PATH'], HOME: folder } })
  await server.line(/^assay serves /)
  const env = { VAULT_ADDR: `http://127.0.0.1:${port}` }
  expect(await vault.cli(['secrets', 'enable', 'broker'], { env })).toMatchObject({ code: 0 })
  expect((await vault.cli(['list', 'keys/keys'])).stdout).toContain('assay-issue-')
  expect((await vault.cli(['policy', 'list'])).stdout).toMatch(/^blue$/m)
  // nothing of it is where it would be without a configuration
  expect((await vault.cli(['secrets', 'list'])).stdout).not.toMatch(/^(transit|assay)\//m)
})

test('flags and environment come before it', async () => {
  const file = await written('elsewhere.yaml', 'x', 1)
  const config = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ ...config, vault: { ...config.vault, address: 'http://127.0.0.1:1' } }))
  const words = ['setup', '--apply', '--config', file]
  const env = { VAULT_TOKEN: vault.rootToken }
  expect(await assay(words, env)).toMatchObject({ code: 3, stderr: expect.stringContaining('cannot be reached') as string })
  const given = ['--vault-addr', vault.address, '--secret-id-file', at('another')]
  expect((await assay([...words, ...given], env)).stdout).toContain(at('another'))
  expect((await assay(words, vault.env)).stdout).toContain(at('secret-id'))
})

test('of a proxy: its places, and the hosts that it intercepts', async () => {
  const service = {
    kind: 'http',
    name: 'apps',
    hosts: ['api.example.com'],
    inject: [{ header: { name: 'X', value: '{token}' } }],
  }
  const config = {
    listen: { cert_file: 'cert.pem', key_file: 'key.pem' },
    vault: { address: vault.address, approle: { mount: 'machines', role_id: 'x', secret_id_file: 'secret-id' } },
    places: { ...places, pki: 'ca' },
    audit: { file: 'proxy.jsonl' },
    intercept: true,
    services: [service],
  }
  await writeFile(at('proxy.yaml'), JSON.stringify(config))
  const { stdout } = await assay(['setup', '--proxy', '--print', '--config', at('proxy.yaml')])
  for (const word of ['keys/decrypt/assay-seal', 'broker-state/data/proxy', 'ca/issue/', 'auth/machines/role/assay-proxy'])
    expect(stdout).toContain(word)
  expect(stdout).toContain("permitted_dns_domains='api.example.com'")
  const named = await assay(['setup', '--proxy', '--print', '--config', at('proxy.yaml'), '--permit', 'other.example.com'])
  expect(named.stdout).toContain("permitted_dns_domains='other.example.com'")
  await writeFile(at('proxy.yaml'), JSON.stringify({ ...config, services: [{ ...service, hosts: 1 }] }))
  const wrong = await assay(['setup', '--proxy', '--print', '--config', at('proxy.yaml')])
  expect(wrong).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^assay: .*services\.0\.hosts/) as string })
})

test('a name is one that a policy can have', async () => {
  const { code, stderr } = await assay(['setup', '--print', '--name', '../x'])
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('wanted lower-case letters') as string })
})
