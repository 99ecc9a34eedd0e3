import { constants } from 'node:crypto'
import { createServer as createPlainServer, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TlsOptions as NodeTlsOptions, type SecureVersion, Server as TlsServer } from 'node:tls'
import { CONNECTIONS, endWithReplies, isLoopback } from '#engine'
import { type AnswerPorts, answerBrokenRequests, answerRequests } from './answering.ts'
import { BODY_BYTES } from './body.ts'
import { type Connections, keepConnections } from './connections.ts'
import { acceptVaultVerbs } from './verbs.ts'

export type Limits = { readonly [name in keyof typeof DEFAULTS]: number }
const DEFAULTS = {
  /** bytes of the request line and headers together */
  headBytes: 32 * 1024,
  /** bytes of the body of a request for a path of our own; what goes on to Vault has Vault's limit */
  bodyBytes: BODY_BYTES,
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

export type FrontDoorOptions = AnswerPorts & {
  /** without TLS only on the loopback */
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls?: TlsOptions
  readonly limits?: Partial<Limits>
}

export type FrontDoor = {
  readonly url: string
  readonly address: AddressInfo
  /** From now on connections end with the reply that is due next, and clients come back on new ones, or elsewhere. */
  readonly leave: () => void
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
  let shown = options.tls
  acceptVaultVerbs(server)
  const connections = keepConnections(server, limits)
  answerRequests(server, connections, options, limits)
  answerBrokenRequests(server, connections)
  await listen(server, options.listen)
  const address = server.address() as AddressInfo
  return {
    address,
    url: urlOf(address, options.tls !== undefined),
    leave: () => endWithReplies(server),
    close: (withinMs = 10_000) => close(server, connections, withinMs),
    reloadTls: tls => {
      if (!(server instanceof TlsServer)) throw new Error('there is no TLS to reload: the front door listens without it')
      // the signal that rotates logs comes every day: nobody is cut off for that
      if (isSame(tls, shown)) return
      shown = tls
      server.setSecureContext(secured(tls))
      connections.retire()
    },
  }
}

function isSame(one: TlsOptions, other: TlsOptions | undefined): boolean {
  return (['cert', 'key', 'clientCa', 'minVersion'] as const).every(name => one[name] === other?.[name])
}

function guard({ listen, tls }: FrontDoorOptions): void {
  if (!tls && !isLoopback(listen.host))
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
    optimizeEmptyRequests: true, // no stream for what is not there
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
