import { Agent } from 'undici'
import { type Answer, call, GivenUp } from './call.ts'
import { isMetadata, lookup, metadataError } from './metadata.ts'
import { SUITES } from './suites.ts'

export type Sent = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array | undefined
  /** that the body of the answer may have; a megabyte when left out */
  readonly mostBytes?: number
}
export type Received = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer }

/** Somebody outside gave no answer. `reason` is what they did, in words; nothing that was sent or received is in it. */
export class Unanswered extends Error {
  readonly reason: string
  /** it never arrived, so asking again does no harm */
  readonly unsent: boolean
  constructor(reason: string, unsent = false) {
    super(`no usable answer: it ${reason}`)
    this.name = 'Unanswered'
    this.reason = reason
    this.unsent = unsent
  }
}

/** The way to providers, stores and orchestrators: no redirect is followed, replies are bounded, nothing outlives the deadline, and no address is
 *  dialled where clouds tell machines their credentials.
 *  @throws Unanswered */
export type Http = {
  readonly send: (sent: Sent, signal?: AbortSignal) => Promise<Received>
  readonly close: () => Promise<void>
}

export type HttpOptions = {
  /** milliseconds for one call, from connecting to the last byte */
  readonly deadlineMs: number
  /** PEM bundle that certificates must lead to; Node's own roots when empty */
  readonly ca?: string | undefined
}

const MAX_REPLY_BYTES = 2 ** 20
const CONNECTIONS = 64

export function openHttp({ deadlineMs, ca = '' }: HttpOptions): Http {
  const connect = { timeout: deadlineMs, lookup, ciphers: SUITES, ...(ca === '' ? {} : { ca }) }
  const dispatcher = new Agent({ connections: CONNECTIONS, pipelining: 1, allowH2: false, keepAliveTimeout: 30_000, connect })
  return {
    send: (sent, signal) => exchange(dispatcher, sent, deadlineMs, signal),
    close: () => dispatcher.close(),
  }
}

async function exchange(agent: Agent, sent: Sent, deadlineMs: number, ending?: AbortSignal): Promise<Received> {
  const { method, url, headers = {}, body = null, mostBytes: bytes = MAX_REPLY_BYTES } = sent
  try {
    const { origin, pathname, search, hostname } = new URL(url)
    if (isMetadata(hostname)) throw metadataError()
    const options = { origin, path: `${pathname}${search}`, method, headers, body: bodyOf(body) }
    const reply = await call(agent, options, { deadlineMs, bytes, ending })
    return { status: reply.status, headers: flat(reply.headers), body: reply.body }
  } catch (error) {
    throw unanswered(error)
  }
}

const bodyOf = (body: string | Uint8Array | null) => (typeof body === 'string' || body === null ? body : Buffer.from(body))

const NEVER_SENT = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT']
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS/

/** Errors of the HTTP client may hold what was sent: of them only what they mean goes on. */
function unanswered(error: unknown): Unanswered {
  if (error instanceof GivenUp) return new Unanswered(error.why === 'long' ? 'said too much' : 'did not answer in time')
  const { code } = error as NodeJS.ErrnoException
  if (code === 'EMETADATA') return new Unanswered('has the address of a metadata service, which is never asked')
  if (code !== undefined && CERTIFICATE.test(code)) return new Unanswered('has a certificate that is not trusted')
  return new Unanswered('cannot be reached', NEVER_SENT.includes(code ?? ''))
}

/** Of a header that came several times none counts: what cannot be read in one way is not read. */
function flat(headers: Answer['headers']): Record<string, string> {
  const single = Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return Object.fromEntries(single)
}
