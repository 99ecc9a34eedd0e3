import { type BoundRequest, type Hash, hashes, qualifyingData } from '#attestation'
import type { Attester } from './attester.ts'
import type { Client, Reply } from './client.ts'
import { AgentError } from './exits.ts'
import { type LogKind, type Logs, logKinds, logsFrom } from './logs.ts'
import type { Selection } from './tpm/commands.ts'

/** Where the front door keeps what the agent uses, without slashes at the ends: `tpm-quote` below `auth/`, and `broker`. */
export type Mounts = { readonly auth: string; readonly broker: string }

/** What is asked of the broker. */
export type CredsRequest = {
  /** role of the broker */
  readonly role: string
  /** plugin and action may be left out where the role serves one */
  readonly plugin?: string
  readonly action?: string
  readonly scope: readonly string[]
  readonly audience?: string
  /** Vault duration, such as `15m` */
  readonly ttl?: string
  /** what an orchestrator signed of the task */
  readonly taskToken?: string
  /** what the provider has to know, such as a public key to sign */
  readonly parameters?: Readonly<Record<string, string>>
}

/** `pending`: an operator has to approve of the machine, which enrols again then. */
export type Enrolled = { readonly status: 'enrolled' | 'pending'; readonly tpm_id: string; readonly ak_name: string }
export type LoggedIn = {
  readonly token: string
  /** of Vault's reply */
  readonly auth: object
  /** Vault's own */
  readonly reply: Reply
}
export type Issued = {
  /** empty for a credential of several parts, such as a user name and a password: they are in `data` */
  readonly token: string
  readonly expiresInSeconds: number
  /** how soon the broker wants a sign of life; undefined when it wants none */
  readonly beatWithinSeconds: number | undefined
  readonly warnings: readonly string[]
  readonly data: object
  readonly reply: Reply
}

/** What goes with an enrolment: certificates in DER, and a token where the mount asks for an operator's. */
export type Endorsements = {
  readonly token?: string
  /** in place of the TPM's own */ readonly certificate?: Buffer
  readonly intermediates: readonly Buffer[]
}

/** A front door, and where it keeps what the agent uses. */
export type Service = { readonly client: Client; readonly mounts: Mounts }

/** Introduces this TPM: its EK certificate is checked, and only this TPM can open the answer. */
export async function enroll({ client, mounts }: Service, attester: Attester, given: Endorsements): Promise<Enrolled> {
  const path = authPath(mounts)
  const ek = await attester.endorsement(given.certificate)
  const ak = await attester.attestationKey()
  const offer = {
    ek_certificate: base64(ek.certificate),
    ek_public: base64(ek.public),
    ak_public: base64(ak.public),
    hierarchy: 'endorsement',
    ...(given.intermediates.length > 0 ? { intermediates: given.intermediates.map(base64) } : {}),
  }
  const offered = dataOf(await client.post(`${path}/enroll`, offer, present({ token: given.token })))
  const secret = await attester.activate(bytes(offered, 'credential_blob'), bytes(offered, 'encrypted_secret'))
  const answer = { enrollment: text(offered, 'enrollment'), secret: base64(secret) }
  const done = dataOf(await client.post(`${path}/enroll/activate`, answer))
  const status = member(done, 'status') === 'pending' ? 'pending' : 'enrolled'
  return { status, tpm_id: text(done, 'tpm_id'), ak_name: text(done, 'ak_name') }
}

/** A key that this program holds itself, and its certificate in DER. */
export type HeldKey = { readonly thumbprint: string; readonly certificate: Buffer }

export type LoginRequest = {
  /** role of the auth mount; it names the PCRs */
  readonly role: string
  readonly audience?: string
  /** ties what is issued later to the TPM's key */
  readonly bind: boolean
  /** of that key, DER: what is issued is bound to it, too, for mutual TLS */
  readonly certificate?: Buffer
  /** a key of the program's own in place of the TPM's: the quote names it, the TPM does not certify it */
  readonly held?: HeldKey
  /** asked for the logs that the service wants; those that Linux shows when left out */
  readonly logs?: Logs
}

/** Trades a quote over a fresh challenge for a Vault token. */
export async function login(service: Service, attester: Attester, request: LoginRequest): Promise<LoggedIn> {
  const body = await loginBody(service, attester, request)
  const reply = await service.client.post(`${authPath(service.mounts)}/login`, body)
  const auth = objectOf(reply.auth, 'auth')
  return { token: text(auth, 'client_token'), auth, reply }
}

/** A login that somebody else sends, once and within the life of its challenge: all of it in one word, for clients that know Vault's own
 *  methods, as `jwt` or as a password. */
export async function evidence(service: Service, attester: Attester, request: LoginRequest): Promise<string> {
  return Buffer.from(JSON.stringify(await loginBody(service, attester, request))).toString('base64url')
}

async function loginBody(service: Service, attester: Attester, request: LoginRequest): Promise<object> {
  const { role, audience } = request
  const context = {
    operation: 'login',
    mount: `auth/${service.mounts.auth}/`,
    role,
    audience: audience ?? '',
    ...NOTHING_ASKED,
  } as const
  const { certificate, held, logs } = request
  const bound = held ? { key_thumbprint: held.thumbprint } : await boundTo(attester, request.bind)
  const asked = { role, ...present({ audience }), ...bound }
  return { ...asked, ...(await answer(service, attester, { context, asked, bound, certificate, held, logs })) }
}

/** How to be attested with a request: the role of the auth mount names the PCRs. */
export type Attesting = { readonly attester: Attester } & Pick<LoginRequest, 'role' | 'bind' | 'certificate' | 'held' | 'logs'>

/** Asks the broker for a credential. @param attesting sends a quote over the request itself with it */
export async function creds(service: Service, request: CredsRequest, token: string, attesting?: Attesting): Promise<Issued> {
  const { role, ttl, taskToken, ...asked } = request
  const proof = attesting === undefined ? {} : await credsProof(service, request, attesting)
  const path = `${encoded(service.mounts.broker)}/creds/${encodeURIComponent(role)}`
  const reply = await service.client.post(path, { ...asked, ...present({ ttl, task_token: taskToken }), ...proof }, { token })
  return issuedOf(reply)
}

/** Where a person has to go before there is a credential, and the code that they will see there. */
export type Invitation = {
  readonly url: string
  readonly userCode: string
  readonly handle: string
  readonly expiresInSeconds: number
  readonly intervalSeconds: number
}

/** Asks for the consent of a person, where the role works in people's names. */
export async function askConsent({ client, mounts }: Service, request: CredsRequest, token: string): Promise<Invitation> {
  const { role, taskToken, ...asked } = request
  const asking = { ...asked, ...present({ task_token: taskToken }) }
  const data = dataOf(await client.post(consentPath(mounts, role), asking, { token }))
  return {
    url: text(data, 'url'),
    userCode: text(data, 'user_code'),
    handle: text(data, 'handle'),
    expiresInSeconds: positive(data, 'expires_in'),
    intervalSeconds: positive(data, 'interval'),
  }
}

/** What the person let us have; undefined while nobody decided. @throws AgentError of `refused` when they said no */
export async function pollConsent(
  { client, mounts }: Service,
  role: string,
  handle: string,
  token: string,
  taskToken?: string,
): Promise<Issued | undefined> {
  const reply = await client.post(
    `${consentPath(mounts, role)}/poll`,
    { handle, ...present({ task_token: taskToken }) },
    { token },
  )
  const data = dataOf(reply)
  return member(data, 'status') === 'pending' ? undefined : issuedOf(reply)
}

const consentPath = ({ broker }: Mounts, role: string) => `${encoded(broker)}/consent/${encodeURIComponent(role)}`

function issuedOf(reply: Reply): Issued {
  const data = dataOf(reply)
  const within = member(data, 'beat_within')
  return {
    token: member(data, 'token') === undefined && Object.keys(data).some(isPart) ? '' : text(data, 'token'),
    expiresInSeconds: positive(data, 'expires_in'),
    beatWithinSeconds: typeof within === 'number' && within > 0 ? within : undefined,
    warnings: Array.isArray(reply['warnings']) ? reply['warnings'].filter(one => typeof one === 'string') : [],
    data,
    reply,
  }
}

/** What the broker says of every credential; what else is there is the credential. */
const ABOUT = new Set(
  'token_type expires_in expires_at scope plugin action audience kid jti txn beat_within destinations'.split(' '),
)
const isPart = (name: string) => !ABOUT.has(name)

/** Shows the broker that the work goes on. */
export async function heartbeat(service: Service, role: string, token: string, taskToken: string | undefined): Promise<void> {
  const path = `${encoded(service.mounts.broker)}/creds/${encodeURIComponent(role)}/heartbeat`
  await service.client.post(path, present({ task_token: taskToken }), { token })
}

async function credsProof(
  service: Service,
  request: CredsRequest,
  { attester, role, bind, certificate, held, logs }: Attesting,
): Promise<object> {
  const { plugin = '', action = '', scope, audience = '' } = request
  const context = {
    operation: 'creds',
    mount: `${service.mounts.broker}/`,
    role: request.role,
    audience,
    plugin,
    action,
    scope,
  } as const
  const bound = held ? { key_thumbprint: held.thumbprint } : await boundTo(attester, bind)
  const asked = { role, creds_role: request.role, mount: context.mount, audience, plugin, action, scope }
  const { ak_name: _, ...proof } = await answer(service, attester, { context, asked, bound, certificate, held, logs })
  return { ...proof, ...bound }
}

const NOTHING_ASKED = { plugin: '', action: '', scope: [] }

type Question = {
  /** what the quote will be bound to */
  readonly context: Omit<BoundRequest, 'akName' | 'keyThumbprint'>
  /** the same in the words of the challenge endpoint */
  readonly asked: object
  readonly bound: { readonly key_thumbprint?: string }
  readonly certificate: Buffer | undefined
  readonly held: HeldKey | undefined
  readonly logs: Logs | undefined
}

/** Takes a challenge for exactly this request and quotes it. */
async function answer(
  { client, mounts }: Service,
  attester: Attester,
  { context, asked, bound, certificate, held, logs }: Question,
) {
  const ak = await attester.attestationKey()
  const ak_name = ak.name.toString('hex')
  const question = { ...asked, ...bound, operation: context.operation, ak_name }
  const challenge = dataOf(await client.post(`${authPath(mounts)}/challenge`, question))
  const data = qualifyingData(bytes(challenge, 'nonce'), {
    ...context,
    akName: ak.name,
    keyThumbprint: bound.key_thumbprint ?? '',
  })
  const { attest, signature, pcrs } = await attester.quote(selectionOf(challenge), data)
  const unbound = bound.key_thumbprint === undefined
  const certified = async () => (unbound ? {} : keyProof(attester, data, certificate))
  const key = held ? { key_certificate: base64(held.certificate) } : await certified()
  const wanted = await wantedLogs(challenge, logs)
  return {
    ak_name,
    challenge: text(challenge, 'challenge'),
    attest: base64(attest),
    signature: base64(signature),
    pcrs,
    ...key,
    ...wanted,
  }
}

/** What the TPM says of the key to bind. */
async function keyProof(attester: Attester, qualifyingData: Buffer, certificate: Buffer | undefined): Promise<object> {
  const { public: area, attest, signature, parent } = await attester.certify(qualifyingData)
  return {
    key_public: base64(area),
    key_attest: base64(attest),
    key_signature: base64(signature),
    ...(parent && { key_parent: base64(parent) }),
    ...(certificate && { key_certificate: base64(certificate) }),
  }
}

/** What explains the quoted values, when the service asks for it; a service that does not say so wants none. */
async function wantedLogs(challenge: object, logs: Logs = logsFrom({})): Promise<Record<string, string>> {
  const kinds: unknown = member(challenge, 'logs') ?? []
  if (!Array.isArray(kinds) || !kinds.every(isLogKind)) return unexpected('logs')
  const read = await Promise.all(kinds.map(async kind => [logKinds[kind].field, base64(await logs(kind))] as const))
  return Object.fromEntries(read)
}

function isLogKind(kind: unknown): kind is LogKind {
  return typeof kind === 'string' && Object.hasOwn(logKinds, kind)
}

async function boundTo(attester: Attester, bind: boolean): Promise<{ key_thumbprint?: string }> {
  return bind ? { key_thumbprint: (await attester.boundKey()).thumbprint } : {}
}

/** The PCRs that the challenge names: `{"sha256": [0, 1, 7]}`. */
function selectionOf(challenge: object): Selection {
  const banks = Object.entries(objectOf(member(challenge, 'pcrs'), 'pcrs'))
  const fine = banks.length > 0 && banks.every(([bank, pcrs]) => Object.hasOwn(hashes, bank) && isPcrList(pcrs))
  return fine ? (Object.fromEntries(banks) as Partial<Record<Hash, number[]>>) : unexpected('pcrs')
}

function isPcrList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(pcr => Number.isInteger(pcr) && pcr >= 0 && pcr < 24)
}

function dataOf(reply: Reply): object {
  return objectOf(reply.data, 'data')
}

function objectOf(value: unknown, name: string): object {
  return typeof value === 'object' && value !== null ? value : unexpected(name)
}

function member(from: object, name: string): unknown {
  return Object.hasOwn(from, name) ? (from as Record<string, unknown>)[name] : undefined
}

function text(from: object, name: string): string {
  const value = member(from, name)
  return typeof value === 'string' && value !== '' ? value : unexpected(name)
}

function positive(from: object, name: string): number {
  const value = member(from, name)
  return typeof value === 'number' && value > 0 && Number.isFinite(value) ? value : unexpected(name)
}

function bytes(from: object, name: string): Buffer {
  return Buffer.from(text(from, name), 'base64')
}

function unexpected(name: string): never {
  throw new AgentError(
    'unavailable',
    `the reply of the service lacks '${name}'; is this an Assay front door of the same version?`,
  )
}

/** Without the members that are not there. */
export function present(fields: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined))
}

function authPath(mounts: Mounts): string {
  return `auth/${encoded(mounts.auth)}`
}

/** A mount's path may have several segments. */
function encoded(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

const base64 = (value: Uint8Array): string => Buffer.from(value).toString('base64')
