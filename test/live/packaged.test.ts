import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { provisioned } from '../harness/peers/provisioned.ts'
import { freePort, run, start } from '../harness/process.ts'
import { vaultBinary } from '../harness/vault.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-packaged-'))
})
afterAll(() => rm(home, { recursive: true, force: true }))

test('hadolint has nothing to say of the Dockerfile, and would', async () => {
  const hadolint = await provisioned('need_hadolint', 'hadolint')
  const file = join(import.meta.dirname, '../../packaging/Dockerfile')
  expect(await run(hadolint, ['--failure-threshold', 'style', file])).toMatchObject({ code: 0, stdout: '', stderr: '' })
  const text = await readFile(file, 'utf8')
  const spoilt = await run(hadolint, ['-'], { input: text.replace(/^USER .*$/m, 'USER root').replace(/(node:)\S+/g, '$1latest') })
  expect(spoilt.code).toBe(1)
  expect(spoilt.stdout).toMatch(/DL3007[\s\S]*DL3002/)
}) // where nobody set it up before, it is installed here

test('the example of a Vault with integrated storage and TLS starts, is initialised and unsealed', async () => {
  const [port, cluster, binary] = [await freePort(), await freePort(), await vaultBinary()]
  const authority = await newAuthority('tests')
  const { cert, key } = await authority.issue('localhost')
  for (const folder of ['raft', 'etc/tls']) await mkdir(join(home, folder), { recursive: true })
  for (const [name, text] of Object.entries({ cert, key, ca: authority.ca }))
    await writeFile(join(home, `etc/tls/${name}.pem`), text)
  const text = await readFile(join(import.meta.dirname, '../../packaging/vault.hcl'), 'utf8')
  // only places are others here: folders, addresses, and that there are no other nodes
  const here = text
    .replaceAll('/var/lib/vault', join(home, 'raft'))
    .replaceAll('/etc/vault', join(home, 'etc'))
    .replaceAll(/0\.0\.0\.0:8200|vault-1\.internal:8200/g, `127.0.0.1:${port}`)
    .replaceAll(/0\.0\.0\.0:8201|vault-1\.internal:8201/g, `127.0.0.1:${cluster}`)
    .replaceAll(/ {2}retry_join \{[^}]*\}\n/g, '')
  expect(here).not.toMatch(/internal/)
  await writeFile(join(home, 'vault.hcl'), here)
  const env = {
    PATH: process.env['PATH'],
    HOME: home,
    VAULT_ADDR: `https://127.0.0.1:${port}`,
    VAULT_CACERT: join(home, 'etc/tls/ca.pem'),
  }
  await using server = await start(binary, ['server', `-config=${join(home, 'vault.hcl')}`], { cwd: home, env })
  const vault = (...words: string[]) => run(binary, words, { env })
  await server.ready(
    'to answer',
    async () => (await vault('status', '-format=json')).stdout.includes('"initialized": false'),
    30_000,
  )
  const { stdout } = await vault('operator', 'init', '-format=json', '-key-shares=1', '-key-threshold=1')
  const { unseal_keys_b64: keys } = JSON.parse(stdout) as { unseal_keys_b64: string[] }
  expect(await vault('operator', 'unseal', keys[0] ?? '')).toMatchObject({ code: 0 })
  await server.ready('to be active', async () => (await vault('status', '-format=json')).code === 0)
  expect(JSON.parse((await vault('status', '-format=json')).stdout)).toMatchObject({ sealed: false, storage_type: 'raft' })
})
