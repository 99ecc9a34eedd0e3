import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { start, until } from '../harness/process.ts'
import { vaultBinary } from '../harness/vault.ts'
import { openSides, type Side, type Sides, shapeOf, steady, subcommandsOf } from './sides.ts'

// The stock CLI, straight and through the front door: every subcommand that has an API call behind it.

let sides: Sides
const policy = join(tmpdir(), `assay-policy-${process.pid}.hcl`)
beforeAll(async () => {
  sides = await openSides()
  await writeFile(policy, 'path "secret/*" { capabilities = ["read"] }\n')
})
afterAll(() => sides[Symbol.asyncDispose]())

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

/** `@engine` and `@method` are a type that Vault ships on one side, and ours on the other: how a mount is operated does not tell which it is. `HTTP`
 *  sends what the CLI would not: a verb, a path and a body. */
const operated: Readonly<Record<string, readonly Step[]>> = {
  'a secrets engine': [
    ['secrets', 'enable', '-path=own', '@engine'],
    ['secrets', 'enable', '-path=own', '@engine'],
    ['secrets', 'enable', '-path=own/below', '@engine'],
    ['secrets', 'enable', '-path=own', 'kv'],
    ['secrets', 'enable', '-path=/deep/er/', '-description=some words', '-default-lease-ttl=30m', '-max-lease-ttl=1h', '@engine'],
    ['secrets', 'enable', '-path=named', '-listing-visibility=unauth', '-options=a=b', '-non-interactive', '@engine'],
    ['secrets', 'enable', '-path=with space', '@engine'],
    ['secrets', 'enable', '-path=wrapped', '-wrap-ttl=60s', '@engine'],
    ['secrets', 'enable', '-path=old', '-plugin-name=@engine', 'plugin'],
    ['secrets', 'enable', '-path=wrong', '-default-lease-ttl=3h', '-max-lease-ttl=1h', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-listing-visibility=wrong', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-version=2', '@engine'],
    ['secrets', 'enable', '-path=wrong', '-plugin-version=v9.9.9', '@engine'],
    ...['auth/wrong', 'sys/wrong', 'sys', 'identity', 'cubbyhole/wrong'].map(path => [
      'secrets',
      'enable',
      `-path=${path}`,
      '@engine',
    ]),
    ['secrets', 'list'],
    ['secrets', 'list', '-field=Type'],
    ['secrets', 'list', '-output-policy'],
    ['read', 'sys/mounts/deep/er/tune'],
    ['read', '-field=max_lease_ttl', 'sys/mounts/deep/er/tune'],
    ['read', '-field=none', 'sys/mounts/deep/er/tune'],
    ['read', '-format=json', '-field=options', 'sys/mounts/named/tune'],
    ['path-help', 'sys/mounts/own'],
    ['path-help', 'sys/mounts/own/tune'],
    ['list', 'sys/mounts/own'],
    ['secrets', 'tune', '-default-lease-ttl=50m', 'deep/er'],
    ['secrets', 'tune', '-max-lease-ttl=40m', 'deep/er/'],
    ['secrets', 'tune', '-plugin-version=v1.0.0', 'own'],
    ['secrets', 'tune', '-listing-visibility=wrong', 'own'],
    ['secrets', 'tune', 'own'],
    ['read', 'sys/mounts/deep/er/tune'],
    ['HTTP', 'POST', 'sys/mounts/own/', '{"type":"@engine"}'],
    ['HTTP', 'POST', 'sys/mounts/other/', '{"type":"@engine"}'],
    ['HTTP', 'POST', 'sys/mounts/own/tune/', '{}'],
    ['HTTP', 'POST', 'sys/mounts/form', 'type=@engine', 'application/x-www-form-urlencoded'],
    ['HTTP', 'POST', 'sys/mounts/form/tune', 'description=words', 'application/x-www-form-urlencoded'],
    ['HTTP', 'GET', 'sys/mounts/own?list=true'],
    ['HTTP', 'GET', 'sys/mounts/own?list=perhaps'],
    ['HTTP', 'PATCH', 'sys/mounts/own', '{}'],
    ['HTTP', 'HEAD', 'sys/mounts/own'],
    ['secrets', 'move', 'own', 'named'],
    ['secrets', 'move', 'own', 'own'],
    ['secrets', 'move', 'own', 'own/below'],
    ['secrets', 'move', 'own', 'secret'],
    ...['auth/x', 'sys/x', 'identity', ''].map(path => ['secrets', 'move', 'own', path]),
    ['secrets', 'move', 'own', '/moved/far/'],
    ['secrets', 'disable', '-output-policy', 'moved/far'],
    ...['moved/far', 'moved/far', 'deep/er/', 'named', 'with space', 'wrapped', 'old'].map(path => ['secrets', 'disable', path]),
    ['HTTP', 'DELETE', 'sys/mounts/form/'],
    ['secrets', 'list'],
  ],
  'leases of a secrets engine that has issued none': [
    ['secrets', 'enable', '-path=own', '@engine'],
    ...['lookup', 'renew', 'revoke'].map(command => ['lease', command, 'own/creds/some/none']),
    ['lease', 'revoke', '-sync', 'own/creds/some/none'],
    ['lease', 'revoke', '-prefix', 'own/'],
    ['lease', 'revoke', '-sync', '-prefix', 'own/creds'],
    ['lease', 'revoke', '-force', '-prefix', 'own'],
    ['lease', 'revoke', '-force', 'own'],
    ['lease', 'lookup', 'own/'],
    ['list', 'sys/leases/lookup/own'],
    ['list', '-format=json', 'sys/leases/lookup/own/creds'],
    ['write', '-f', 'sys/leases/renew/own/creds/some/none'],
    ['write', '-f', 'sys/leases/revoke/own/creds/some/none'],
    ['write', 'sys/leases/lookup', 'lease_id='],
    ['HTTP', 'PUT', 'sys/leases/lookup/own/creds/some/none'],
    ['HTTP', 'PUT', 'sys/leases/lookup', '{"lease_id":["own/creds/some/none"]}'],
    ['HTTP', 'PUT', 'sys/leases/lookup', 'lease_id=own/creds/some/none', 'application/x-www-form-urlencoded'],
    ['HTTP', 'PUT', 'sys/leases/revoke', 'lease_id=own/creds/some/none', 'application/x-www-form-urlencoded'],
    ['HTTP', 'PUT', 'sys/leases/revoke-prefix/own/'],
    ['HTTP', 'PUT', 'sys/leases/revoke-prefix/'],
    ['HTTP', 'DELETE', 'sys/leases/revoke-prefix/own'],
    ['HTTP', 'GET', 'sys/leases/lookup/own?list=perhaps'],
    ['read', 'sys/leases/count', 'type=irrevocable'],
    ['read', 'sys/leases/count', 'type=wrong'],
    ['write', '-f', 'sys/leases/tidy'],
    ['secrets', 'disable', 'own'],
  ],
  'an auth method': [
    ['auth', 'enable', '-path=own', '@method'],
    ['auth', 'enable', '-path=own', '@method'],
    ['auth', 'enable', '-path=own/below', '@method'],
    ['auth', 'enable', '-path=deep/er', '-description=some words', '-max-lease-ttl=2h', '-token-type=batch', '@method'],
    ['auth', 'enable', '-path=token', '@method'],
    ['auth', 'enable', '-path=wrong', '-listing-visibility=wrong', '@method'],
    ['auth', 'enable', '-path=wrong', '-plugin-version=v9.9.9', '@method'],
    ['HTTP', 'POST', 'sys/auth/other/', '{"type":"@method"}'],
    ['auth', 'list'],
    ['auth', 'list', '-detailed'],
    ['auth', 'list', '-format=json'],
    ...['sys/auth/own', 'sys/auth/own/tune', 'sys/mounts/auth/own', 'sys/mounts/auth/own/tune'].map(path => ['read', path]),
    ['read', 'sys/internal/ui/mounts/auth/own/role/x'],
    ['auth', 'tune', '-default-lease-ttl=2h', 'own'],
    ['auth', 'tune', '-max-lease-ttl=1h', 'own'],
    ['auth', 'tune', '-description=new', '-listing-visibility=unauth', '-token-type=batch', 'own/'],
    ['auth', 'tune', '-user-lockout-threshold=5', 'own'],
    ['HTTP', 'POST', 'sys/mounts/auth/own/tune', '{"options":{"x":"y"}}'],
    ['HTTP', 'POST', 'sys/mounts/auth/own/tune', '{"options":{}}'],
    ['read', 'sys/auth/own'],
    ['read', 'sys/mounts/auth/own/tune'],
    ['auth', 'help', 'own'],
    ['auth', 'move', 'auth/own', 'auth/deep/er'],
    ['auth', 'move', 'auth/own', 'not-auth'],
    ...['own', 'own', 'deep/er'].map(path => ['auth', 'disable', path]),
    ['auth', 'list'],
  ],
}

const TYPES: Readonly<Record<Side['name'], Readonly<Record<string, string>>>> = {
  straight: { '@engine': 'transit', '@method': 'jwt' },
  through: { '@engine': 'broker', '@method': 'tpm-quote' },
}

/** What is said of a type, whichever it is; other mounts of the one that Vault ships are not compared. */
function untyped({ name }: Side, text: string): string {
  const kept = text.split('\n').filter(line => !/^ *(?:"?transit\/|"?jwt\/)/.test(line))
  return Object.entries(TYPES[name]).reduce(
    (all, [of, type]) => all.replaceAll(new RegExp(`\\b${type}(?=\\b|_)`, 'g'), of),
    kept.join('\n'),
  )
}

async function operatedBy(side: Side, step: readonly string[]): Promise<object> {
  const words = step.map(word => word.replace(/@engine|@method/, of => TYPES[side.name][of] ?? of))
  if (words[0] !== 'HTTP') {
    const { code, stdout, stderr } = await side.cli(words)
    return { code, stdout: lines(untyped(side, stdout)), stderr: lines(untyped(side, stderr)) }
  }
  const [, method = '', path = '', body, type = 'application/json'] = words
  const headers = { 'X-Vault-Token': side.vault.rootToken, 'Content-Type': type }
  const reply = await fetch(`${side.address}/v1/${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
  return { status: reply.status, body: lines(untyped(side, await reply.text())) }
}

describe.each(Object.entries(operated))('%s of ours is operated as one of Vault’s', (_, steps) => {
  test.each(steps.map(step => [String(step), step as readonly string[]] as const))('%s', async (_name, step) => {
    const { straight, through } = await sides.both(side => operatedBy(side, step))
    expect(through).toEqual(straight)
  })
})

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

/** Without what the two servers do not share: figures that grow with time, names that are made up, how often was waited. */
const lines = (text: string) =>
  steady(text)
    .replaceAll(/\b\d{7,}\b|(?<=Encryption Count )\d+/g, 'NUMBER')
    .replaceAll(/(?<=^ttl )\d+m$/gm, 'DURATION')
    .replaceAll(/[A-Za-z0-9+/]{24,}={0,2}/g, 'BASE64')
    .split('\n')
    .filter(line => !line.startsWith('Waiting for terminal status'))

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
    const folder = await mkdtemp(join(tmpdir(), 'assay-debug-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const places = ['-compress=false', `-output=${join(folder, name)}`]
    const { code } = await cli(['debug', '-duration=5s', '-interval=5s', '-metrics-interval=5s', ...places])
    const files = await readdir(join(folder, name), { recursive: true })
    return { code, files: [...new Set(files.map(steady))].toSorted() }
  })
  expect(through).toEqual(straight)
  expect(through.files).toEqual(expect.arrayContaining(['vault.log', 'metrics.json', 'server_status.json', 'TIME/heap.prof']))
})

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
