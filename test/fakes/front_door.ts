import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'
import {
  type AttestationKey,
  admitAk,
  admitEk,
  authenticate,
  type BoundRequest,
  makeCredential,
  parsePcrTable,
  qualifiedNameOf,
  qualifyingData,
  type Verdict,
  verifyEk,
} from '#attestation'
import { listening } from '../harness/listening.ts'

export type FrontDoorOptions = {
  /** PEM or DER of the CAs of EK certificates; without any, certificates are not looked at */
  readonly anchors?: readonly Buffer[]
  /** roles of the broker that want a quote with the request */
  readonly quoteRoles?: readonly string[]
  readonly pcrs?: Readonly<Record<string, readonly number[]>>
  /** life of credentials */
  readonly ttlSeconds?: number
  /** serves TLS with these, asking for a client certificate when there is a `ca` */
  readonly tls?: ServerOptions
}

/** What came in, and what the next requests get in place of an answer. */
export type FrontDoor = AsyncDisposable & {
  readonly url: string
  readonly requests: { readonly path: string; readonly headers: IncomingMessage['headers']; readonly body: Fields }[]
  /** taken by the next request; `hang` never answers */
  readonly faults: (Answer | 'hang')[]
  /** Vault tokens that count, with the Name of the attestation key that got them, hex */
  readonly tokens: Map<string, string>
  /** how many credentials were issued */
  issued: number
}
export type Answer = { readonly status: number; readonly body: unknown; readonly headers?: Record<string, string> }
type Fields = Record<string, unknown>

const NONE = { plugin: '', action: '', scope: [] }

/** A front door in this process that judges quotes and enrolments as the real one does, and keeps no rules of its own: any role will do. */
export async function startFrontDoor(options: FrontDoorOptions = {}): Promise<FrontDoor> {
  const state = stateOf(options)
  const answer = (request: IncomingMessage, response: ServerResponse) => void serve(state, request, response)
  const server = options.tls === undefined ? createServer(answer) : createTlsServer(options.tls, answer)
  const { port, ...ends } = await listening(server)
  return Object.assign(state, { url: `http${options.tls === undefined ? '' : 's'}://127.0.0.1:${port}`, ...ends })
}

type Challenge = { readonly nonce: Buffer; readonly context: BoundRequest }
type Enrollment = { readonly secret: Buffer; readonly ak: AttestationKey; readonly tpmId: string }
type State = Pick<FrontDoor, 'requests' | 'faults' | 'tokens' | 'issued'> & {
  readonly options: FrontDoorOptions
  readonly enrollments: Map<string, Enrollment>
  readonly aks: Map<string, AttestationKey>
  readonly challenges: Map<string, Challenge>
}

function stateOf(options: FrontDoorOptions): State {
  const kept = { enrollments: new Map(), aks: new Map(), challenges: new Map() }
  return { options, requests: [], faults: [], tokens: new Map(), issued: 0, ...kept }
}

async function serve(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks = await request.toArray()
  const body = JSON.parse(Buffer.concat(chunks).toString()) as Fields
  const path = (request.url ?? '').replace(/^\/v1\//, '')
  state.requests.push({ path, headers: request.headers, body })
  const fault = state.faults.shift()
  if (fault === 'hang') return
  const { status, body: reply, headers } = fault ?? (await answerTo(state, path, body, request.headers))
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(typeof reply === 'string' ? reply : JSON.stringify(reply))
}

async function answerTo(state: State, path: string, body: Fields, headers: IncomingMessage['headers']): Promise<Answer> {
  const [, mount = '', operation = ''] = /^(auth\/[^/]+|[^/]+)\/(.+)$/.exec(path) ?? []
  if (operation === 'enroll') return enroll(state, body)
  if (operation === 'enroll/activate') return activate(state, body)
  if (operation === 'challenge') return challenge(state, mount, body)
  if (operation === 'login') return login(state, body)
  if (operation.startsWith('creds/')) return creds(state, mount, operation.slice('creds/'.length), body, headers)
  return refuse(404, 'no handler for route')
}

async function enroll({ options, enrollments }: State, body: Fields): Promise<Answer> {
  const ak = admitAk(bytes(text(body, 'ak_public')))
  const ek = admitEk(bytes(text(body, 'ek_public')))
  if (!ak.ok || !ek.ok) return refuse(403, 'the keys were refused')
  const chain = await checkChain(options, body)
  if (chain !== undefined && !chain.ok) return refuse(403, `${chain.code}: ${chain.detail}`)
  const secret = randomBytes(32)
  const credential = makeCredential({ ek: ek.value, akName: ak.value.name, secret, random: randomBytes })
  const enrollment = randomBytes(16).toString('base64')
  enrollments.set(enrollment, { secret, ak: ak.value, tpmId: ek.value.id })
  return give({
    tpm_id: ek.value.id,
    ak_name: ak.value.name.toString('hex'),
    credential_blob: credential.credentialBlob.toString('base64'),
    encrypted_secret: credential.encryptedSecret.toString('base64'),
    enrollment,
    expires_in: 60,
  })
}

async function checkChain({ anchors }: FrontDoorOptions, body: Fields): Promise<Verdict<unknown> | undefined> {
  if (anchors === undefined) return undefined
  const intermediates = ((body['intermediates'] ?? []) as string[]).map(bytes)
  const evidence = { certificate: bytes(text(body, 'ek_certificate')), public: bytes(text(body, 'ek_public')), intermediates }
  return verifyEk(evidence, { anchors, at: new Date(), allowTestTpms: true })
}

function activate({ enrollments, aks }: State, body: Fields): Answer {
  const enrollment = enrollments.get(text(body, 'enrollment'))
  if (!enrollment?.secret.equals(bytes(text(body, 'secret')))) return refuse(403, 'the secret is not the one')
  const akName = enrollment.ak.name.toString('hex')
  aks.set(akName, enrollment.ak)
  return give({ tpm_id: enrollment.tpmId, ak_name: akName })
}

function challenge({ challenges, options }: State, mount: string, body: Fields): Answer {
  const nonce = randomBytes(32)
  const asked = {
    audience: text(body, 'audience'),
    akName: Buffer.from(text(body, 'ak_name'), 'hex'),
    keyThumbprint: text(body, 'key_thumbprint'),
  }
  const wanted = { plugin: text(body, 'plugin'), action: text(body, 'action'), scope: (body['scope'] ?? []) as string[] }
  const context: BoundRequest =
    body['operation'] === 'creds'
      ? { operation: 'creds', mount: text(body, 'mount'), role: text(body, 'creds_role'), ...asked, ...wanted }
      : { operation: 'login', mount: `${mount}/`, role: text(body, 'role'), ...asked, ...NONE }
  const handle = randomBytes(40).toString('base64')
  challenges.set(handle, { nonce, context })
  return give({ challenge: handle, nonce: nonce.toString('base64'), expires_in: 60, pcrs: options.pcrs ?? { sha256: [0, 7] } })
}

/** undefined when the quote answers the challenge in exactly this request; the challenge is used up either way. */
function judge(state: State, body: Fields, akName: string, request: Omit<BoundRequest, 'akName'>): string | undefined {
  const drawn = state.challenges.get(text(body, 'challenge'))
  state.challenges.delete(text(body, 'challenge'))
  const ak = state.aks.get(akName)
  if (drawn === undefined || ak === undefined) return 'the evidence was refused'
  const expected = qualifyingData(drawn.nonce, { ...request, akName: ak.name })
  const quote = authenticate(
    { attest: bytes(text(body, 'attest')), signature: bytes(text(body, 'signature')) },
    { ak, qualifyingData: expected, qualifiedSigner: qualifiedNameOf('endorsement', ak.name) },
  )
  const table = parsePcrTable(text(body, 'pcrs'))
  return quote.ok && table.ok ? undefined : 'the evidence was refused'
}

function login(state: State, body: Fields): Answer {
  const [audience, keyThumbprint] = [text(body, 'audience'), text(body, 'key_thumbprint')]
  const request = {
    operation: 'login',
    mount: 'auth/tpm-quote/',
    role: text(body, 'role'),
    audience,
    keyThumbprint,
    ...NONE,
  } as const
  const refusal = judge(state, body, text(body, 'ak_name'), request)
  if (refusal !== undefined) return refuse(403, refusal)
  const token = `hvs.${randomBytes(24).toString('base64url')}`
  state.tokens.set(token, text(body, 'ak_name'))
  return {
    status: 200,
    body: { request_id: 'r', data: null, auth: { ...AUTH, client_token: token, metadata: { role: body['role'] } } },
  }
}

const AUTH = {
  accessor: 'accessor-1',
  policies: ['default', 'agent'],
  token_policies: ['default', 'agent'],
  lease_duration: 5400,
  renewable: true,
}

function creds(state: State, mount: string, role: string, body: Fields, headers: IncomingMessage['headers']): Answer {
  const akName = state.tokens.get(String(headers['x-vault-token']))
  if (akName === undefined) return refuse(403, 'permission denied')
  const quoted = body['attest'] !== undefined
  if (state.options.quoteRoles?.includes(role) && !quoted)
    return refuse(403, 'QUOTE_REQUIRED: the role wants a quote with the request itself')
  const asked = { plugin: text(body, 'plugin'), action: text(body, 'action'), scope: body['scope'] as string[] }
  const [audience, keyThumbprint] = [text(body, 'audience'), text(body, 'key_thumbprint')]
  const request = { operation: 'creds', mount: `${mount}/`, role, audience, keyThumbprint, ...asked } as const
  const refusal = quoted ? judge(state, body, akName, request) : undefined
  if (refusal !== undefined) return refuse(403, `NONCE_MISMATCH: ${refusal}`)
  state.issued++
  const data = {
    token: `credential-${state.issued}-${randomBytes(24).toString('base64url')}`,
    token_type: 'DPoP',
    ...LIFE,
    quoted,
  }
  return give({ ...data, expires_in: state.options.ttlSeconds ?? 900, scope: asked.scope.join(' ') })
}

const LIFE = { expires_at: '2030-01-01T00:00:00Z', kid: 'k-1', jti: 'j-1', txn: 't-1' }

function give(data: object): Answer {
  return { status: 200, body: { request_id: 'r', lease_id: '', data, auth: null } }
}

function refuse(status: number, message: string): Answer {
  return { status, body: { errors: [message] } }
}

function text(body: Fields, name: string): string {
  const value = body[name]
  return typeof value === 'string' ? value : ''
}

function bytes(value: string): Buffer {
  return Buffer.from(value, 'base64')
}
