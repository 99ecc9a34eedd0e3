import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Identity, ownIdentity } from '../../agent/proxied/identity.ts'
import { openSsh, type SshDoor } from '../../agent/proxied/ssh.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type Sshd, startSshd } from '../harness/peers/sshd.ts'
import { type Ran, run, until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { openProxyWorld, type ProxyWorld } from '../proxy/world.ts'

// ssh, as it is, through the companion and the proxy to a real sshd, with certificates of Vault's own engine. The agent has no key that the server knows.

const root = join(import.meta.dirname, '../..')
const parts = new AsyncDisposableStack()
let vault: Vault
let sshd: Sshd
let world: ProxyWorld
let folder: string
let agent: Identity
let other: Identity
const doors = new Map<string, SshDoor>()
const said: string[] = []

beforeAll(async () => {
  vault = parts.use(await startVault())
  await vault.api('POST', 'sys/mounts/ssh', { type: 'ssh' })
  const { body } = await vault.api('POST', 'ssh/config/ca', { generate_signing_key: true, key_type: 'ed25519' })
  sshd = parts.use(await startSshd(body.data.public_key))
  const issuing = { key_type: 'ca', allow_user_certificates: true, allowed_users: '*', ttl: '10m', allowed_extensions: '*' }
  await vault.api('POST', 'ssh/roles/agents', { ...issuing, default_extensions: { 'permit-pty': '' } })
  folder = await mkdtemp(join(tmpdir(), 'assay-ssh-'))
  parts.defer(() => rm(folder, { recursive: true, force: true }))
  const stranger = await writeKey('stranger')
  const service = {
    kind: 'ssh',
    listen: { port: 0 },
    server: place(),
    addresses: ['127.0.0.1'],
    host_keys: [sshd.hostKey],
    watch_ms: 50,
    // a machine with much else to do takes its time
    start_within_ms: 60_000,
  }
  world = parts.use(
    await openProxyWorld({
      more: [
        { ...service, name: 'host', users: [sshd.user, 'nobody'] },
        { ...service, name: 'certified', host_keys: [], host_authorities: [sshd.hostAuthority] },
        { ...service, name: 'forwarding', extensions: ['permit-pty', 'permit-port-forwarding'] },
        { ...service, name: 'another-key', host_keys: [stranger] },
        { ...service, name: 'another-authority', host_keys: [], host_authorities: [stranger] },
        {
          ...service,
          name: 'another-name',
          server: `localhost:${sshd.port}`,
          host_keys: [],
          host_authorities: [sshd.hostAuthority],
        },
        { ...service, name: 'guarded', addresses: [] },
        { ...service, name: 'down', server: '127.0.0.1:1' },
      ],
    }),
  )
  ;[agent, other] = await Promise.all([newIdentity(), newIdentity()])
})
afterAll(() => parts.disposeAsync())

const newIdentity = () => ownIdentity({ now: Date.now, random: randomBytes })
const x5tS256 = ({ certificate }: Identity) => createHash('sha256').update(certificate).digest('base64url')
const place = () => `127.0.0.1:${sshd.port}`

async function writeKey(name: string): Promise<string> {
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  return (await run('cat', [join(folder, `${name}.pub`)])).stdout
}

/** What an agent finds below `assay agent exec --proxy --ssh`. */
async function doorOf(service: string, identity: Identity): Promise<SshDoor> {
  const name = `${service}-${x5tS256(identity)}`
  const there = doors.get(name)
  if (there) return there
  const port = world.proxy.ports()[service] ?? 0
  const own = await mkdtemp(join(folder, 'door-'))
  const door = await openSsh({
    proxy: { host: '127.0.0.1', name: 'proxy.test', port, ca: world.ca.ca, deadlineMs: PATIENCE_MS },
    identity,
    folder: own,
    program: [process.execPath, join(root, 'scripts/assay.js')],
    say: line => void said.push(line),
  })
  parts.defer(() => door[Symbol.asyncDispose]())
  doors.set(name, door)
  return door
}

type Issue = { readonly key_type?: string; readonly extensions?: object; readonly valid_principals?: string }
async function issued(asked: Issue = {}): Promise<{ private_key: string; signed_key: string }> {
  const { status, body } = await vault.api('POST', 'ssh/issue/agents', { key_type: 'ec', valid_principals: sshd.user, ...asked })
  expect({ status, errors: body.errors }).toEqual({ status: 200 })
  return body.data
}

type Sealed = {
  readonly jti?: string
  readonly agent?: string
  readonly to?: string
  readonly fields?: Record<string, string>
  readonly issue?: Issue
}
async function sealed({ to = `ssh://${place()}/${sshd.user}`, fields, issue, ...more }: Sealed = {}): Promise<string> {
  const { private_key, signed_key } = fields ? { private_key: '', signed_key: '' } : await issued(issue)
  return world.seal({ x5tS256: x5tS256(agent), destinations: [to], fields: fields ?? { private_key, signed_key }, ...more })
}

type Ssh = {
  readonly token: string
  readonly words?: readonly string[]
  readonly command?: string
  readonly input?: string
  readonly service?: string
  readonly as?: Identity
  readonly user?: string
  readonly host?: string
  readonly port?: number
}
async function ssh({ token, words = [], command = 'echo in', input, service = 'host', as, user, host, port }: Ssh): Promise<Ran> {
  const { env: own } = await doorOf(service, as ?? agent)
  const credential = join(await mkdtemp(join(folder, 'credential-')), 'credential')
  await writeFile(credential, token, { mode: 0o600 })
  const env = { PATH: process.env['PATH'], HOME: folder, ASSAY_CREDENTIAL_FILE: credential }
  const there = ['-p', String(port ?? sshd.port), `${user ?? sshd.user}@${host ?? '127.0.0.1'}`]
  return run('ssh', ['-F', own.ASSAY_SSH_CONFIG, ...words, ...there, command], {
    env,
    ...(input === undefined ? {} : { input }),
  })
}

describe('ssh as it is', () => {
  test('runs a command: what it writes to both, and how it ends', async () => {
    const ran = await ssh({ token: await sealed(), command: 'echo out; echo err >&2; exit 7' })
    expect(ran).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n' })
  })

  test.each(['rsa', 'ec', 'ed25519'])('logs in with a key of Vault’s of kind %s', async key_type => {
    expect(await ssh({ token: await sealed({ issue: { key_type } }) })).toMatchObject({ code: 0, stdout: 'in\n', stderr: '' })
  })

  test('knows the server by the certificate of an authority', async () => {
    expect(await ssh({ token: await sealed(), service: 'certified' })).toMatchObject({ code: 0, stdout: 'in\n' })
  })

  test('has a terminal', async () => {
    const { code, stdout } = await ssh({ token: await sealed(), words: ['-tt'], command: '', input: 'tty\nexit 3\n' })
    expect(code).toBe(3)
    expect(stdout).toMatch(/\/dev\/pts\/\d+/)
  })

  test('takes and sends much', async () => {
    const size = 8 * 2 ** 20
    const down = await ssh({ token: await sealed(), command: `head -c ${size} /dev/zero | tr '\\0' x` })
    expect(down.stdout.length).toBe(size)
    expect((await ssh({ token: await sealed(), command: 'wc -c', input: 'x'.repeat(size) })).stdout.trim()).toBe(String(size))
  })

  test('several at a time each have their own session', async () => {
    const words = ['a', 'b', 'c', 'd']
    const token = await sealed()
    const ran = await Promise.all(words.map(word => ssh({ token, command: `echo ${word}` })))
    expect(ran.map(({ stdout }) => stdout.trim())).toEqual(words)
  })

  test('is on record, without the token and the key', async () => {
    const fields = await issued()
    const token = await sealed({ fields })
    await ssh({ token })
    const records = await world.records()
    const swap = records.findLast(record => record['operation'] === 'swap' && record['type'] === 'request')
    expect(swap).toMatchObject({ service: 'host', destination: `ssh://${place()}`, method: 'CONNECT' })
    const text = JSON.stringify(records)
    for (const secret of [token, ...fields.private_key.split('\n').filter(line => line.length > 40)])
      expect(text).not.toContain(secret)
  })
})

describe('is refused with a code and no oracle:', () => {
  const refused = async (asked: Ssh) => {
    said.length = 0
    const { code, stdout } = await ssh(asked)
    expect({ code, stdout }).toEqual({ code: 255, stdout: '' })
    return /refused the session: ([A-Z_]+):/.exec(said.join('\n'))?.[1] ?? said.join('\n')
  }
  const recorded = async () => (await world.records()).findLast(record => record['type'] === 'refusal')?.['code']

  test('a stolen token with another certificate', async () => {
    expect(await refused({ token: await sealed(), as: other })).toBe('TOKEN')
    expect(await recorded()).toBe('TOKEN_CERTIFICATE')
  })
  test('no token', async () => expect(await refused({ token: '' })).toBe('NO_TOKEN'))
  test('what is no token', async () => expect(await refused({ token: 'guessed' })).toBe('TOKEN'))
  test('a server that is not the one here', async () => {
    expect(await refused({ token: await sealed(), host: 'elsewhere.test' })).toBe('DESTINATION')
    expect(await refused({ token: await sealed(), port: 2222 })).toBe('DESTINATION')
  })
  test('a token for another server', async () => {
    expect(await refused({ token: await sealed({ to: `ssh://other.test/${sshd.user}` }) })).toBe('TOKEN_DESTINATION')
  })
  test('a token for another user', async () => {
    expect(await refused({ token: await sealed(), user: 'nobody' })).toBe('TOKEN_DESTINATION')
  })
  test('a user that is not served', async () => {
    expect(await refused({ token: await sealed({ to: `ssh://${place()}/admin` }), user: 'admin' })).toBe('ROUTE')
  })
  test('a server with another key', async () => {
    expect(await refused({ token: await sealed(), service: 'another-key' })).toBe('HOST_KEY')
  })
  test('a server with the certificate of another authority', async () => {
    expect(await refused({ token: await sealed(), service: 'another-authority' })).toBe('HOST_KEY')
  })
  test('a server with a certificate for another name', async () => {
    const token = await sealed({ to: `ssh://localhost:${sshd.port}/${sshd.user}` })
    expect(await refused({ token, service: 'another-name', host: 'localhost' })).toBe('HOST_KEY')
  })
  test('an address that is not listed', async () => {
    expect(await refused({ token: await sealed(), service: 'guarded' })).toBe('ADDRESS')
  })
  test('a server that is not there', async () => {
    const token = await sealed({ to: `ssh://127.0.0.1:1/${sshd.user}` })
    expect(await refused({ token, service: 'down', port: 1 })).toBe('UPSTREAM')
  })
  test('a token that is revoked, alone or with all of its agent', async () => {
    const alone = await sealed({ jti: 'jti-revoked' })
    const all = await sealed({ agent: 'sha256-revoked' })
    expect((await ssh({ token: all })).code).toBe(0)
    await world.sealing.revocations.deny('jti-revoked')
    await world.sealing.revocations.raise({ agent: 'sha256-revoked' })
    for (const token of [alone, all])
      await until('the proxy to know', async () => (await refused({ token }).catch(() => '')) === 'TOKEN_REVOKED')
  })

  const shapes: readonly (readonly [string, () => Promise<Sealed>])[] = [
    ['a password', async () => ({ fields: { username: 'x', password: 'y' } })],
    ['no key', async () => ({ fields: { ...(await issued()), private_key: 'none' } })],
    [
      'the certificate of another key',
      async () => ({ fields: { ...(await issued()), private_key: (await issued()).private_key } }),
    ],
    ['a certificate that permits more', async () => ({ issue: { extensions: { 'permit-agent-forwarding': '' } } })],
    ['a certificate that lets ports be forwarded', async () => ({ issue: { extensions: { 'permit-port-forwarding': '' } } })],
  ]
  test.each(shapes)('%s', async (_, shape) =>
    expect(await refused({ token: await sealed(await shape()) })).toBe('CREDENTIAL_SHAPE'),
  )

  test('a certificate that the server does not take for this user', async () => {
    const token = await sealed({ issue: { valid_principals: 'somebody' } })
    expect(await ssh({ token })).toMatchObject({ code: 255, stdout: '', stderr: expect.stringContaining('Permission denied') })
  })
})

describe('a certificate says what a session may do', () => {
  test('ports are not forwarded without a word of it', async () => {
    const { code, stdout, stderr } = await ssh({
      token: await sealed(),
      words: ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1'],
    })
    expect({ code, stdout }).toEqual({ code: 255, stdout: '' })
    expect(stderr).toContain('remote port forwarding failed')
  })
  test('the agent of the proxy does not travel', async () => {
    const { stdout } = await ssh({ token: await sealed(), words: ['-A'], command: 'echo "[$SSH_AUTH_SOCK]"' })
    expect(stdout).toBe('[]\n')
  })
  test('where the service and the certificate permit it they are', async () => {
    const token = await sealed({ issue: { extensions: { 'permit-port-forwarding': '' } } })
    const { code } = await ssh({ token, service: 'forwarding', words: ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1'] })
    expect(code).toBe(0)
  })
})

describe('a session', () => {
  test('ends with its token', async () => {
    const file = join(folder, 'pid')
    const running = ssh({ token: await sealed(), command: `echo $$ > ${file}; exec sleep 300` })
    const pid = await until(
      'the command to run',
      async () => Number(await readFile(file, 'utf8').catch(() => '')) || undefined,
      40_000,
    )
    world.pass(3_600_000)
    expect(await running).toMatchObject({ code: 255 })
    world.pass(-3_600_000)
    // a server does not end what it runs without a terminal
    process.kill(pid)
  })
})
