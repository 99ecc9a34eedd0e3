import type { Readable } from 'node:stream'
import { type Dispatcher, Pool } from 'undici'
import { CONNECTIONS, isOutOfService, openWays } from '#engine'
import { type RawHeaders, toVault } from './headers.ts'

export type UpstreamOptions = {
  /** `http://host:port` or `https://host:port`, without a path */
  readonly url: string
  /** PEM of the authorities that may have issued Vault's certificate; Node's own list when absent */
  readonly ca?: string | Buffer | undefined
  /** until a connection stands, waiting for a free one included */
  readonly connectWithinMs?: number
  /** from the last byte of the request to the first of the reply */
  readonly answerWithinMs: number
  /** Connections to Vault at the same time, endless streams not counted. A client's connection takes one at most, and may take it for long, with a slow body
   *  and without a token: where they were fewer than clients may have, a few clients would keep all others from Vault. */
  readonly connections?: number
  /** names of headers that Vault's listener believes and clients may therefore not send, such as its `x_forwarded_for_client_cert_header` */
  readonly strip?: readonly string[]
}

/** Where Vault is, and the connections to it. */
export type Upstream = {
  readonly origin: string
  /** Sends a request. What becomes of it is told to `heard`. */
  readonly ask: (request: Ask, heard: Heard) => Asked
  /** What is asked next goes out over new connections: somebody else found that what is there at the address is out of service. */
  readonly renew: () => void
  /** Ends every connection, also those in use. */
  readonly close: () => void
}

export type Ask = {
  readonly method: string
  /** path and query, as `canonicalise` gives them */
  readonly target: string
  /** the client's headers, as they came */
  readonly headers: RawHeaders
  /** the address that it came from */
  readonly from: string
  /** how many bytes the body has, when that is known */
  readonly length: number | 'chunked'
  /** undefined when there is none */
  readonly body: Readable | Buffer | undefined
}

/** In this order: `head` once, `data` as often as there is some, `end` once; or, in place of what has not come yet, `failed` once. */
export type Heard = {
  readonly head: (reply: ReplyHead) => void
  /** False holds the reply up until its `resume` is called. */
  readonly data: (chunk: Buffer) => boolean
  readonly end: (trailers: RawHeaders) => void
  readonly failed: (error: Error) => void
}

export type ReplyHead = {
  readonly status: number
  readonly reason: string
  readonly headers: RawHeaders
  readonly resume: () => void
}

export type Asked = {
  /** Ends the exchange and its connection; nothing more is heard of it. */
  readonly abort: () => void
  /** The body moves, which buys time. */
  readonly progress: () => void
}

const DEFAULTS = { connectWithinMs: 2000, connections: CONNECTIONS.all } as const

/** Vault closes what was idle for five minutes; we let go first, so that it does not close what we are about to use. */
const IDLE_MS = 60_000
const REPLY_HEADER_BYTES = 64 * 1024

/** Opens nothing yet; connections are made as they are needed and kept.
 *
 *  Nothing is ever sent twice: a GET can issue a credential at Vault, so even a kept connection that dies under a request ends in an
 *  error, and who asked decides whether to ask again. */
export function openUpstream(options: UpstreamOptions): Upstream {
  const { url, connectWithinMs, answerWithinMs, connections, strip = [] } = { ...DEFAULTS, ...options }
  const { host, origin } = originOf(url)
  const ca = options.ca === undefined ? {} : { ca: options.ca }
  const common = {
    // said aloud, because the environment could switch it off otherwise
    connect: { rejectUnauthorized: true, timeout: connectWithinMs, ...ca },
    pipelining: 1,
    allowH2: false,
    // the two deadlines are ours: see `exchange`
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: REPLY_HEADER_BYTES,
    keepAliveTimeout: IDLE_MS,
    keepAliveMaxTimeout: IDLE_MS,
  }
  const ways = openWays(lookup => new Pool(origin, { ...common, connect: { ...common.connect, lookup }, connections }))
  const streams = new Pool(origin, { ...common, connections: null })
  const stripped = new Set(strip.map(name => name.toLowerCase().replaceAll('_', '-')))

  function ask({ method, target, headers, from, length, body }: Ask, heard: Heard): Asked {
    const endless = isEndless(target)
    const sent = toVault(headers, host, from, stripped)
    if (typeof length === 'number' && length > 0) sent.push('Content-Length', String(length))
    const pool = ways.current()
    const { handler, asked } = exchange(
      doubting(heard, () => ways.doubt(pool)),
      connectWithinMs,
      endless ? Infinity : answerWithinMs,
    )
    const request = {
      method: method as 'GET',
      path: target,
      headers: sent,
      body: body ?? null,
      ...(endless ? { reset: true } : {}),
    }
    ;(endless ? streams : pool).dispatch(request, handler)
    return asked
  }
  const close = () => {
    ways.destroy()
    void streams.destroy()
  }
  return { origin, ask, renew: () => ways.doubt(), close }
}

/** Who answers so, or not at all, may stand where nothing is served any more. */
function doubting(heard: Heard, doubt: () => void): Heard {
  return {
    ...heard,
    head: reply => {
      if (isOutOfService(reply.status)) doubt()
      heard.head(reply)
    },
    failed: error => {
      doubt()
      heard.failed(error)
    },
  }
}

function originOf(address: string): URL {
  const url = URL.parse(address)
  const plain = url !== null && url.pathname === '/' && !url.search && !url.hash && !url.username && !url.password
  if (!plain || !['http:', 'https:'].includes(url.protocol))
    throw new Error('the address of Vault must be http://host:port or https://host:port')
  return url
}

/** Replies that last as long as somebody listens. Vault itself sets no limit on these two. */
function isEndless(target: string): boolean {
  return /^\/v1\/sys\/(?:monitor(?:$|\?)|events\/subscribe)/.test(target)
}

/** Why there is no reply, in words that may go to the client. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
}

/** One request on its way through undici: what it hears goes on to `heard`, and ends with an UpstreamError when there is no connection or
 *  no reply in time. */
function exchange(heard: Heard, connectWithinMs: number, answerWithinMs: number) {
  let over = false
  let cut: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined = setTimeout(late, connectWithinMs, 'accept a connection', connectWithinMs)

  function late(what: string, ms: number): void {
    fail(new UpstreamError(`Vault did not ${what} within ${ms / 1000} s`))
    cut?.()
  }
  function fail(error: Error): void {
    if (over) return
    stop()
    over = true
    heard.failed(error)
  }
  function stop(): void {
    clearTimeout(timer)
    timer = undefined
  }

  const handler: Dispatcher.DispatchHandler = {
    // called when a connection is there and the request is its next
    onRequestStart: controller => {
      cut = () => controller.abort(new Error('nobody listens any more'))
      if (over) return cut()
      stop()
      if (answerWithinMs !== Infinity) timer = setTimeout(late, answerWithinMs, 'answer', answerWithinMs)
    },
    onResponseStart: (controller, status, _, reason = '') => {
      // interim replies end here: no client asked for one that Vault sends
      if (over || status < 200) return
      stop()
      heard.head({ status, reason, headers: inLatin1(controller.rawHeaders), resume: () => controller.resume() })
    },
    onResponseData: (controller, chunk) => {
      if (over || !heard.data(chunk)) controller.pause()
    },
    onResponseEnd: ({ rawTrailers }) => {
      if (over) return
      over = true
      heard.end(inLatin1(rawTrailers))
    },
    onResponseError: (_, error) => fail(error),
  }
  const abort = () => {
    if (over) return
    over = true
    stop()
    cut?.()
  }
  return { handler, asked: { abort, progress: () => timer?.refresh() } }
}

/** Name, value, name, value, ... as they were on the wire: of HTTP/1 undici has the bytes. */
function inLatin1(raw: Dispatcher.DispatchController['rawHeaders']): readonly string[] {
  return Array.isArray(raw) ? raw.map(one => one.toString('latin1')) : []
}

/** What a client may know of why Vault did not answer. */
export function explain(error: Error): string {
  if (error instanceof UpstreamError) return error.message
  const what = `${error.name} ${'code' in error ? String(error.code) : ''}`
  return REASONS.find(([pattern]) => pattern.test(what))?.[1] ?? 'Vault cannot be reached'
}

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/ (?:ECONNRESET|ECONNABORTED|EPIPE|UND_ERR_SOCKET)$/, 'Vault closed the connection before it answered'],
  [/^HTTPParserError | UND_ERR_(?:HEADERS_OVERFLOW|RES)/, 'Vault sent something that is not HTTP'],
  [/ .*(?:CERT|ERR_TLS|ERR_SSL|EPROTO|SIGNATURE)/, 'no trusted connection to Vault can be made'],
]
