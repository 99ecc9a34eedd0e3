import nodeVault from 'node-vault'
import { Agent, type Dispatcher, request } from 'undici'
import { BrokerError } from '../errors.ts'
import type { Secret } from '../secret.ts'

/** What Vault answered when it did not answer with data. `errors` are Vault's own sentences; they hold no token and no body. */
export class VaultRefusal extends Error {
  readonly status: number
  readonly errors: readonly string[]
  constructor(status: number, errors: readonly string[]) {
    super(`vault answered ${status}`)
    this.name = 'VaultRefusal'
    this.status = status
    this.errors = errors
  }
}

/** The envelope of a reply: `data`, `auth` and `wrap_info` as Vault sent them, undefined after a 204. */
export type VaultReply = {
  readonly data?: Readonly<Record<string, unknown>> | null
  readonly auth?: Readonly<Record<string, unknown>> | null
  readonly wrap_info?: Readonly<Record<string, unknown>> | null
  readonly warnings?: readonly string[] | null
}

/** In whose name a call is made and how: `as` undefined means without a token. */
export type CallOptions = {
  readonly as?: Secret | undefined
  readonly wrapTtl?: string | undefined
  readonly namespace?: string | undefined
}

/** A Vault server: the paths are canonical (decoded, without `/v1/`); every call ends within the deadline.
 *  @throws VaultRefusal when Vault answers with a status other than 200 or 204
 *  @throws BrokerError unavailable when Vault is sealed, down, slow, rate-limited or does not speak Vault's protocol */
export type Vault = {
  readonly read: (path: string, options?: CallOptions) => Promise<VaultReply | undefined>
  readonly list: (path: string, options?: CallOptions) => Promise<readonly string[]>
  readonly write: (
    path: string,
    body: Readonly<Record<string, unknown>>,
    options?: CallOptions,
  ) => Promise<VaultReply | undefined>
  readonly delete: (path: string, options?: CallOptions) => Promise<void>
  readonly close: () => Promise<void>
}

export type VaultOptions = {
  /** `http://127.0.0.1:8200` */
  readonly address: string
  /** PEM bundle that the server's certificate must lead to; the system's when absent */
  readonly ca?: string | undefined
  readonly deadlineMs: number
  readonly observe?: (method: string, status: number, seconds: number) => void
}

const MAX_REPLY_BYTES = 4 * 1024 * 1024
const CONNECTIONS = 64

export function openVault(options: VaultOptions): Vault {
  const connect = { timeout: options.deadlineMs, ...(options.ca === undefined ? {} : { ca: options.ca }) }
  const dispatcher = new Agent({ connections: CONNECTIONS, pipelining: 1, keepAliveTimeout: 30_000, connect })
  const send = transport(dispatcher, options)
  // node-vault reads VAULT_TOKEN and VAULT_NAMESPACE by itself and prints bodies under DEBUG: the transport builds its own headers, debug is off
  const settings = { endpoint: options.address, debug: () => {}, 'request-promise': { defaults: () => send } }
  const client = nodeVault(settings as object) as unknown as NodeVault
  const attempt = <T>(call: Promise<T>) => call.catch(translate)
  return {
    read: async (path, as = {}) => attempt(client.read(encodePath(path), { assay: as })),
    list: async (path, as = {}) => keysOf(await absent(attempt(client.read(`${encodePath(path)}?list=true`, { assay: as })))),
    write: async (path, body, as = {}) => attempt(client.write(encodePath(path), body, { assay: as })),
    delete: async (path, as = {}) => void (await attempt(client.delete(encodePath(path), { assay: as }))),
    close: () => dispatcher.close(),
  }
}

/** What we use of node-vault: four verbs, whose paths we encode ourselves, over our own transport. */
type NodeVault = {
  read: (path: string, options: { assay: CallOptions }) => Promise<VaultReply | undefined>
  write: (path: string, body: object, options: { assay: CallOptions }) => Promise<VaultReply | undefined>
  delete: (path: string, options: { assay: CallOptions }) => Promise<unknown>
}
type Outgoing = { uri: string; path: string; method: string; json?: object; assay: CallOptions }
type Incoming = { statusCode: number; body: unknown; request: { path: string } }

/** The replacement for node-vault's HTTP layer: keep-alive, a deadline, no redirects, errors without token or body. */
function transport(dispatcher: Dispatcher, options: VaultOptions): (outgoing: Outgoing) => Promise<Incoming> {
  return async outgoing => {
    const started = performance.now()
    const observe = (status: number) => options.observe?.(outgoing.method, status, (performance.now() - started) / 1000)
    const { status, text } = await exchange(dispatcher, outgoing, options.deadlineMs).catch((error: unknown) => {
      observe(0)
      throw error
    })
    observe(status)
    return { statusCode: status, body: text === '' ? undefined : envelope(text, status), request: { path: outgoing.path } }
  }
}

async function exchange(
  dispatcher: Dispatcher,
  outgoing: Outgoing,
  deadlineMs: number,
): Promise<{ status: number; text: string }> {
  const body = outgoing.json === undefined ? null : JSON.stringify(outgoing.json)
  const reply = await request(outgoing.uri, {
    dispatcher,
    method: outgoing.method as Dispatcher.HttpMethod,
    headers: headersOf(outgoing.assay, body !== null),
    body,
    signal: AbortSignal.timeout(deadlineMs),
  })
  return { status: reply.statusCode, text: await bounded(reply.body) }
}

/** A reply that arrived and is not in Vault's protocol. */
class Unusable extends Error {}

/** A success that also holds errors is a server that contradicts itself: nothing in it counts. */
function envelope(text: string, status: number): object {
  const body = parsed(text)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Unusable('the reply is no JSON object')
  if (status < 300 && 'errors' in body) throw new Unusable('the reply holds both data and errors')
  return body
}

/** What the parser says quotes the text, which may hold a token. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Unusable('the reply is no JSON')
  }
}

function headersOf({ as, wrapTtl, namespace }: CallOptions, hasBody: boolean): Record<string, string> {
  return {
    'X-Vault-Request': 'true',
    ...(hasBody ? { 'Content-Type': 'application/json' } : {}),
    ...(as ? { 'X-Vault-Token': as.reveal() } : {}),
    ...(wrapTtl ? { 'X-Vault-Wrap-TTL': wrapTtl } : {}),
    ...(namespace ? { 'X-Vault-Namespace': namespace } : {}),
  }
}

async function bounded(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_REPLY_BYTES) throw new Unusable('the reply is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size).toString('utf8')
}

type ApiError = { response?: { statusCode?: number; body?: { errors?: unknown } } }

/** Vault's own refusals stay apart from a Vault that cannot be used: the first are answers, the second is 503. */
function translate(error: unknown): never {
  const response = (error as ApiError).response
  const status = response?.statusCode
  if (status === undefined) throw unanswered(error)
  if (status === 503) throw new BrokerError('unavailable', 'the vault server is sealed or not active')
  if (status === 412) throw new BrokerError('unavailable', 'the vault server has not seen the latest state yet')
  if (status === 429) throw new BrokerError('unavailable', 'the vault server limits the rate of requests')
  if (status >= 500 || status < 400) throw new BrokerError('unavailable', `the vault server answered with status ${status}`)
  const errors = response?.body?.errors
  throw new VaultRefusal(status, Array.isArray(errors) ? errors.filter(one => typeof one === 'string') : [])
}

/** Errors of the HTTP client may hold what was sent or received: of them only the code goes on. */
function unanswered(error: unknown): BrokerError {
  if (error instanceof Unusable) return new BrokerError('unavailable', `the vault server cannot be understood: ${error.message}`)
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
  return new BrokerError('unavailable', 'the vault server did not answer in time', { cause: new Error(String(code)) })
}

/** A 404 is "nothing there" for reads and lists. */
export async function absent<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (error instanceof VaultRefusal && error.status === 404) return undefined
    throw error
  }
}

function keysOf(reply: VaultReply | undefined): readonly string[] {
  const keys = reply?.data?.['keys']
  return Array.isArray(keys) ? keys.filter(key => typeof key === 'string') : []
}

/** A canonical path, percent-encoded segment by segment, so that Vault sees the resource that was matched. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
