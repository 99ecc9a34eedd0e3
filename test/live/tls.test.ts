import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { freePort, type Running, run, start, until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'
import { dial } from '../mounts/hosts/wire.ts'

// The front door over TLS, as the stock CLI and a client on the wire see it, and its certificates that are renewed while it runs.

let home: string
let vault: Vault
let authority: Authority
let door: Running
let address: string
const at = (name: string) => join(home, name)

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-tls-'))
  authority = await newAuthority('tests')
  vault = await startVault()
  await Promise.all([writeFile(at('ca.pem'), authority.ca), renew()])
  const applied = await assay(['setup', '--apply', '--secret-id-file', at('secret_id')], vault.env)
  const roleId = /role_id: (\S+)/.exec(applied.stdout)?.[1]
  const port = await freePort()
  address = `https://127.0.0.1:${port}`
  const config = {
    vault: { address: vault.address, approle: { role_id: roleId, secret_id_file: at('secret_id') } },
    listen: { port, tls: { cert_file: at('cert.pem'), key_file: at('key.pem') } },
    audit: { file: at('audit.jsonl') },
  }
  await writeFile(at('assay.yaml'), JSON.stringify(config))
  const command = [join(import.meta.dirname, '../../scripts/assay.js'), 'server', '--config', at('assay.yaml')]
  door = await start(process.execPath, command, { env: { PATH: process.env['PATH'], HOME: home } })
  await door.line(/^assay serves https/)
})
afterAll(async () => {
  await door?.stop()
  await vault?.stop()
  await rm(home, { recursive: true, force: true })
})

/** Writes a new certificate and its key, each in one step, and gives its fingerprint. */
async function renew(): Promise<string> {
  const { cert, key, sha256 } = await authority.issue('localhost')
  await Promise.all([writeFile(at('cert.new'), cert), writeFile(at('key.new'), key)])
  await Promise.all([rename(at('cert.new'), at('cert.pem')), rename(at('key.new'), at('key.pem'))])
  return sha256
}

async function fingerprint(): Promise<string> {
  const { socket } = await dial(address, { ca: authority.ca })
  const { fingerprint256 } = (socket as TLSSocket).getPeerCertificate()
  socket.destroy()
  return fingerprint256.replaceAll(':', '').toLowerCase()
}

test('the stock CLI, and curl with a verb of Vault’s', async () => {
  const env = { VAULT_ADDR: address, VAULT_CACERT: at('ca.pem') }
  expect(await vault.cli(['kv', 'put', 'secret/app', 'a=b'], { env })).toMatchObject({ code: 0 })
  expect((await vault.cli(['kv', 'list', '-format=json', 'secret'], { env })).stdout).toContain('"app"')
  const options = ['-s', '--cacert', at('ca.pem'), '-X', 'LIST', '-H', `X-Vault-Token: ${vault.rootToken}`]
  expect((await run('curl', [...options, `${address}/v1/secret/metadata`])).stdout).toContain('"keys":["app"]')
})

test('verbs by turns on one connection, every byte in a record of its own', async () => {
  const line = await dial(address, { ca: authority.ca })
  const head = (verb: string, path: string) =>
    `${verb} /v1/${path} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: ${vault.rootToken}\r\n\r\n`
  for (const [at, bytes] of [
    head('LIST', 'secret/metadata'),
    head('GET', 'secret/data/app'),
    head('LIST', 'secret/metadata'),
  ].entries()) {
    for (const byte of bytes) await new Promise(resolve => line.socket.write(byte, resolve))
    await line.until(new RegExp(`(?:HTTP/1\\.1 200 [\\s\\S]*?"data"[\\s\\S]*?\\n){${at + 1}}`))
  }
})

test('SIGHUP: the next connection sees the renewed certificate', async () => {
  const before = await fingerprint()
  const renewed = await renew()
  expect(await fingerprint()).toBe(before)
  process.kill(door.pid, 'SIGHUP')
  // who shakes hands as it happens is cut off, as everybody is who came by the old one
  await until('the renewed certificate', async () => (await fingerprint().catch(() => '')) === renewed)
})

test('a certificate that cannot be read changes nothing, and the log says which', async () => {
  const before = await fingerprint()
  await rm(at('key.pem'))
  process.kill(door.pid, 'SIGHUP')
  await door.line(/key\.pem cannot be read/)
  expect(await fingerprint()).toBe(before)
  await renew()
})
