import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { type Sshd, startSshd } from '../harness/peers/sshd.ts'
import { freePort, run } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { ask, asking, configureAuth, done, enrol, MEASURED, machine, measure, openWorld, serviceOf, type World } from './world.ts'

// The whole way: a TPM, Vault and its ssh engine, the front door, the proxy, a real sshd, and ssh and git as they are.

let parts = new AsyncDisposableStack()
let world: World
let sshd: Sshd
let ca: Authority
let proxy: AssayProxy
let folder: string
let sshPort: number

beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  world = opening.use(await openWorld({ tpms: [{}] }))
  ca = opening.use(await openAuthority())
  folder = await mkdtemp(join(tmpdir(), 'assay-ssh-exec-'))
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  await write('sys/mounts/ssh', { type: 'ssh' })
  const { data } = await write('ssh/config/ca', { generate_signing_key: true, key_type: 'ed25519' })
  sshd = opening.use(await startSshd(data.public_key))
  await configure()
  const { cert, key } = await ca.issue('localhost')
  sshPort = await freePort()
  const service = {
    kind: 'ssh',
    name: 'hosts',
    listen: { port: sshPort },
    server: `127.0.0.1:${sshd.port}`,
    addresses: ['127.0.0.1'],
  }
  proxy = opening.use(
    await startProxy(world.vault, {
      listen: { cert_file: cert, key_file: key },
      services: [{ ...service, host_keys: [sshd.hostKey.trim()], start_within_ms: 60_000 }],
    }),
  )
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))

/** What Vault lets an agent ask the engine for itself: no more than the broker asks for it. */
const POLICY = `
path "broker/creds/*" { capabilities = ["update"] }
path "auth/token/create" { capabilities = ["update"] }
path "ssh/issue/agents" {
  capabilities = ["update"]
  allowed_parameters = { "valid_principals" = ["USER"], "key_type" = ["ed25519"], "ttl" = [] }
}`

/** A role whose certificates are made for each request, with their key, and sealed to one user of one server. */
async function configure(): Promise<void> {
  const [tpm] = world.tpms
  if (!tpm) throw new Error('no TPM')
  await measure(tpm, MEASURED, 'good')
  await using attester = await machine(tpm)
  await configureAuth(world, tpm, attester)
  const signing = { key_type: 'ca', allow_user_certificates: true, allowed_users: sshd.user, max_ttl: '1h' }
  await write('ssh/roles/agents', {
    ...signing,
    default_extensions: { 'permit-pty': '' },
    default_critical_options: { 'source-address': '127.0.0.1/32' },
  })
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/config', { actions: 'deploy' })
  await write('broker/policy/builders', { policy: 'permit (principal, action == Action::"deploy", resource);' })
  await write('broker/role/host', {
    plugins: 'deployer',
    actions: 'deploy',
    audiences: 'hosts',
    ttl: '10m',
    issuer: 'vault',
    vault_path: 'ssh/issue/agents',
    vault_write: true,
    vault_ttl: 'ttl',
    vault_parameters: { valid_principals: sshd.user, key_type: 'ed25519' },
    delivery: 'sealed',
    destinations: `ssh://127.0.0.1:${sshd.port}/${sshd.user}`,
  })
  await write('sys/policies/acl/builder', { policy: POLICY.replace('USER', sshd.user) })
  await enrol(serviceOf(world.door.address), tpm, attester)
}

function exec(script: string) {
  const asked = asking(world, 'deployer', 'deploy')
  const where = ['--proxy', `https://localhost:${proxy.port}`, '--proxy-ca', ca.ca, '--ssh', String(sshPort)]
  const env = { PATH: process.env['PATH'], HOME: folder, THERE: `${sshd.user}@127.0.0.1`, PORT: String(sshd.port), WORK: folder }
  return assay(['agent', 'exec', 'host', ...asked, ...where, '--', 'bash', '-euc', script], env)
}

test('ssh runs a command there, and the command ends as it ends there', async () => {
  const ran = await exec('ssh -F "$ASSAY_SSH_CONFIG" -p "$PORT" "$THERE" "echo in; exit 4"')
  expect(ran).toMatchObject({ code: 4, stdout: 'in\n', stderr: '' })
})

test('git pushes and clones, scp copies, each with sessions of its own', async () => {
  const script = `
    cd "$WORK"; git init --quiet --bare there.git
    git init --quiet --initial-branch=main one; cd one; head -c 300000 /dev/urandom > large; git add large
    git -c user.name=a -c user.email=a@b commit --quiet -m first
    git push --quiet "ssh://$THERE:$PORT$WORK/there.git" main
    git clone --quiet -b main "ssh://$THERE:$PORT$WORK/there.git" ../two; cmp large ../two/large
    scp -q -F "$ASSAY_SSH_CONFIG" -P "$PORT" large "$THERE:$WORK/copy"; cmp large ../copy; echo done`
  expect(await exec(script)).toMatchObject({ code: 0, stdout: 'done\n', stderr: '' })
})

test('the command has nothing that the server takes', async () => {
  const script = `
    cat "$ASSAY_CREDENTIAL_FILE" > "$WORK/key"; chmod 600 "$WORK/key"
    ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i "$WORK/key" -p "$PORT" "$THERE" true`
  const { code, stderr } = await exec(script)
  expect(code).toBe(255)
  expect(stderr).toContain('Permission denied')
})

test('what an agent gets of the engine itself works from the address of the proxy alone', async () => {
  const { body } = await world.vault.api('POST', 'auth/token/create', { policies: ['builder'] })
  const issue = (more: object) =>
    ask(world.vault.address, 'POST', 'ssh/issue/agents', { token: body.auth.client_token, body: { ...asked, ...more } })
  const asked = { valid_principals: sshd.user, key_type: 'ed25519', ttl: '5m' }
  expect((await issue({ critical_options: { 'source-address': '0.0.0.0/0' } })).status).toBe(403)
  const { data } = (await issue({})).body
  const [key, certificate] = [join(folder, 'direct'), join(folder, 'direct-cert.pub')]
  await writeFile(key, data.private_key, { mode: 0o600 })
  await writeFile(certificate, data.signed_key)
  const from = (address: string) => {
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null'].flatMap(one => ['-o', one])
    const where = ['-b', address, '-i', key, '-p', String(sshd.port), `${sshd.user}@127.0.0.1`]
    return run('ssh', ['-F', 'none', ...options, ...where, 'echo in'])
  }
  expect(await from('127.0.0.1')).toMatchObject({ code: 0, stdout: 'in\n' })
  expect(await from('127.0.0.2')).toMatchObject({ code: 255, stdout: '', stderr: expect.stringContaining('Permission denied') })
})

test('the configuration is in order by its command, and a mistake is named with its line', async () => {
  expect(await assay(['proxy', 'check', proxy.configFile])).toMatchObject({ code: 0 })
  const broken = join(folder, 'broken.yaml')
  await run('sh', ['-c', `sed 's/"host_keys"/"host_key"/' "${proxy.configFile}" > "${broken}"`])
  const { code, stderr } = await assay(['proxy', 'check', broken])
  expect(code).toBe(1)
  expect(stderr).toMatch(/broken\.yaml:\d+:\d+ services\.0\.host_key: there is no such setting/)
})
