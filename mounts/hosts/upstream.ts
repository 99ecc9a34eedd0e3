import * as http from 'node:http'
import * as https from 'node:https'
import type { Socket } from 'node:net'
import { type RawHeaders, toVault } from './headers.ts'

export type UpstreamOptions = {
  /** `http://host:port` or `https://host:port`, without a path */
  readonly url: string
  /** PEM of the authorities that may have issued Vault's certificate; Node's own list when absent */
  readonly ca?: string | Buffer | undefined
  /** until a connection stands, waiting for a free one included */
  readonly connectWithinMs?: number
  /** from the last byte of the request to the first of the reply: Vault's own `max_request_duration` when absent */
  readonly answerWithinMs?: number
  /** connections to Vault at the same time, endless streams not counted */
  readonly connections?: number
  /** names of headers that Vault's listener believes and clients may therefore not send, such as its `x_forwarded_for_client_cert_header` */
  readonly strip?: readonly string[]
}

/** Where Vault is, and the connections to it. */
export type Upstream = {
  readonly origin: string
  readonly ask: (request: Ask) => http.ClientRequest
  /** Ends every connection, also those in use. */
  readonly close: () => void
}

export type Ask = {
  readonly method: string
  /** path and query, as `canonicalise` gives them */
  readonly target: string
  /** the client's headers, as they came */
  readonly headers: RawHeaders
  /** how many bytes the body has, when that is known */
  readonly length: number | 'chunked'
}

const DEFAULTS = { connectWithinMs: 2000, answerWithinMs: 90_000, connections: 256 } as const

/** Vault closes what was idle for five minutes; we let go first, so that it does not close what we are about to use. */
const IDLE_MS = 60_000
const REPLY_HEADER_BYTES = 64 * 1024

/** Opens nothing yet; connections are made as they are needed and kept.
 *
 *  Nothing is ever sent twice: a GET can issue a credential at Vault, so even a kept connection that dies under a request ends in an
 *  error, and who asked decides whether to ask again. */
export function openUpstream(options: UpstreamOptions): Upstream {
  const { url, connectWithinMs, answerWithinMs, connections, strip = [] } = { ...DEFAULTS, ...options }
  const { protocol, hostname, port, host, origin } = originOf(url)
  const { request, Agent } = protocol === 'https:' ? https : http
  // said aloud, because the environment could switch it off otherwise
  const tls = { rejectUnauthorized: true, ...(options.ca === undefined ? {} : { ca: options.ca }) }
  const pool = new Agent({ keepAlive: true, scheduling: 'lifo', maxSockets: connections, timeout: IDLE_MS, ...tls })
  const streams = new Agent({ keepAlive: false, ...tls })
  const stripped = new Set(strip.map(name => name.toLowerCase().replaceAll('_', '-')))
  const fixed = {
    protocol,
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port,
    maxHeaderSize: REPLY_HEADER_BYTES,
    insecureHTTPParser: false,
  }

  function ask({ method, target, headers, length }: Ask): http.ClientRequest {
    const endless = isEndless(target)
    const sent = [...toVault(headers, host, stripped), ...framing(method, length)]
    const asked = request({ ...fixed, method, path: target, headers: sent, agent: endless ? streams : pool })
    return limit(asked, connectWithinMs, endless ? Infinity : answerWithinMs)
  }
  const close = () => {
    pool.destroy()
    streams.destroy()
  }
  return { origin, ask, close }
}

function originOf(address: string): URL {
  const url = URL.parse(address)
  const plain = url !== null && url.pathname === '/' && !url.search && !url.hash && !url.username && !url.password
  if (!plain || !['http:', 'https:'].includes(url.protocol))
    throw new Error('the address of Vault must be http://host:port or https://host:port')
  return url
}

/** Told to Node, which would chunk the absent body of a POST. */
function framing(method: string, length: number | 'chunked'): readonly string[] {
  if (length === 'chunked') return ['Transfer-Encoding', 'chunked']
  return length > 0 || !BODILESS.has(method) ? ['Content-Length', String(length)] : []
}
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

/** Replies that last as long as somebody listens. Vault itself sets no limit on these two. */
function isEndless(target: string): boolean {
  return /^\/v1\/sys\/(?:monitor(?:$|\?)|events\/subscribe)/.test(target)
}

/** Why there is no reply, in words that may go to the client. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
}

/** Ends the request with an UpstreamError when it cannot connect, or when no reply begins in time. A body that moves (`progress`) buys
 *  time. The error may be heard twice. */
function limit(request: http.ClientRequest, connectWithinMs: number, answerWithinMs: number): http.ClientRequest {
  const late = (what: string, ms: number) => () => {
    const error = new UpstreamError(`Vault did not ${what} within ${ms / 1000} s`)
    request.destroy(error)
    // Node tells one that waits for a free connection only when it gets one
    if (!request.socket) request.emit('error', error)
  }
  let timer = setTimeout(late('accept a connection', connectWithinMs), connectWithinMs)
  const stop = () => clearTimeout(timer)
  const connected = () => {
    stop()
    if (answerWithinMs === Infinity || request.destroyed) return
    timer = setTimeout(late('answer', answerWithinMs), answerWithinMs)
    request.on('progress', () => timer.refresh())
  }
  request.once('socket', socket => whenStanding(socket, connected))
  request.once('response', stop)
  request.once('close', stop)
  return request
}

const standing = new WeakSet<Socket>()

/** Not by `reusedSocket`: a request that waited for its connection gets one that stands, and Node does not call that reused. */
function whenStanding(socket: Socket, then: () => void): void {
  const stands = () => {
    standing.add(socket)
    then()
  }
  if (standing.has(socket)) then()
  else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', stands)
}

/** What a client may know of why Vault did not answer. */
export function explain(error: Error): string {
  if (error instanceof UpstreamError) return error.message
  const code = 'code' in error ? String(error.code) : ''
  return REASONS.find(([pattern]) => pattern.test(code))?.[1] ?? 'Vault cannot be reached'
}

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^(?:ECONNRESET|ECONNABORTED|EPIPE)$/, 'Vault closed the connection before it answered'],
  [/^HPE_/, 'Vault sent something that is not HTTP'],
  [/CERT|ERR_TLS|ERR_SSL|EPROTO|SIGNATURE/, 'no trusted connection to Vault can be made'],
]
