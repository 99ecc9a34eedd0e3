import { constants } from 'node:crypto'
import {
  createServer as createPlainServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { type TlsOptions as NodeTlsOptions, type SecureVersion, Server as TlsServer } from 'node:tls'
import { getRequestListener } from '@hono/node-server'
import { CONNECTIONS } from '#engine'
import { belongsToVault, type CanonicalPath, canonicalise } from '../path.ts'
import { openRoom, othersTurn, readBody } from './body.ts'
import { openClientAddresses } from './client_address.ts'
import { type Connections, closeAfter, keepConnections } from './connections.ts'
import { faultInHead, isRootNamespace } from './headers.ts'
import { type Passed, passThrough } from './pass_through.ts'
import { errorBody, replyError, replyErrorRaw } from './replies.ts'
import { remember } from './request_facts.ts'
import type { Upstream } from './upstream.ts'
import { acceptVaultVerbs } from './verbs.ts'

export type Limits = { readonly [name in keyof typeof DEFAULTS]: number }
const DEFAULTS = {
  /** bytes of the request line and headers together */
  headBytes: 32 * 1024,
  /** bytes of the body of a request for a path of our own; what goes on to Vault has Vault's limit */
  bodyBytes: 2 ** 20,
  /** bytes of bodies above that, where a path has them, that are held at the same time */
  largeBytes: 2 ** 27,
  /** from the first byte of a request to the end of its headers */
  headWithinMs: 10_000,
  /** from there to the end of its body, for a path of our own; what goes on to Vault has Vault's limit (`http_read_timeout`, 30 s) */
  bodyWithinMs: 30_000,
  handshakeWithinMs: 10_000,
  /** a client that owes us bytes, or does not take those that we have for it, may pause for so long */
  stallMs: 30_000,
  /** a connection without a request is kept for so long */
  idleMs: 65_000,
  connections: CONNECTIONS.all,
  connectionsPerPeer: CONNECTIONS.perPeer,
}

export type TlsOptions = {
  /** PEM, leaf first */
  readonly cert: string | Buffer
  readonly key: string | Buffer
  /** PEM; connections without a certificate that it issued are refused */
  readonly clientCa?: string | Buffer
  /** TLS 1.3 unless said otherwise */
  readonly minVersion?: Extract<SecureVersion, 'TLSv1.2' | 'TLSv1.3'>
}

export type FrontDoorOptions = {
  readonly upstream: Upstream
  /** without TLS only on the loopback */
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls?: TlsOptions
  /** addresses and networks of proxies whose `X-Forwarded-For` is believed; none when absent */
  readonly trustedProxies?: readonly string[]
  /** which requests are ours; asked only about the root namespace */
  readonly owns: (method: string, path: CanonicalPath, headers: IncomingHttpHeaders) => boolean
  /** how large the body may be of a request that is ours, when it says how large it is; undefined is as large as any */
  readonly bodyBytes?: (path: CanonicalPath) => number | undefined
  /** answers them: Hono's `fetch`. The body has arrived and is bounded; the URL is the canonical one */
  readonly own: (request: Request, env: Bindings) => Response | Promise<Response>
  readonly limits?: Partial<Limits>
  readonly log?: { readonly error: (fields: object, message: string) => void }
  readonly onPassThrough?: (passed: Passed) => void
}

/** What @hono/node-server puts into `c.env`. */
export type Bindings = { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse }

export type FrontDoor = {
  readonly url: string
  readonly address: AddressInfo
  /** Takes no more requests, finishes those in flight, and after `withinMs` cuts off what is left. */
  readonly close: (withinMs?: number) => Promise<void>
  /** From now on new connections see this; the old ones end, so that no request is let in by what is no longer trusted. */
  readonly reloadTls: (tls: TlsOptions) => void
}

/** Listens, and hands every request either to `own` or, untouched, to Vault. Throws when it would have to listen without protection. */
export async function openFrontDoor(options: FrontDoorOptions): Promise<FrontDoor> {
  guard(options)
  const limits = { ...DEFAULTS, ...options.limits }
  const server = createServer(options.tls, limits)
  acceptVaultVerbs(server)
  const connections = keepConnections(server, limits)
  answerRequests(server, connections, options, limits)
  answerBrokenRequests(server, connections)
  await listen(server, options.listen)
  const address = server.address() as AddressInfo
  return {
    address,
    url: urlOf(address, options.tls !== undefined),
    close: (withinMs = 10_000) => close(server, connections, withinMs),
    reloadTls: tls => {
      if (!(server instanceof TlsServer)) throw new Error('there is no TLS to reload: the front door listens without it')
      server.setSecureContext(secured(tls))
      connections.retire()
    },
  }
}

function guard({ listen, tls }: FrontDoorOptions): void {
  if (!tls && !/^(?:127\.[\d.]+|::1|localhost)$/.test(listen.host))
    throw new Error(`without TLS the front door listens on the loopback only, not on ${listen.host}`)
}

function createServer(tls: TlsOptions | undefined, limits: Limits): Server {
  const options = {
    maxHeaderSize: limits.headBytes,
    headersTimeout: limits.headWithinMs,
    requestTimeout: 0, // by bodyWithinMs and stallMs: an upload to Vault may last longer than a request of ours
    connectionsCheckingInterval: Math.min(1000, limits.headWithinMs),
    keepAliveTimeout: limits.idleMs,
    insecureHTTPParser: false,
    requireHostHeader: false, // refused with the rest, in Vault's shape
  }
  const server = tls
    ? createTlsServer({ ...options, ...secured(tls), handshakeTimeout: limits.handshakeWithinMs })
    : createPlainServer(options)
  server.maxHeadersCount = 0 // Node would drop what is more, unseen; `faultInHead` refuses
  return server
}

/** No tickets where clients have certificates: a resumed session would outlive its certificate. */
function secured({ cert, key, clientCa, minVersion = 'TLSv1.3' }: TlsOptions): NodeTlsOptions {
  const base = { cert, key, minVersion }
  if (clientCa === undefined) return base
  return { ...base, ca: clientCa, requestCert: true, rejectUnauthorized: true, secureOptions: constants.SSL_OP_NO_TICKET }
}

function answerRequests(server: Server, connections: Connections, options: FrontDoorOptions, limits: Limits): void {
  const room = openRoom(limits.largeBytes)
  const addressOf = openClientAddresses(options.trustedProxies ?? [])
  const own = getRequestListener((request, env) => options.own(request, env as Bindings), {
    errorHandler: failed(options.log),
    hostname: 'localhost', // stands in for a Host that is empty, or absent from HTTP/1.0; nothing is read off it
  })

  function answer(incoming: IncomingMessage, outgoing: ServerResponse): void {
    connections.began(incoming, outgoing)
    try {
      route(incoming, outgoing)
    } catch (error) {
      options.log?.error({ error: nameOf(error) }, 'the front door could not route a request')
      replyError(outgoing, 500, 'internal error')
    }
  }

  function route(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { url = '', method = '', headers } = incoming
    const fault = faultInHead(incoming)
    const read = canonicalise(url)
    const client = addressOf(incoming)
    if (fault) replyError(outgoing, fault.status, fault.message)
    else if (!read.ok) replyError(outgoing, read.status, read.message)
    else if (!client.ok) replyError(outgoing, client.status, client.message)
    else if (isRootNamespace(headers) && options.owns(method, read.path, headers))
      void answerOwn(incoming, outgoing, { path: read.path, from: client.address })
    else if (belongsToVault(read.path))
      passThrough(options.upstream, incoming, outgoing, { path: read.path, from: client.address }, options.onPassThrough)
    else replyError(outgoing, 404, '')
  }

  async function answerOwn(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    { path, from }: { readonly path: CanonicalPath; readonly from: string },
  ): Promise<void> {
    const large = largeOf(incoming, path)
    if (large > 0 && !room.take(large))
      return replyError(outgoing, 503, 'too many large requests are being answered: try again in some seconds')
    try {
      const bounds = { bytes: Math.max(large, limits.bodyBytes), withinMs: limits.bodyWithinMs }
      const body = await readBody(incoming, bounds, () => outgoing.writeContinue())
      if (!body.ok) return replyError(outgoing, body.status, body.message)
      remember(incoming, path, from, body.bytes)
      if (large > 0) await othersTurn()
      await own(incoming, outgoing)
    } finally {
      room.give(large)
    }
  }

  /** What a body says that it has, where that is more than others may have, and the path has more. */
  function largeOf({ headers }: IncomingMessage, path: CanonicalPath): number {
    const declared = Number(headers['content-length'] ?? 0)
    return declared > limits.bodyBytes && declared <= (options.bodyBytes?.(path) ?? 0) ? declared : 0
  }

  server.on('request', answer)
  server.on('checkContinue', answer)
  server.on('checkExpectation', (incoming, outgoing) => {
    connections.began(incoming, outgoing)
    replyError(outgoing, 417, 'the only expectation that is met is 100-continue')
  })
  server.on('connect', (_, socket: Socket) => replyErrorRaw(socket, 405, 'this is no tunnel'))
}

/** The last resort: what `own` lets through is a mistake of ours, and its message may hold anything. */
function failed(log: FrontDoorOptions['log']): (error: unknown) => Response {
  return error => {
    log?.error({ error: nameOf(error) }, 'a request failed unexpectedly')
    const [status, message] =
      nameOf(error) === 'RequestError' ? [400, 'the Host header is not well-formed'] : [500, 'internal error']
    return new Response(errorBody(message), {
      status,
      headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' },
    })
  }
}

/** What the parser refuses, and what took too long, by the code of the error. */
const BROKEN: readonly (readonly [RegExp, number, string])[] = [
  [/^HPE_HEADER_OVERFLOW$/, 431, 'the head of the request is too large'],
  [/^HPE_CHUNK_EXTENSIONS_OVERFLOW$/, 413, 'the chunk extensions of the request are too large'],
  [/^ERR_HTTP_REQUEST_TIMEOUT$/, 408, 'the request did not arrive in time'],
  [/^HPE_/, 400, 'the request is not well-formed HTTP/1.1'],
]

function answerBrokenRequests(server: Server, connections: Connections): void {
  const broken = new WeakSet<Socket>()
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const socket = stream as Socket
    if (broken.has(socket)) return // more of the same bytes
    broken.add(socket)
    const [, status, message] = BROKEN.find(([code]) => code.test(error.code ?? '')) ?? []
    const due = connections.due(socket)
    if (status === undefined || message === undefined || !socket.writable) socket.destroy()
    else if (!due) replyErrorRaw(socket, status, message)
    else if (due.req.complete) closeAfter(due)
    else replyError(due, status, message)
  })
}

function listen(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
}

async function close(server: Server, connections: Connections, withinMs: number): Promise<void> {
  const closed = new Promise(resolve => server.close(resolve))
  connections.retire()
  const cut = setTimeout(connections.destroy, withinMs)
  await closed
  clearTimeout(cut)
}

function urlOf({ address, family, port }: AddressInfo, tls: boolean): string {
  return `${tls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error
}
