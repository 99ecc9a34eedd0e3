import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { assay } from '../harness/assay.ts'
import { freePort, type Running, start } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { type Side, type Sides, sidesOf } from './sides.ts'

/** `cert` and `key` are good for a client too. */
export type TlsSides = Sides & { readonly ca: string; readonly cert: string; readonly key: string }

/** As `openSides`, over TLS: to a listener of Vault's that has it, and to a front door that has it and speaks to Vault by it. While they are
 *  there, this process trusts the authority that issued their certificates. */
export async function openTlsSides(): Promise<TlsSides> {
  await using opening = new AsyncDisposableStack()
  const home = await mkdtemp(join(tmpdir(), 'assay-sides-'))
  opening.defer(() => rm(home, { recursive: true, force: true }))
  const { ca, issue } = await newAuthority('sides')
  const { cert, key } = await issue('localhost')
  const files = { ca: join(home, 'ca.pem'), cert: join(home, 'cert.pem'), key: join(home, 'key.pem') }
  await Promise.all([writeFile(files.ca, ca), writeFile(files.cert, cert), writeFile(files.key, key)])
  const trusted = getCACertificates('default')
  setDefaultCACertificates([...trusted, ca])
  opening.defer(() => setDefaultCACertificates(trusted))
  const [one, other] = await Promise.all([startVault({ tls: files }), startVault({ tls: files })])
  opening.use(one)
  opening.use(other)
  const [, address] = await Promise.all(
    [one, other].map(async (vault, at) => {
      const door = await startDoor(vault, join(home, String(at)), files)
      opening.defer(async () => void (await door.server.stop()))
      return door.address
    }),
  )
  const sideOf = (name: Side['name'], vault: Vault, at: string): Side => ({
    name,
    address: at,
    vault,
    cli: (args, { env = {}, ...rest } = {}) =>
      vault.cli(args, { ...rest, env: { VAULT_ADDR: at, VAULT_CACERT: files.ca, ...env } }),
  })
  const straight = sideOf('straight', one, one.doorAddress)
  const through = sideOf('through', other, address ?? '')
  return { ...sidesOf(straight, through, opening.move()), ca, cert, key }
}

type Files = { readonly ca: string; readonly cert: string; readonly key: string }

/** Set up as in production: an AppRole, a file of settings. */
async function startDoor(vault: Vault, base: string, files: Files): Promise<{ server: Running; address: string }> {
  const applied = await assay(['setup', '--apply', '--secret-id-file', `${base}.secret`], vault.env)
  if (applied.code !== 0) throw new Error(`setup ended with ${applied.code}: ${applied.stderr}`)
  const roleId = /^role_id: (\S+)$/m.exec(applied.stdout)?.[1]
  const port = await freePort()
  const config = {
    vault: {
      address: vault.doorAddress,
      ca_file: files.ca,
      deadline_ms: 60_000,
      approle: { role_id: roleId, secret_id_file: `${base}.secret` },
    },
    listen: { port, tls: { cert_file: files.cert, key_file: files.key } },
    audit: { file: `${base}.jsonl`, deadline_ms: 60_000 },
  }
  await writeFile(`${base}.yaml`, JSON.stringify(config))
  const command = [join(import.meta.dirname, '../../scripts/assay.js'), 'server', '--config', `${base}.yaml`]
  const server = await start(process.execPath, command, { env: { PATH: process.env['PATH'], HOME: tmpdir() } })
  await server.line(/^assay serves https/)
  return { server, address: `https://127.0.0.1:${port}` }
}
