import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Attester, type AttesterOptions, openAttester } from '../../agent/attester.ts'
import { type Client, clientOf } from '../../agent/client.ts'
import * as flow from '../../agent/flow.ts'
import { type Assay, startAssay } from '../harness/assay.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { run, until } from '../harness/process.ts'
import { type Swtpm, type SwtpmOptions, startSwtpm } from '../harness/swtpm.ts'
import { type Reply, startVault, type Vault } from '../harness/vault.ts'

export const AUDIENCE = 'https://api.example.com'
export const MEASURED = [0, 4, 7]
export const POLICY = `permit (principal, action == Action::"deploy", resource == Plugin::"kubernetes")
when { principal.role == "builder" && context.key_bound };`

/** A Vault, a front door beside it, and machines whose firmware has measured their boot. Disposing of it ends all of them. */
export type World = AsyncDisposable & {
  readonly vault: Vault
  readonly door: Assay
  readonly tpms: readonly Swtpm[]
  /** The stock CLI at the front door as root; what it printed. Throws what it said when it ends with another code than 0. */
  readonly operator: (args: readonly string[], input?: string) => Promise<string>
  /** One request at the front door with the root token. */
  readonly api: (method: string, path: string, body?: object) => Promise<Reply>
}

export type WorldOptions = {
  readonly tpms?: readonly SwtpmOptions[]
  /** of the front door, and of Vault */
  readonly args?: readonly string[]
  readonly vaultArgs?: readonly string[]
}

export async function openWorld({ tpms = [], args = [], vaultArgs = [] }: WorldOptions = {}) {
  await using opening = new AsyncDisposableStack()
  const started = await Promise.all([startVault({ args: vaultArgs }), ...tpms.map(startSwtpm)] as const)
  for (const one of started) opening.use(one)
  const [vault, ...machines] = started
  const door = opening.use(await startAssay(vault, args))
  const parts = opening.move()
  const world: World = {
    vault,
    door,
    tpms: machines,
    operator: async (words, input) => succeeded(await door.vault(words, input === undefined ? {} : { input })),
    api: (method, path, body) => ask(door.address, method, path, { token: vault.rootToken, ...(body ? { body } : {}) }),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
  return world
}

function succeeded({ code, stdout, stderr }: { code: number | null; stdout: string; stderr: string }): string {
  if (code !== 0) throw new Error(`ended with ${code}: ${stderr}`)
  return stdout
}

export type AskOptions = {
  readonly token?: string
  /** an object goes as JSON, text as it is and without Content-Type */
  readonly body?: object | string
  readonly headers?: Readonly<Record<string, string>>
}

/** One request, in any verb. The body of the reply is its JSON, `undefined` when it is empty. */
export async function ask(
  address: string,
  method: string,
  path: string,
  { token, body, headers }: AskOptions = {},
): Promise<Reply> {
  const sent = typeof body === 'string' ? Buffer.from(body) : body && JSON.stringify(body)
  const json = typeof body === 'object' ? { 'Content-Type': 'application/json' } : {}
  const reply = await fetch(`${address}/v1/${path}`, {
    method,
    headers: { ...(token ? { 'X-Vault-Token': token } : {}), ...json, ...headers },
    ...(sent ? { body: sent } : {}),
  })
  const text = await reply.text()
  return { status: reply.status, body: text === '' ? undefined : JSON.parse(text) }
}

/** Insists that the request was answered with success. */
export async function done(asked: Promise<Reply>): Promise<Reply['body']> {
  const { status, body } = await asked
  if (status >= 300) throw new Error(`answered with ${status}: ${JSON.stringify(body)}`)
  return body
}

/** What firmware does at boot, and malware later: extends PCRs with a digest. The TPM must not be open. */
export async function measure(tpm: Swtpm, pcrs: readonly number[], what: string): Promise<void> {
  const digest = createHash('sha256').update(what).digest('hex')
  const env = { ...process.env, TPM2TOOLS_TCTI: tpm.tcti }
  succeeded(
    await run(
      'tpm2_pcrextend',
      pcrs.map(pcr => `${pcr}:sha256=${digest}`),
      { env },
    ),
  )
}

export function machine(tpm: Swtpm, options: Partial<AttesterOptions> = {}): Promise<Attester> {
  return openAttester({ tpm: tpm.spec, now: Date.now, random: randomBytes, deadlineMs: PATIENCE_MS, ...options })
}

function certificatesOf(pem: string): Buffer[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return found.map(one => Buffer.from(one.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64'))
}

/** A `tpm-quote` mount that lets in machines with the PCRs of this one: anchors, reference values, the role `builder`. */
export async function configureAuth(
  { api }: Pick<World, 'api'>,
  tpm: Swtpm,
  attester: Attester,
  { path = 'tpm-quote', config = {}, role = {} }: { path?: string; config?: object; role?: object } = {},
): Promise<void> {
  await done(api('POST', `sys/auth/${path}`, { type: 'tpm-quote' }))
  await done(api('POST', `auth/${path}/config`, { enrollment: 'any', allow_software_tpms: true, ...config }))
  await done(api('POST', `auth/${path}/ca/makers`, { certificate: tpm.rootCaPem }))
  const { pcrs } = await attester.quote({ sha256: MEASURED }, randomBytes(32))
  await done(api('POST', `auth/${path}/reference/good`, { pcrs: JSON.parse(pcrs) as object }))
  await done(
    api('POST', `auth/${path}/role/builder`, { references: 'good', token_policies: 'builder', token_ttl: '15m', ...role }),
  )
}

/** A `broker` mount with the role `deploy`, which the tokens of `builder` may ask. */
export async function configureBroker(
  { api }: Pick<World, 'api'>,
  { path = 'broker', role = {} }: { path?: string; role?: object } = {},
) {
  await done(api('POST', `sys/mounts/${path}`, { type: 'broker' }))
  await done(api('POST', `${path}/config`, { actions: 'deploy,delete' }))
  await done(api('POST', `${path}/policy/builders`, { policy: POLICY }))
  await done(api('POST', `${path}/role/deploy`, { ...ROLE, ...role }))
  await done(api('PUT', 'sys/policies/acl/builder', { policy: `path "${path}/creds/*" { capabilities = ["update"] }` }))
}

export const ROLE = {
  plugins: 'kubernetes,payroll',
  actions: 'deploy',
  scopes: 'apps:read,apps:write',
  audiences: AUDIENCE,
} as const

export function serviceOf(address: string, auth = 'tpm-quote', broker = 'broker'): flow.Service {
  return { client: clientOf({ address, deadlineMs: PATIENCE_MS }), mounts: { auth, broker } }
}

/** How the words of `assay agent` say who asks, where, and for what. */
export function asking({ tpms, door }: World, plugin: string, action: string): readonly string[] {
  const machine = ['--role', 'builder', '--tpm', tpms[0]?.spec ?? '', '--address', door.address]
  return [...machine, '--plugin', plugin, '--action', action]
}

export function enrol(service: flow.Service, tpm: Swtpm, attester: Attester): Promise<flow.Enrolled> {
  return flow.enroll(service, attester, { intermediates: certificatesOf(tpm.issuerPem) })
}

export async function logIn(service: flow.Service, attester: Attester, asked: Partial<flow.LoginRequest> = {}): Promise<string> {
  return (await flow.login(service, attester, { role: 'builder', bind: true, ...asked })).token
}

class Withheld extends Error {
  readonly path: string
  readonly body: Record<string, unknown>
  constructor(path: string, body: object) {
    super('withheld')
    this.path = path
    this.body = { ...body }
  }
}

/** Runs the agent up to the request whose path matches, and gives that request in place of sending it: to alter it, or to send it twice. */
export async function withheld(
  service: flow.Service,
  which: RegExp,
  go: (service: flow.Service) => Promise<unknown>,
): Promise<{ path: string; body: Record<string, unknown> }> {
  const post: Client['post'] = async (path, body, options) => {
    if (which.test(path)) throw new Withheld(path, body)
    return service.client.post(path, body, options)
  }
  const last = await go({ ...service, client: { post } }).catch((error: unknown) => error)
  if (last instanceof Withheld) return last
  throw new Error(`no request matched ${which}`, { cause: last })
}

export function withheldLogin(service: flow.Service, attester: Attester, asked: Partial<flow.LoginRequest> = {}) {
  return withheld(service, /\/login$/, held => logIn(held, attester, asked))
}

/** A record of the audit log, whose members differ by type. */
export type AuditRecord = Readonly<Record<string, unknown>>

export async function auditOf(file: string): Promise<AuditRecord[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').slice(0, -1)
  return lines.map(line => JSON.parse(line) as AuditRecord)
}

const CORRELATION = /correlation id ([0-9a-f-]{36})/

/** The operator's side of a refusal: the code in the audit log, found by the correlation id that the caller was told. */
export async function codeOf(auditFile: string, said: unknown): Promise<string> {
  const message = said instanceof Error ? said.message : JSON.stringify(said)
  const id = message.match(CORRELATION)?.[1]
  if (id === undefined) return `no correlation id in: ${message}`
  const found = await until(`the refusal ${id} in the audit log`, async () =>
    (await auditOf(auditFile)).find(record => record['txn'] === id && record['type'] === 'refusal'),
  )
  return String(found['code'])
}

/** How a request of the agent was refused, by the code in the audit log. */
export async function refusal({ door }: Pick<World, 'door'>, asked: Promise<unknown>): Promise<string> {
  const error = await asked.then(
    () => new Error('it was not refused'),
    (thrown: unknown) => thrown,
  )
  return codeOf(door.auditFile, error)
}
