import { AgentError, type Exit } from './exits.ts'
import { printable } from './printable.ts'

export type ClientOptions = {
  /** of the front door, such as `https://assay.example:8210` */
  readonly address: string
  /** PEM of the CAs that the service's certificate may come from; Node's own roots when there is none */
  readonly ca?: string
  /** PEM of the certificate and key that the service knows this client by */
  readonly client?: { readonly certificate: string; readonly key: string }
  /** for each request; default 10 000 */
  readonly deadlineMs?: number
  /** nobody waits for answers any more */
  readonly signal?: AbortSignal
  readonly fetch?: typeof fetch
}

export type PostOptions = {
  /** goes into X-Vault-Token, and nowhere else */
  readonly token?: string
}

/** Speaks to a front door in Vault's way. */
export type Client = {
  /**
   * @param path below `/v1/`, each segment already encoded
   * @returns the parsed reply
   * @throws AgentError of `refused` or `unavailable`, its message holds what the service said
   */
  post(path: string, body: object, options?: PostOptions): Promise<Reply>
}

/** Vault's envelope, as far as the agent reads it. */
export type Reply = { readonly data?: unknown; readonly auth?: unknown; readonly [member: string]: unknown }

const DEADLINE_MS = 10_000
const REPLY_LIMIT = 1 << 20
const MESSAGE_LIMIT = 500
const TOO_MANY_REQUESTS = 429

/** @throws AgentError of `usage` when the address is none */
export function clientOf(options: ClientOptions): Client {
  const base = baseOf(options.address)
  const fetching = fetchOf(options)
  return {
    post: async (path, body, { token } = {}) => {
      const headers = { 'content-type': 'application/json', 'x-vault-request': 'true', ...tokenHeader(token) }
      const deadline = AbortSignal.timeout(options.deadlineMs ?? DEADLINE_MS)
      const signal = options.signal ? AbortSignal.any([deadline, options.signal]) : deadline
      const init = {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
        redirect: 'manual',
        signal,
      } as const
      const { status, text } = await send(await fetching, `${base}/v1/${path}`, init, base)
      return replyOf(status, text, base, token)
    },
  }
}

/** What went wrong in one word where the system has one, such as ECONNREFUSED. */
export function reasonOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) if ('code' in at && typeof at.code === 'string') return at.code
  return error instanceof Error ? error.name : 'unknown'
}

function baseOf(address: string): string {
  const url = URL.canParse(address) ? new URL(address) : undefined
  const fine = url !== undefined && ['http:', 'https:'].includes(url.protocol) && url.username + url.password + url.search === ''
  if (!fine) throw new AgentError('usage', 'wanted the address of the service as http://host:port or https://host:port')
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

/** Own CAs and client certificates want undici's own `fetch`, whose Agent Node's does not take; most callers need neither. */
async function fetchOf({ fetch: given = fetch, ca, client }: ClientOptions): Promise<typeof fetch> {
  if (ca === undefined && client === undefined) return given
  const { Agent, fetch: fetching } = await import('undici')
  const identity = client === undefined ? {} : { cert: client.certificate, key: client.key }
  const dispatcher = new Agent({ allowH2: false, connect: { ...(ca === undefined ? {} : { ca }), ...identity } })
  return ((url: string, init: Parameters<typeof fetching>[1]) => fetching(url, { ...init, dispatcher })) as typeof fetch
}

function tokenHeader(token: string | undefined): Record<string, string> {
  if (token === undefined) return {}
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new AgentError('usage', 'the Vault token is empty, or has characters that no token has')
  return { 'x-vault-token': token }
}

async function send(
  fetching: typeof fetch,
  url: string,
  init: RequestInit,
  base: string,
): Promise<{ status: number; text: string }> {
  try {
    const response = await fetching(url, init)
    return { status: response.status, text: await bounded(response) }
  } catch (error) {
    if (error instanceof AgentError) throw error
    const late = error instanceof Error && error.name === 'TimeoutError'
    const what = late ? 'did not answer in time' : `could not be reached (${reasonOf(error)})`
    throw new AgentError('unavailable', `the service at ${base} ${what}`, { cause: error })
  }
}

async function bounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > REPLY_LIMIT) throw new AgentError('unavailable', `the service answered with more than ${REPLY_LIMIT} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function replyOf(status: number, text: string, base: string, token: string | undefined): Reply {
  if (status >= 300 && status < 400) {
    const next = 'give the address that it redirects to, with --address'
    throw new AgentError('unavailable', `the service at ${base} redirects (${status}), which the agent does not follow; ${next}`)
  }
  const reply = parsed(text)
  if (status >= 400 && (reply || exitOf(status) === 'unavailable'))
    throw new AgentError(
      exitOf(status),
      `${verdictOf(status)} (${status}): ${shown(said(reply), token)}${nextOf(said(reply), token)}`,
    )
  if (reply === undefined)
    throw new AgentError('unavailable', `what answers at ${base} does not speak Vault's protocol (${status})`)
  return reply
}

function parsed(text: string): Reply | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Reply) : undefined
  } catch {
    return undefined
  }
}

function exitOf(status: number): Exit {
  return status >= 500 || status === TOO_MANY_REQUESTS ? 'unavailable' : 'refused'
}

function verdictOf(status: number): string {
  return exitOf(status) === 'refused' ? 'the service refused' : 'the service cannot answer now'
}

function said(reply: Reply | undefined): string {
  const errors = reply?.['errors']
  const texts = Array.isArray(errors) ? errors.filter(one => typeof one === 'string') : []
  return texts.length > 0 ? texts.join('; ') : 'it did not say why'
}

/** What to do about the two refusals that do not say it, because whoever has no token is told nothing. */
function nextOf(words: string, token: string | undefined): string {
  if (words.startsWith('the evidence was refused; correlation id '))
    return ', under which the audit log of the service has the reason'
  if (words !== 'permission denied' || token !== undefined) return ''
  return ' without a token: no mount of type tpm-quote is there (--mount), the address is not that of the front door (--address), or enrolling wants --token-file'
}

/** Bounded, and without the token even if the service should echo it. */
function shown(text: string, token: string | undefined): string {
  return printable(token === undefined ? text : text.replaceAll(token, '[secret]')).slice(0, MESSAGE_LIMIT)
}
