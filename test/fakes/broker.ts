import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { qualifyingData } from '#attestation'
import { type Broker, openBroker, openMetrics, PLACES, Secret, VaultRefusal } from '#engine'
import { tpmQuote } from '../../mounts/auth/tables.ts'
import { type Dispatch, type Logical, type Outcome, openDispatch } from '../../mounts/dispatch.ts'
import type { HttpReply } from '../../mounts/hosts/envelope.ts'
import type { CanonicalPath } from '../../mounts/path.ts'
import { brokerPaths } from '../../mounts/secrets/tables.ts'
import { findSys } from '../../mounts/sys/mounts.ts'
import { anchorPem, type Machine, REFERENCE } from './machine.ts'
import { type FakeVault, startFakeVault } from './vault.ts'
import { type TestWorld, testWorld } from './world.ts'

/** A whole broker beside a fake Vault in this process, asked as a host would ask it. Disposing of it ends both. */
export type TestBroker = AsyncDisposable & {
  readonly vault: FakeVault
  readonly world: TestWorld
  readonly broker: Broker
  readonly dispatch: Dispatch
  /** One logical request, as root unless `token` says otherwise; '' is no token. Throws what dispatch throws. */
  readonly ask: (operation: Logical['operation'], path: string, data?: object, options?: AskOptions) => Promise<Outcome>
  /** One request on a path of Vault's own that concerns our mounts; what passes through is answered with 599, but for what is to be deleted. */
  readonly sys: (method: string, path: string, body?: object, token?: string) => Promise<HttpReply>
  readonly auditFile: string
  /** what the audit log holds, after all lazy records are in it */
  readonly records: () => Promise<readonly AuditLine[]>
}
type Options = { readonly deadlineMs?: number; readonly beside?: Pick<TestBroker, 'vault' | 'world'> }
export type AskOptions = { readonly token?: string; readonly txn?: string; readonly from?: string }
export type AuditLine = Readonly<Record<string, unknown>>

/** @param given `deadlineMs`: of calls to Vault, as long as no machine is slow; `beside`: another replica, at the same Vault and in the same world */
export async function openTestBroker({ deadlineMs = 60_000, beside }: Options = {}): Promise<TestBroker> {
  await using opening = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-broker-'))
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  const vault = beside?.vault ?? opening.use(await startFakeVault())
  const world = beside?.world ?? testWorld()
  if (!beside) vault.now = world.now
  const auditFile = join(folder, 'audit.jsonl')
  const broker = await openBroker({
    world,
    metrics: openMetrics({ version: 'test' }),
    version: '0.0.0',
    vault: { address: vault.address, deadlineMs },
    places: PLACES,
    approle: { mount: 'approle', roleId: 'role', secretId: async () => new Secret('secret-id') },
    auditFile,
    auditDeadlineMs: 60_000,
    ownUrl: () => 'https://assay.example',
  })
  opening.defer(() => broker.close().catch(() => undefined))
  opening.defer(() => broker.metrics.close())
  const dispatch = openDispatch(broker, { 'tpm-quote': tpmQuote(broker), broker: brokerPaths(broker) })
  const parts = opening.move()
  return {
    vault,
    world,
    broker,
    dispatch,
    auditFile,
    ask: asker(broker, dispatch, vault.rootToken),
    sys: sysAsker(broker, vault.rootToken),
    records: () => recordsIn(broker, auditFile),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function asker(broker: Broker, dispatch: Dispatch, rootToken: string): TestBroker['ask'] {
  return (operation, path, data = {}, { token = rootToken, txn = randomUUID(), from = '127.0.0.1' } = {}) => {
    const mount = broker.mounts.find(path)
    if (!mount) throw new Error(`no mount of ours at ${path}`)
    const caller = { token: token === '' ? undefined : new Secret(token) }
    return dispatch(mount, { operation, path, data: { ...data }, caller, txn, from, wrapTtl: undefined })
  }
}

function sysAsker(broker: Broker, rootToken: string): TestBroker['sys'] {
  return async (method, path, body = {}, token = rootToken) => {
    const found = findSys(method, { path, query: '', trailingSlash: false } as CanonicalPath)
    if (!found) throw new Error(`no row for ${method} ${path}`)
    const caller = { token: new Secret(token) }
    const away = async () => {
      if (method !== 'DELETE') return { status: 599 }
      const lost = await broker.vault.delete(path, { as: caller.token }).then(() => undefined, replyOfFailure)
      return lost ?? { status: 204 }
    }
    const request = { broker, path: found.params, query: '', caller, txn: randomUUID(), sent: { ...body } }
    return found.row.handle({ ...request, pass: away, look: away })
  }
}

async function recordsIn({ audit }: Broker, file: string): Promise<readonly AuditLine[]> {
  await audit.append({ type: 'request', txn: 'flush', operation: 'read', mount: 'test/', path: 'flush' })
  return (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as AuditLine)
}

const replyOfFailure = (error: unknown) => ({ status: error instanceof VaultRefusal ? error.status : 503 })

export const AUDIENCE = 'https://api.example.com'
export const POLICY = 'permit (principal, action == Action::"deploy", resource == Plugin::"kubernetes");'

/** A `tpm-quote` mount and a `broker` mount, configured so that machines of the test's maker enrol, log in as `builder` and ask `deploy`. */
export async function configure({ ask, sys }: TestBroker, { auth = {}, role = {}, login = {} } = {}): Promise<void> {
  await sys('POST', 'sys/auth/tpm-quote', { type: 'tpm-quote' })
  await sys('POST', 'sys/mounts/broker', { type: 'broker' })
  await ask('update', 'auth/tpm-quote/config', { enrollment: 'any', ...auth })
  await ask('update', 'auth/tpm-quote/ca/makers', { certificate: anchorPem() })
  await ask('update', 'auth/tpm-quote/reference/good', { pcrs: REFERENCE })
  await ask('update', 'auth/tpm-quote/role/builder', { references: 'good', token_policies: 'builder', ...login })
  await ask('update', 'broker/config', { actions: 'deploy,delete' })
  await ask('update', 'broker/policy/base', { policy: POLICY })
  await ask('update', 'broker/role/deploy', {
    plugins: 'kubernetes,payroll',
    actions: 'deploy',
    scopes: 'apps:read,apps:write',
    audiences: AUDIENCE,
    ...role,
  })
}

/** The data of a reply. */
export function dataOf(outcome: Outcome): Record<string, string> {
  if ('help' in outcome || !outcome.reply || !('data' in outcome.reply)) throw new Error('the reply has no data')
  return outcome.reply.data as Record<string, string>
}

const NO_TOKEN = { token: '' }
export const THUMBPRINT = 'a'.repeat(43)
const bytes = (text: string | undefined) => Buffer.from(text ?? '', 'base64')

export async function enrol(
  { ask }: Pick<TestBroker, 'ask'>,
  machine: Machine,
  more: object = {},
): Promise<Record<string, string>> {
  const offered = dataOf(await ask('update', 'auth/tpm-quote/enroll', { ...machine.offer, ...more }, NO_TOKEN))
  const secret = machine.activate(bytes(offered['credential_blob']), bytes(offered['encrypted_secret']))
  const answer = { enrollment: offered['enrollment'], secret: secret?.toString('base64') }
  return dataOf(await ask('update', 'auth/tpm-quote/enroll/activate', answer, NO_TOKEN))
}

/** What `login` is asked with: a quote over a fresh challenge. */
export async function evidence(
  { ask }: Pick<TestBroker, 'ask'>,
  machine: Machine,
  { role = 'builder', thumbprint = THUMBPRINT, changes = {} as Parameters<Machine['quote']>[1] } = {},
): Promise<Record<string, string>> {
  const asked = { role, ak_name: machine.akName.toString('hex'), key_thumbprint: thumbprint }
  const drawn = dataOf(await ask('update', 'auth/tpm-quote/challenge', asked, NO_TOKEN))
  const extraData = qualifyingData(bytes(drawn['nonce']), {
    operation: 'login',
    mount: 'auth/tpm-quote/',
    role,
    audience: '',
    akName: machine.akName,
    keyThumbprint: thumbprint,
    plugin: '',
    action: '',
    scope: [],
  })
  return { ...asked, challenge: drawn['challenge'] ?? '', ...machine.quote(extraData, changes) }
}

/** A token of a machine that is enrolled. */
export async function logIn(test: Pick<TestBroker, 'ask'>, machine: Machine): Promise<string> {
  const outcome = await test.ask('update', 'auth/tpm-quote/login', await evidence(test, machine), NO_TOKEN)
  const auth = 'reply' in outcome && outcome.reply && 'vault' in outcome.reply ? outcome.reply.vault.auth : undefined
  return String(auth?.['client_token'])
}

/** What `creds` is asked with when the role wants a quote with the request. */
export async function credsEvidence(
  { ask }: Pick<TestBroker, 'ask'>,
  machine: Machine,
  asked: { plugin: string; scope: readonly string[] },
): Promise<Record<string, string>> {
  const question = { operation: 'creds', role: 'builder', mount: 'broker/', creds_role: 'deploy', ...asked }
  const named = { ak_name: machine.akName.toString('hex'), key_thumbprint: THUMBPRINT }
  const drawn = dataOf(await ask('update', 'auth/tpm-quote/challenge', { ...question, ...named }, NO_TOKEN))
  const extraData = qualifyingData(bytes(drawn['nonce']), {
    operation: 'creds',
    mount: 'broker/',
    role: 'deploy',
    audience: '',
    akName: machine.akName,
    keyThumbprint: THUMBPRINT,
    plugin: asked.plugin,
    action: '',
    scope: asked.scope,
  })
  return { challenge: drawn['challenge'] ?? '', key_thumbprint: THUMBPRINT, ...machine.quote(extraData) }
}

/** `OK`, or the code of the BrokerError that was thrown. */
export async function outcomeOf(asked: Promise<unknown>): Promise<string> {
  return asked.then(
    () => 'OK',
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  )
}

/** The code of a refusal, which the audit log alone has; what came of it when it was none. */
export async function refusalOf({ records }: Pick<TestBroker, 'records'>, asked: Promise<unknown>): Promise<unknown> {
  const outcome = await outcomeOf(asked)
  if (outcome !== 'permission_denied') return outcome
  return (await records()).filter(one => one['type'] === 'refusal').at(-1)?.['code']
}
