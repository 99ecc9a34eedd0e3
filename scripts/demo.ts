import './lib/node.js'
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { qualifyingData } from '#attestation'
import { openAttester } from '../agent/attester.ts'
import { type Client, clientOf } from '../agent/client.ts'
import { athOf } from '../agent/dpop.ts'
import * as flow from '../agent/flow.ts'
import { type Assay, assay, startAssay } from '../test/harness/assay.ts'
import { type Ran, run, until } from '../test/harness/process.ts'
import { type Swtpm, startSwtpm } from '../test/harness/swtpm.ts'
import { startVault, type Vault } from '../test/harness/vault.ts'
import { openNarrator, Untold } from './story/narrator.ts'
import { openRelyingParty, PRESENTED_AT, type RelyingParty } from './story/relying_party.ts'

const AUDIENCE = 'https://api.example.com'
const MEASURED = [0, 4, 7]
const POLICY = `permit (principal, action == Action::"deploy", resource == Plugin::"kubernetes")
when { principal.role == "builder" && context.key_bound };`

const started = performance.now()
const { chapter, says, shows, so, told } = openNarrator(text => process.stdout.write(text))

try {
  await tell()
  process.stdout.write(`\nAll ${told()} steps came out as told, in ${((performance.now() - started) / 1000).toFixed(1)} s.\n`)
} catch (error) {
  if (!(error instanceof Untold)) throw error
  process.stdout.write(`\n${error.message}\n`)
  process.exitCode = 1
}

async function tell(): Promise<void> {
  chapter('A Vault server, two machines with a TPM each, the front door')
  await using vault = await startVault()
  await using machines = await twoMachines()
  await using door = await startAssay(vault)
  so(`Vault in dev mode from vault-dev.hcl at ${vault.address}`, true)
  so(
    'machines A and B: software TPMs, each with an endorsement certificate of a local CA; their firmware has measured the boot',
    true,
  )
  so(`the front door at ${door.address}; from here on it is VAULT_ADDR`, true)

  chapter('The operator configures everything with the stock CLI')
  await configure(door, machines)

  chapter('Machine A enrols, attests, and gets a credential for its task')
  const token = await attest(vault, door, machines.a)
  const issued = await issue(door, machines.a, token, 'deploy')
  const party = await openRelyingParty(`${door.address}/v1/broker`, AUDIENCE)
  await present(party, machines.a, issued)

  chapter('What must fail, fails, each with its reason')
  await refuse(vault, door, machines, token)

  chapter('The signing key is rotated inside transit')
  await rotate(door, machines.a, party, issued)

  chapter('The audit log of all this')
  await audit(door)
}

type Machines = AsyncDisposable & { readonly a: Swtpm; readonly b: Swtpm }

async function twoMachines(): Promise<Machines> {
  const [a, b] = await Promise.all([startSwtpm(), startSwtpm()])
  await Promise.all([a, b].map(tpm => measure(tpm, MEASURED, 'good firmware')))
  return { a, b, [Symbol.asyncDispose]: async () => void (await Promise.all([a.stop(), b.stop()])) }
}

/** What firmware does at boot, and malware later: extends PCRs with a digest. */
async function measure(tpm: Swtpm, pcrs: readonly number[], what: string): Promise<void> {
  const digest = createHash('sha256').update(what).digest('hex')
  const { code, stderr } = await run(
    'tpm2_pcrextend',
    pcrs.map(pcr => `${pcr}:sha256=${digest}`),
    { env: { ...process.env, TPM2TOOLS_TCTI: tpm.tcti } },
  )
  if (code !== 0) throw new Untold(`the TPM did not take the measurement of ${what}: ${stderr}`)
}

async function configure(door: Assay, { a }: Machines): Promise<void> {
  const operator = async (args: readonly string[], input?: string) => {
    const { code, stdout, stderr } = await door.vault(args, input === undefined ? {} : { input })
    shows(`vault ${args.join(' ')}`, stdout.split('\n')[0])
    if (code !== 0) throw new Untold(stderr)
  }
  await operator(['auth', 'enable', 'tpm-quote'])
  await operator(['secrets', 'enable', 'broker'])
  await operator(['write', 'auth/tpm-quote/config', 'enrollment=any', 'allow_software_tpms=true'])
  await operator(['write', 'auth/tpm-quote/ca/makers', 'certificate=-'], a.rootCaPem)
  await operator(['write', 'auth/tpm-quote/reference/builder-image', '-'], JSON.stringify({ pcrs: await golden(a) }))
  await operator([
    'write',
    'auth/tpm-quote/role/builder',
    'references=builder-image',
    'token_policies=builder',
    'token_ttl=15m',
    'bind_key=required',
  ])
  await operator(['policy', 'write', 'builder', '-'], 'path "broker/creds/*" { capabilities = ["update"] }')
  await operator(['write', 'broker/config', 'actions=deploy,delete'])
  await operator(['write', 'broker/policy/builders', 'policy=-'], POLICY)
  const role = ['plugins=kubernetes,payroll', 'actions=deploy', 'scopes=apps:read,apps:write', `audiences=${AUDIENCE}`]
  await operator(['write', 'broker/role/deploy', ...role])
  await operator(['write', 'broker/role/release', ...role, 'attestation=request'])
  const { stdout } = await door.vault(['auth', 'list'])
  so('`vault auth list` shows a mount of type tpm-quote', /^tpm-quote\/\s+tpm-quote/m.test(stdout), stdout)
}

/** Reference values as an operator takes them from a machine that is known to be good. */
async function golden(tpm: Swtpm): Promise<object> {
  await using attester = await machine(tpm)
  const { pcrs } = await attester.quote({ sha256: MEASURED }, randomBytes(32))
  return JSON.parse(pcrs) as object
}

function machine(tpm: Swtpm) {
  return openAttester({ tpm: tpm.spec, now: Date.now, random: randomBytes })
}

/** Assay's own CLI on a machine. */
async function agent(door: Assay, tpm: Swtpm, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return assay(['agent', ...args, '--json'], { ASSAY_ADDR: door.address, ASSAY_TPM: tpm.spec, ...env })
}

async function attest(vault: Vault, door: Assay, tpm: Swtpm): Promise<string> {
  const issuer = `${tpm.directory}/issuer.pem`
  await writeFile(issuer, tpm.issuerPem)
  const enrolled = await agent(door, tpm, ['enroll', '--intermediate', issuer])
  shows('assay agent enroll')
  so(
    'the EK certificate leads to the trust anchor, and the TPM opened the credential that was made for it',
    enrolled.code === 0,
    enrolled.stderr,
  )
  const login = await agent(door, tpm, ['login', '--role', 'builder'])
  shows('assay agent login --role builder')
  so('a quote over a fresh challenge matches the reference values', login.code === 0, login.stderr)
  const { auth } = JSON.parse(login.stdout) as { auth: { client_token: string } }
  const lookup = await vault.cli(['token', 'lookup', '-format=json'], { env: { VAULT_TOKEN: auth.client_token } })
  so('the token is a real one: Vault itself, asked directly, knows it', lookup.code === 0, lookup.stderr)
  const { data } = JSON.parse(lookup.stdout) as { data: { path: string; policies: string[]; meta: Record<string, string> } }
  says(`path ${data.path}, policies ${data.policies.join(' ')}, tpm ${data.meta['tpm_id']?.slice(0, 23)}…`)
  return auth.client_token
}

async function issue(door: Assay, tpm: Swtpm, token: string, role: string): Promise<string> {
  const asked = [
    'creds',
    role,
    '--role',
    'builder',
    '--plugin',
    'kubernetes',
    '--action',
    'deploy',
    '--scope',
    'apps:write',
    '--ttl',
    '5m',
  ]
  const issued = await agent(door, tpm, asked, { VAULT_TOKEN: token })
  shows(`assay agent ${asked.join(' ')}`)
  so('the broker issues a JWT for this plugin, action and scope, for five minutes', issued.code === 0, issued.stderr)
  const { data } = JSON.parse(issued.stdout) as { data: { token: string; token_type: string } }
  so('it is bound to the key in the TPM (`cnf`)', data.token_type === 'DPoP', data.token_type)
  return data.token
}

async function present(party: RelyingParty, tpm: Swtpm, token: string): Promise<void> {
  await using attester = await machine(tpm)
  const claims = await party.accept(token, await attester.dpopProof({ ...PRESENTED_AT, ath: athOf(token) }))
  so(
    `a stock OIDC library accepts it by discovery and JWKS: sub ${String(claims['sub'])}, scope ${String(claims['scope'])}`,
    claims['scope'] === 'apps:write',
  )
  const stolen = await party.accept(token).then(
    () => 'accepted',
    (error: Error) => error.message,
  )
  so('the same token without a proof by the key is refused there', stolen !== 'accepted')
}

async function refuse(vault: Vault, door: Assay, { a, b }: Machines, token: string): Promise<void> {
  await refuseLogins(door, a, b)
  const creds = (role: string, plugin: string, scope: string) =>
    agent(door, a, ['creds', role, '--role', 'builder', '--plugin', plugin, '--action', 'deploy', '--scope', scope], {
      VAULT_TOKEN: token,
    })
  refused('a scope above the ceiling', await creds('deploy', 'kubernetes', 'apps:admin'), 'SCOPE')
  refused('a plugin that the policy does not name', await creds('deploy', 'payroll', 'apps:read'), 'POLICY_DENIED')
  const clean = await creds('release', 'kubernetes', 'apps:read')
  so('the role that wants a quote with each request gets one and issues', clean.code === 0, clean.stderr)
  await measure(a, [7], 'something that was not there at login')
  shows('tpm2_pcrextend 7:sha256=…')
  refused(
    'the machine has changed since login: the role that wants a quote',
    await creds('release', 'kubernetes', 'apps:read'),
    'PCR_POLICY',
  )
  await until('its token to be revoked', async () => (await vault.cli(['token', 'lookup', token])).code !== 0)
  refused(
    'it has failed: Vault itself has revoked its token',
    await creds('deploy', 'kubernetes', 'apps:read'),
    'permission denied',
  )
  await comeBack(door, a)
}

/** A machine that failed stays out, until an operator has found out why. */
async function comeBack(door: Assay, tpm: Swtpm): Promise<void> {
  await tpm.restart('orderly')
  await measure(tpm, MEASURED, 'good firmware')
  shows('the machine is restarted, and boots what it should')
  const login = () => agent(door, tpm, ['login', '--role', 'builder'])
  const out = await login()
  so('it is refused with LATCHED, however good it is now', (await reasonOf(door, out.stderr)) === 'LATCHED', out.stderr)
  const id = await failedTpm(door)
  const cleared = await door.vault(['write', `auth/tpm-quote/tpm/${id}/clear`, 'reason=it was a drill'])
  shows(`vault write auth/tpm-quote/tpm/${id.slice(0, 15)}…/clear reason=…`)
  so('the operator clears it', cleared.code === 0, cleared.stderr)
  const back = await login()
  so('it logs in again', back.code === 0, back.stderr)
}

async function failedTpm(door: Assay): Promise<string> {
  const ids = JSON.parse((await door.vault(['list', '-format=json', 'auth/tpm-quote/tpm'])).stdout) as string[]
  const states = await Promise.all(
    ids.map(async id => (await door.vault(['read', '-field=state', `auth/tpm-quote/tpm/${id}`])).stdout),
  )
  return ids.find((_, index) => states[index]?.trim() === 'failed') ?? ''
}

function refused(what: string, ran: Ran, reason: string): void {
  so(`${what}: refused with ${reason}`, ran.code !== 0 && ran.stderr.includes(reason), ran.stderr || ran.stdout)
}

/** An unauthenticated caller is told nothing; the reason is in the audit log under the correlation id. */
async function refuseLogins(door: Assay, a: Swtpm, b: Swtpm): Promise<void> {
  const client = clientOf({ address: door.address })
  const { recording, last } = recorder(client)
  const service = { client: recording, mounts: { auth: 'tpm-quote', broker: 'broker' } }
  await using attester = await machine(a)
  await flow.login(service, attester, { role: 'builder', bind: true })
  const again = await client.post(last().path, last().body).then(
    () => '',
    (error: Error) => error.message,
  )
  so('the same quote again: refused with CHALLENGE_USED', (await reasonOf(door, again)) === 'CHALLENGE_USED', again)
  await using other = await machine(b)
  const intermediates = [Buffer.from(b.issuerPem.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64')]
  await flow.enroll(service, other, { intermediates })
  const crossed = await crossedLogin(client, attester, other)
  so(
    "machine B's quote for A's challenge: refused with CHALLENGE_WRONG_KEY",
    (await reasonOf(door, crossed)) === 'CHALLENGE_WRONG_KEY',
    crossed,
  )
}

function recorder(client: Client) {
  let last: { path: string; body: object } = { path: '', body: {} }
  const recording: Client = {
    post: (path, body, options) => {
      last = { path, body }
      return client.post(path, body, options)
    },
  }
  return { recording, last: () => last }
}

type Machine = Awaited<ReturnType<typeof machine>>

async function crossedLogin(client: Client, a: Machine, b: Machine): Promise<string> {
  const names = { a: (await a.attestationKey()).name, b: (await b.attestationKey()).name }
  const asked = { operation: 'login', role: 'builder' }
  const reply = await client.post('auth/tpm-quote/challenge', { ...asked, ak_name: names.a.toString('hex') })
  const { challenge, nonce } = reply.data as { challenge: string; nonce: string }
  const empty = { audience: '', keyThumbprint: '', plugin: '', action: '', scope: [] }
  const data = qualifyingData(Buffer.from(nonce, 'base64'), {
    operation: 'login',
    mount: 'auth/tpm-quote/',
    role: 'builder',
    akName: names.b,
    ...empty,
  })
  const { attest, signature, pcrs } = await b.quote({ sha256: MEASURED }, data)
  const body = {
    role: 'builder',
    ak_name: names.b.toString('hex'),
    challenge,
    attest: attest.toString('base64'),
    signature: signature.toString('base64'),
    pcrs,
  }
  return client.post('auth/tpm-quote/login', body).then(
    () => '',
    (error: Error) => error.message,
  )
}

/** The operator's side of a refusal: the code in the audit log, found by the correlation id that the caller was told. */
async function reasonOf(door: Assay, message: string): Promise<string | undefined> {
  const id = message.match(/correlation id ([0-9a-f-]{36})/)?.[1]
  if (!id) return undefined
  // a refusal becomes durable soon after its answer; the log says when
  const line = await until('the refusal to be in the audit log', async () => {
    const lines = (await readFile(door.auditFile, 'utf8')).split('\n')
    return lines.find(one => one.includes(`"txn":"${id}"`) && one.includes('"type":"refusal"'))
  })
  return (JSON.parse(line) as { code: string }).code
}

async function rotate(door: Assay, tpm: Swtpm, party: RelyingParty, before: string): Promise<void> {
  const { code, stderr } = await door.vault(['write', '-f', 'broker/keys/rotate'])
  shows('vault write -f broker/keys/rotate')
  so('transit has a new version of the key', code === 0, stderr)
  const kids = await party.kids()
  const kidOf = (jwt: string) => (JSON.parse(Buffer.from(jwt.split('.')[0] ?? '', 'base64url').toString()) as { kid: string }).kid
  so('the JWKS has both keys', kids.length === 2 && kids.includes(kidOf(before)), kids.join(' '))
  await using attester = await machine(tpm)
  const claims = await party.accept(before, await attester.dpopProof({ ...PRESENTED_AT, ath: athOf(before) }))
  so('the token from before the rotation still verifies', claims['scope'] === 'apps:write')
}

async function audit(door: Assay): Promise<void> {
  const good = await assay(['audit', 'verify', door.auditFile])
  shows(`assay audit verify ${door.auditFile}`, good.stdout)
  so('every record is in its place', good.code === 0, good.stderr)
  const edited = `${door.auditFile}.edited`
  await copyFile(door.auditFile, edited)
  const text = await readFile(edited, 'utf8')
  await writeFile(edited, text.replace('"code":"SCOPE"', '"code":"SCOPF"'))
  const bad = await assay(['audit', 'verify', edited])
  so('in a copy with one edited word the first bad record is named', bad.code === 1 && bad.stdout.includes('EDITED'), bad.stdout)
}
