import type { Attester } from './attester.ts'
import type { Reply } from './client.ts'
import { type Issued, issuedOf } from './issued.ts'
import type { Logs } from './logs.ts'
import { answer, boundTo, type HeldKey, withClock } from './proof.ts'
import { bytes, dataOf, member, objectOf, text } from './replies.ts'
import { authPath, base64, encoded, present, type Service } from './service.ts'

export type { Issued } from './issued.ts'
export type { HeldKey } from './proof.ts'
export { present, type Service } from './service.ts'

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

/** What goes with an enrolment: certificates in DER, and a token where the mount asks for an operator's. */
export type Endorsements = {
  readonly token?: string
  /** in place of the TPM's own */ readonly certificate?: Buffer
  readonly intermediates: readonly Buffer[]
}

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
  const reply = await service.client.post(`${authPath(service.mounts)}/login`, body).catch(error => {
    throw withClock(error, body.attest)
  })
  const auth = objectOf(reply.auth, 'auth')
  return { token: text(auth, 'client_token'), auth, reply }
}

/** A login that somebody else sends, once and within the life of its challenge: all of it in one word, for clients that know Vault's own
 *  methods, as `jwt` or as a password. */
export async function evidence(service: Service, attester: Attester, request: LoginRequest): Promise<string> {
  return Buffer.from(JSON.stringify(await loginBody(service, attester, request))).toString('base64url')
}

async function loginBody(service: Service, attester: Attester, request: LoginRequest) {
  const { role, audience } = request
  const context = {
    operation: 'login',
    mount: `auth/${service.mounts.auth}/`,
    role,
    audience: audience ?? '',
    ...NOTHING_ASKED,
  } as const
  const { certificate, held, logs } = request
  const bound = await boundTo(attester, request)
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

/** Shows the broker that the work goes on. */
export async function heartbeat(service: Service, role: string, token: string, taskToken: string | undefined): Promise<void> {
  const path = `${encoded(service.mounts.broker)}/creds/${encodeURIComponent(role)}/heartbeat`
  await service.client.post(path, present({ task_token: taskToken }), { token })
}

async function credsProof(service: Service, request: CredsRequest, attesting: Attesting): Promise<object> {
  const { attester, role, certificate, held, logs } = attesting
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
  const bound = await boundTo(attester, attesting)
  const asked = { role, creds_role: request.role, mount: context.mount, audience, plugin, action, scope }
  const { ak_name: _, ...proof } = await answer(service, attester, { context, asked, bound, certificate, held, logs })
  return { ...proof, ...bound }
}

const NOTHING_ASKED = { plugin: '', action: '', scope: [] }
