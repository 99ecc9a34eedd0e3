import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { freePort, start } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'

// What cannot work is refused at start: one sentence, no stack.

let folder: string
let vault: Vault
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-start-'))
  vault = await startVault()
})
afterAll(async () => {
  await vault?.stop()
  await rm(folder, { recursive: true, force: true })
})

const at = (name: string) => join(folder, name)

async function refused(args: readonly string[], words: RegExp, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const { code, stdout, stderr } = await assay(args, env)
  const sentence = stderr.replaceAll(/\(node:\d+\) Warning: .*\n\(Use .*\n/g, '').trim()
  expect({ args, stdout, sentence }).toEqual({ args, stdout: '', sentence: expect.stringMatching(words) as string })
  expect(sentence).not.toContain('\n')
  expect([1, 3]).toContain(code)
}

async function configured(name: string, text: string): Promise<string[]> {
  await writeFile(at(name), text)
  return ['server', '--config', at(name)]
}

test('options and environment', async () => {
  const insecure = { NODE_TLS_REJECT_UNAUTHORIZED: '0', VAULT_TOKEN: 'x' }
  await Promise.all([
    refused(['server'], /wanted --dev or --config/),
    refused(['setup'], /wanted --print, --policy or --apply/),
    refused(['setup', '--apply'], /wanted --secret-id-file/),
    refused(['setup', '--print', '--permit', 'api.example.com'], /--permit: wanted with --proxy alone/),
    refused(
      ['server', '--config', at('nowhere.yaml'), '--vault-addr', vault.address],
      /'--vault-addr <url>' cannot be used with/,
    ),
    refused(['server', '--config', at('nowhere.yaml'), '--log-level', 'debug'], /'--log-level <level>' cannot be used with/),
    refused(['server', '--dev'], /wanted an operator token in VAULT_TOKEN/),
    refused(['server', '--dev'], /NODE_TLS_REJECT_UNAUTHORIZED=0 is set: not starting without verification/, insecure),
    refused(['setup', '--apply', '--secret-id-file', at('id')], /NODE_TLS_REJECT_UNAUTHORIZED=0 is set/, insecure),
    refused(['server', '--dev'], /--insecure-http-parser is set: not starting/, { NODE_OPTIONS: '--insecure-http-parser' }),
    refused(['server', '--dev', '--listen', 'nowhere'], /wanted HOST:PORT/),
    refused(['server', '--dev', '--deadline', 'soon'], /wanted milliseconds/),
    refused(['server', '--dev', '--vault-addr', 'nowhere'], /wanted --vault-addr http:/, { VAULT_TOKEN: 'x' }),
    refused(['setup', '--apply', '--secret-id-file', at('id')], /wanted --vault-addr http:/, {
      VAULT_ADDR: '',
      VAULT_TOKEN: 'x',
    }),
  ])
})

test('a mount of its keys or its records that is not there is named, at start and by /readyz', async () => {
  await using own = await startVault()
  const { stdout } = await assay(['setup', '--apply', '--secret-id-file', at('places-id')], own.env)
  const [, role_id] = stdout.match(/^role_id: (\S+)$/m) ?? []
  const port = await freePort()
  const vaultThere = { address: own.address, approle: { role_id, secret_id_file: at('places-id') } }
  const words = await configured(
    'places.json',
    JSON.stringify({ vault: vaultThere, listen: { port }, audit: { file: at('places.jsonl') } }),
  )
  const command = [join(import.meta.dirname, '../../scripts/assay.js'), ...words]
  await using server = await start(process.execPath, command, { env: { PATH: process.env['PATH'], HOME: folder } })
  await server.line(/^assay serves /)
  const ready = async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).json()
  expect(await ready()).toMatchObject({ ready: true, checks: { vault: true, places: true } })
  const done = async (...line: string[]) => expect(await own.cli(line)).toMatchObject({ code: 0 })
  await done('secrets', 'disable', 'transit')
  expect(await ready()).toMatchObject({ ready: false, checks: { vault: true, places: false } })
  await server.stop()
  await refused(words, /nothing at transit\/ that is a transit engine \(places\.transit\): `assay setup --apply/)
  await done('secrets', 'enable', 'transit')
  await done('secrets', 'disable', 'assay')
  await refused(words, /nothing at assay\/ that is a KV engine of version 2 \(places\.kv\)/)
  await done('secrets', 'enable', '-path=assay', '-version=1', 'kv')
  await refused(words, /nothing at assay\/ that is a KV engine of version 2/)
})

test('workers that cannot start say why, and what started them says that', async () => {
  await writeFile(at('workers-id'), 'x')
  const [, ...words] = await configured(
    'workers.json',
    JSON.stringify({
      vault: { address: 'http://127.0.0.1:1', approle: { role_id: 'x', secret_id_file: at('workers-id') } },
      listen: { port: 0, cert_file: 'c', key_file: 'k' },
      audit: { file: at('workers.jsonl') },
      workers: 2,
      services: [{ kind: 'http', name: 'a', hosts: ['api.example.com'], inject: [{ header: { name: 'X', value: '{token}' } }] }],
    }),
  )
  const { code, stderr } = await assay(['proxy', ...words])
  expect(stderr).toMatch(/^assay: the vault server cannot be reached/m)
  expect(stderr).toMatch(/^assay: a worker ended before it served$/m)
  expect({ code, stack: /^ {4}at /m.test(stderr) }).toEqual({ code: 3, stack: false })
})

test('a server serves whether its first line can be written or not', async () => {
  const listen = `127.0.0.1:${await freePort()}`
  const words = ['server', '--dev', '--vault-addr', vault.address, '--listen', listen, '--audit-file', at('unheard.jsonl')]
  const server = [
    '-c',
    'exec "$@" >/dev/full',
    'sh',
    process.execPath,
    join(import.meta.dirname, '../../scripts/assay.js'),
    ...words,
  ]
  await using running = await start('sh', server, { env: { ...vault.env, HOME: folder } })
  await running.ready('to be alive', async () => (await fetch(`http://${listen}/healthz`).catch(() => undefined))?.ok === true)
  expect(await running.stop()).toMatchObject({ code: 0 })
})

describe('a reload that comes before the start is over ends nothing', () => {
  const vaultAt = (port: number) =>
    `vault: { address: 'http://127.0.0.1:${port}', deadline_ms: 1000, approle: { role_id: x, secret_id_file: ${at('early-id')} } }`
  const audit = () => `audit: { file: ${at('early.jsonl')} }`
  const proxied =
    "[{ kind: http, name: a, hosts: [api.example.com], inject: [{ header: { name: Authorization, value: 'Bearer {token}' } }] }]"

  test.each([
    ['server', (port: number) => [vaultAt(port), 'listen: { port: 0 }', audit()]],
    [
      'proxy',
      (port: number) => [vaultAt(port), 'listen: { port: 0, cert_file: c, key_file: k }', audit(), `services: ${proxied}`],
    ],
  ])('%s', async (command, lines) => {
    const silent = createServer()
    await once(silent.listen(0, '127.0.0.1'), 'listening')
    onTestFinished(() => void silent.close())
    await writeFile(at('early-id'), 'x')
    const [, ...config] = await configured('early.yaml', lines((silent.address() as AddressInfo).port).join('\n'))
    const assayAt = join(import.meta.dirname, '../../scripts/assay.js')
    await using running = await start(process.execPath, [assayAt, command, ...config], { env: { HOME: folder } })
    const [asking] = (await once(silent, 'connection')) as [Socket]
    process.kill(running.pid, 'SIGHUP')
    expect(await running.exited).toEqual({ code: 3, signal: null })
    expect(running.output()).toContain('the vault server did not answer in time')
    asking.destroy()
  })
})

test('the configuration', async () => {
  const approle = 'approle: { role_id: x, secret_id_file: /nowhere/id }'
  const rest = `vault: { address: 'http://127.0.0.1:1', ${approle} }\naudit: { file: ${at('refused.jsonl')} }`
  await Promise.all([
    refused(['server', '--config', at('nowhere.yaml')], /ENOENT: no such file or directory, open '.*nowhere\.yaml'/),
    refused(
      await configured('broken.yaml', 'a: b\nc: hvs.CANARY\nc: ['),
      /broken\.yaml:\d+:\d+ is no valid YAML or JSON: (?!.*CANARY)/,
    ),
    refused(await configured('twice.yaml', 'a: b\na: b'), /twice\.yaml:2:1 is no valid YAML or JSON: Map keys must be unique$/),
    refused(await configured('alias.yaml', 'a: *b'), /alias\.yaml is no valid YAML or JSON: Unresolved alias/),
    refused(
      await configured('misspelt.yaml', `${rest}\nlisten: { prot: 1 }`),
      /misspelt\.yaml:3:11 listen\.prot: there is no such setting$/,
    ),
    refused(
      await configured('open.yaml', `${rest}\nlisten: { host: 0.0.0.0 }`),
      /open\.yaml:3:11 listen\.tls: wanted for every address but a loopback one$/,
    ),
    refused(
      await configured(
        'mixed.yaml',
        `${rest}\nlisten: { tls: { cert_file: ${at('misspelt.yaml')}, key_file: ${at('misspelt.yaml')} } }`,
      ),
      /listen\.tls: the certificate and its key have to be PEM and belong together/,
    ),
    refused(
      await configured('authority.yaml', `${rest.replace('vault: {', `vault: { ca_file: ${at('misspelt.yaml')},`)}\nlisten: {}`),
      /vault\.ca_file: wanted certificates in PEM/,
    ),
    refused(
      await configured(
        'folderless.yaml',
        `${rest.replace(at('refused.jsonl'), at('misspelt.yaml/logs/audit.jsonl'))}\nlisten: { port: 0 }`,
      ),
      /the folder of the audit log is not there, and .*\/logs cannot be made here \(ENOTDIR\)/,
    ),
    refused(await configured('idless.yaml', `${rest}\nlisten: { port: 0 }`), /\/nowhere\/id cannot be read \(ENOENT\)/),
  ])
})

test('a secret id that could not be kept is not made; one that is kept takes the place of what was there, for nobody else to read', async () => {
  const env = { VAULT_TOKEN: vault.rootToken, VAULT_ADDR: vault.address }
  const made = async () => (await vault.api('LIST', 'auth/approle/role/assay/secret-id')).body?.data?.keys as string[] | undefined
  await writeFile(at('id'), `${'old'.repeat(99)}\n`, { mode: 0o644 })
  const { code, stdout } = await assay(['setup', '--apply', '--secret-id-file', at('id')], env)
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^role_id: \S+\nsecret_id_file: /) as string })
  expect(await readFile(at('id'), 'utf8')).toMatch(/^[0-9a-f-]{36}\n$/)
  expect((await stat(at('id'))).mode & 0o777).toBe(0o600)
  const before = await made()
  expect(before).not.toHaveLength(0)
  await refused(['setup', '--apply', '--secret-id-file', at('nowhere/id')], /ENOENT: .*nowhere\/id/, env)
  expect(await made()).toEqual(before)
})

test('a Vault that is not there or lets nobody in, a port and an audit log that are taken: no token is left behind', async () => {
  const tokens = async () => (await vault.api('LIST', 'auth/token/accessors')).body.data.keys as string[]
  const before = await tokens()
  const dev = ['server', '--dev', '--vault-addr', vault.address]
  const elsewhere = ['--listen', '127.0.0.1:0']
  await refused(
    [...dev, ...elsewhere, '--audit-file', folder],
    /the audit log cannot be opened: .* is not a regular file|EISDIR/,
    vault.env,
  )
  await Promise.all([
    refused(['server', '--dev', '--vault-addr', 'http://127.0.0.1:1'], /the vault server cannot be reached/, {
      VAULT_TOKEN: 'x',
    }),
    refused(dev, /vault answered 403: .*permission denied/, { VAULT_TOKEN: 'hvs.nobody' }),
    refused(
      [...dev, '--listen', vault.address.slice('http://'.length), '--audit-file', at('other.jsonl')],
      /EADDRINUSE: address already in use/,
      vault.env,
    ),
  ])
  expect(await tokens()).toEqual(before)
})
