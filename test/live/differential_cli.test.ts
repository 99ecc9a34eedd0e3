import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { start, until } from '../harness/process.ts'
import { discard, scratch } from '../harness/scratch.ts'
import { vaultBinary } from '../harness/vault.ts'
import { lines, openSides, type Side, type Sides, shapeOf, steady, subcommandsOf } from './sides.ts'

// The stock CLI, straight and through the front door: every subcommand that has an API call behind it.

let sides: Sides
const folder = await scratch('assay-cli-')
const policy = join(folder, 'policy.hcl')
beforeAll(async () => {
  sides = await openSides()
  await writeFile(policy, 'path "secret/*" { capabilities = ["read"] }\n')
})
afterAll(async () => {
  await sides?.[Symbol.asyncDispose]()
  await discard(folder)
})

/** What the commands of one side have said, for those that come later. */
type Said = Record<string, string>
type Step = readonly string[] | ((said: Said) => readonly string[])

/** In this order: each finds what those before it have left. `=name` keeps the named field of a step's JSON. */
const script: Readonly<Record<string, readonly Step[]>> = {
  status: [['status'], ['version-history'], ['print', 'token']],
  kv: [
    ['kv', 'put', 'secret/app', 'a=b', 'c=d'],
    ['kv', 'put', '-cas=1', 'secret/app', 'a=e'],
    ['kv', 'put', '-cas=1', 'secret/app', 'a=f'],
    ['kv', 'get', 'secret/app'],
    ['kv', 'get', '-version=1', 'secret/app'],
    ['kv', 'get', '-field=a', 'secret/app'],
    ['kv', 'get', 'secret/none'],
    ['kv', 'patch', 'secret/app', 'g=h'],
    ['kv', 'list', 'secret'],
    ['kv', 'list', 'secret/none'],
    ['kv', 'metadata', 'get', 'secret/app'],
    ['kv', 'metadata', 'put', '-max-versions=5', 'secret/app'],
    ['kv', 'metadata', 'patch', '-max-versions=6', 'secret/app'],
    ['kv', 'delete', 'secret/app'],
    ['kv', 'undelete', '-versions=3', 'secret/app'],
    ['kv', 'rollback', '-version=1', 'secret/app'],
    ['kv', 'destroy', '-versions=2', 'secret/app'],
    ['kv', 'metadata', 'delete', 'secret/app'],
  ],
  secrets: [
    ['secrets', 'enable', '-path=kv', '-description=versions', 'kv'],
    ['secrets', 'enable', '-path=kv', 'kv'],
    ['secrets', 'enable', 'nothing'],
    ['kv', 'enable-versioning', 'kv'],
    ['secrets', 'list'],
    ['secrets', 'list', '-detailed'],
    ['secrets', 'tune', '-default-lease-ttl=1h', 'kv'],
    ['secrets', 'tune', 'none'],
    ['secrets', 'move', 'kv', 'kv-moved'],
    ['secrets', 'disable', 'kv-moved'],
    ['secrets', 'disable', 'none'],
  ],
  'reading and writing': [
    ['write', 'sys/policies/acl/one', `policy=@${policy}`],
    ['read', 'sys/policies/acl/one'],
    ['read', 'sys/policies/acl/none'],
    ['list', 'sys/policies/acl'],
    ['delete', 'sys/policies/acl/one'],
    ['write', 'sys/tools/random', 'format=hex'],
    ['write', 'cubbyhole/one', 'a=b'],
    ['read', '-field=a', 'cubbyhole/one'],
    ['patch', 'cubbyhole/one', 'a=c'],
    ['list', 'cubbyhole/'],
    ['read', 'nothing/here'],
    ['path-help', 'sys/mounts'],
    ['path-help', 'secret/data/a'],
  ],
  auth: [
    ['auth', 'list'],
    ['auth', 'list', '-detailed'],
    ['auth', 'enable', 'userpass'],
    ['auth', 'help', 'userpass'],
    ['auth', 'tune', '-max-lease-ttl=2h', 'userpass/'],
    ['write', 'auth/userpass/users/somebody', 'password=a-password', 'token_policies=default'],
    ['login', '-no-store', '-method=userpass', 'username=somebody', 'password=a-password'],
    ['login', '-no-store', '-method=userpass', 'username=somebody', 'password=another'],
    ['auth', 'move', 'auth/userpass/', 'auth/moved/'],
    ['auth', 'disable', 'moved'],
    ['auth', 'enable', 'nothing'],
  ],
  policy: [
    ['policy', 'write', 'one', policy],
    ['policy', 'list'],
    ['policy', 'read', 'one'],
    ['policy', 'fmt', policy],
    ['policy', 'delete', 'one'],
    ['policy', 'read', 'none'],
  ],
  tokens: [
    ['token', 'create', '-policy=default', '-ttl=10m', '=token'],
    ['token', 'lookup'],
    said => ['token', 'lookup', said['token'] ?? ''],
    said => ['token', 'lookup', '-accessor', said['accessor'] ?? ''],
    said => ['token', 'capabilities', said['token'] ?? '', 'secret/data/a'],
    ['token', 'capabilities', 'secret/data/a'],
    said => ['token', 'renew', said['token'] ?? ''],
    said => ['token', 'revoke', said['token'] ?? ''],
    ['token', 'revoke', '-accessor', 'none'],
    ['token', 'create', '-wrap-ttl=1m', '=wrapped'],
    said => ['unwrap', said['wrapped'] ?? ''],
    said => ['unwrap', said['wrapped'] ?? ''],
  ],
  leases: [
    ['lease', 'lookup', 'auth/token/none'],
    ['lease', 'renew', 'auth/token/none'],
    ['lease', 'revoke', 'auth/token/none'],
    ['lease', 'revoke', '-prefix', 'auth/none'],
    ['lease', 'revoke', '-force', '-prefix', 'auth/none'],
  ],
  audit: [
    ['audit', 'list'],
    ['audit', 'enable', '-path=one', 'file', 'file_path=/dev/null'],
    ['audit', 'list', '-detailed'],
    ['audit', 'disable', 'one'],
  ],
  plugins: [
    ['plugin', 'list', 'auth'],
    ['plugin', 'info', 'auth', 'approle'],
    ['plugin', 'info', 'auth', 'none'],
    ['plugin', 'register', `-sha256=${'0'.repeat(64)}`, 'secret', 'none'],
    ['plugin', 'deregister', 'secret', 'none'],
    ['plugin', 'reload', '-plugin=approle'],
    ['plugin', 'reload-status', 'none'],
    ['plugin', 'runtime', 'list'],
  ],
  transit: [
    ['secrets', 'enable', '-path=own-transit', 'transit'],
    ['write', '-f', 'own-transit/keys/one'],
    ['transit', 'import', 'own-transit/keys/two', Buffer.from('not a key').toString('base64')],
    ['transit', 'import-version', 'own-transit/keys/two', Buffer.from('not a key').toString('base64')],
  ],
  namespaces: [
    ['namespace', 'list'],
    ['namespace', 'lookup', 'team'],
    ['namespace', 'create', 'team'],
    ['namespace', 'lock', 'team'],
    ['read', '-namespace=team', 'secret/data/a'],
  ],
  operator: [
    ['operator', 'key-status'],
    ['operator', 'rotate'],
    ['operator', 'members'],
    ['operator', 'generate-root', '-status'],
    ['operator', 'rekey', '-status'],
    ['operator', 'usage'],
    ['operator', 'utilization', '-output=/dev/null'],
    ['operator', 'raft', 'list-peers'],
    ['operator', 'raft', 'autopilot', 'state'],
    ['operator', 'raft', 'snapshot', 'save', '/dev/null'],
    ['operator', 'init', '-status'],
    ['operator', 'init'],
    ['operator', 'step-down'],
    ['operator', 'seal'],
    ['status'],
    ['secrets', 'list'],
    said => ['operator', 'unseal', said['key'] ?? ''],
    ['status'],
  ],
}

/** Their calls are none, or none of a Vault that stands alone, or they do not end by themselves: these have tests of their own. */
const NOT_ASKED: Readonly<Record<string, string>> = {
  agent: 'runs; asked by a test of its own',
  proxy: 'runs',
  server: 'runs',
  ssh: 'runs ssh',
  hcp: 'is of the maker’s cloud',
  transform: 'is of Enterprise',
  monitor: 'does not end by itself; has a test of its own',
  events: 'does not end',
  debug: 'makes files; has a test of its own',
  pki: 'needs an engine that a small server is built without',
}

const kept: Record<Side['name'], Said> = { straight: {}, through: {} }

async function typed(side: Side, step: Step): Promise<object> {
  const said = kept[side.name]
  said['key'] = side.vault.unsealKey
  const words = typeof step === 'function' ? step(said) : step
  const keep = words.at(-1)?.startsWith('=') ? words.at(-1) : undefined
  const args = words.filter(word => word !== keep)
  const { code, stdout, stderr } = await side.cli(keep ? [...args.slice(0, 2), '-format=json', ...args.slice(2)] : args)
  if (keep === undefined) return { code, stdout: lines(stdout), stderr: lines(stderr) }
  const reply = JSON.parse(stdout) as { auth?: { client_token: string; accessor: string }; wrap_info?: { token: string } }
  Object.assign(
    said,
    reply.auth ? { token: reply.auth.client_token, accessor: reply.auth.accessor } : { wrapped: reply.wrap_info?.token },
  )
  return { code, body: shapeOf(reply) }
}

describe.each(Object.entries(script))('%s', (_, steps) => {
  test('is the same', async () => {
    for (const step of steps) {
      const { straight, through } = await sides.both(side => typed(side, step))
      expect({ step: String(step), ...through }).toEqual({ step: String(step), ...straight })
    }
  })
})

test('vault monitor shows lines of the log until it is told to end', async () => {
  const { straight, through } = await sides.both(async ({ address, vault }) => {
    const env = { ...vault.env, VAULT_ADDR: address }
    const monitor = await start(await vaultBinary(), ['monitor', '-log-level=trace'], { env })
    await until('a line of the log', async () => {
      await vault.api('POST', 'sys/mounts/logged', { type: 'kv' })
      await vault.api('DELETE', 'sys/mounts/logged')
      return monitor.output().includes('[TRACE]')
    })
    return monitor.stop('SIGINT')
  })
  expect(through).toEqual(straight)
})

test('vault debug collects the same files', async () => {
  const { straight, through } = await sides.both(async ({ name, cli }) => {
    const places = ['-compress=false', `-output=${join(folder, name)}`]
    const { code } = await cli(['debug', '-duration=5s', '-interval=5s', '-metrics-interval=5s', ...places])
    const files = await readdir(join(folder, name), { recursive: true })
    return { code, files: [...new Set(files.map(steady))].toSorted() }
  })
  expect(through).toEqual(straight)
  expect(through.files).toEqual(expect.arrayContaining(['vault.log', 'metrics.json', 'server_status.json', 'TIME/heap.prof']))
})

test.each([
  ['of another minute', 'Install Time        22 Nov 26 13:34 UTC', 'Install Time        22 Nov 26 13:35 UTC'],
  ['of a whole minute', 'ttl                 9m59s', 'ttl                 10m'],
  ['of another length', 'Encryption Count    9', 'Encryption Count    31'],
])('what is said of a moment %s is no difference', (_, one, other) => expect(lines(one)).toEqual(lines(other)))

test('no subcommand of the CLI is left out', async () => {
  const binary = await vaultBinary()
  const asked = new Set(
    Object.values(script)
      .flat()
      .flatMap(step => (typeof step === 'function' ? [step({})] : [step]))
      .flatMap(([one = '', two = '']) => [one, `${one} ${two}`]),
  )
  const commands = await subcommandsOf(binary, [])
  expect(commands.length).toBeGreaterThan(25)
  expect(commands.filter(command => !asked.has(command) && !Object.hasOwn(NOT_ASKED, command))).toEqual([])
  for (const group of ['audit', 'auth', 'kv', 'lease', 'plugin', 'policy', 'secrets', 'token', 'transit']) {
    const below = await subcommandsOf(binary, [group])
    expect(below.map(one => `${group} ${one}`).filter(command => !asked.has(command))).toEqual([])
  }
})
