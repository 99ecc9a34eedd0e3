import { constants } from 'node:crypto'
import { createServer, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { endWithReplies, openTurns } from '#engine'
import { listen, urlOf } from '../listen.ts'
import type { Places } from '../places.ts'
import type { Verdict } from '../refusals.ts'
import { type Held, holderOf } from '../tls/holder.ts'
import { type OwnTls, SIGNATURES } from '../tls/secure.ts'
import { type Answering, type AnswerLimits, type AnswerPorts, answerRequests, answerTunnels, quiet } from './answering.ts'
import type { UnderWay } from './exchange.ts'
import type { Swap } from './gate.ts'
import { replyRefusedRaw } from './replies.ts'
import { Roster } from './roster.ts'
import { Sessions } from './sessions.ts'

export type ServerPorts = AnswerPorts & {
  /** Whether a swap that is under way would still be let through to who holds its connection. */
  readonly still: (swap: Swap, held: Held) => Verdict<string>
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls: OwnTls
  readonly limits: Limits
  readonly places: Places
}

export type Limits = AnswerLimits & {
  /** bytes of the request line and headers together */
  readonly headBytes: number
  readonly headWithinMs: number
  readonly idleMs: number
  /** how often what is under way is looked at */
  readonly watchMs: number
  readonly connections: number
}

export type ProxyServer = {
  readonly url: string
  /** connections of agents that are open */
  readonly count: () => number
  /** From now on new connections see this; the old ones end, so that nobody is let in by what is no longer trusted. */
  readonly renew: (tls: OwnTls) => void
  /** From now on connections end with the answer that is due next, and agents come back on new ones, or elsewhere. */
  readonly leave: () => void
  readonly close: (withinMs: number) => Promise<void>
}

/** Listens with mutual TLS 1.3, for agents that prove to hold the key of their certificate in every handshake: nothing is resumed.
 *  @throws Error when it cannot listen there */
export async function openServer(ports: ServerPorts): Promise<ProxyServer> {
  const { limits } = ports
  const sessions = new Sessions()
  const underWay = new Roster<UnderWay>()
  const turns = openTurns<ServerResponse>()
  const answering: Answering = { ports, sessions, underWay, turns }
  const outer = createTlsServer({ ...httpOptions(limits), ...tlsOptions(ports) })
  const inner = createServer(httpOptions(limits))
  const sockets = letIn(outer, ports, sessions)
  for (const server of [outer, inner]) answerRequests(server, answering)
  answerTunnels(outer, inner, answering)
  await listen(outer, ports.listen)
  // Node counts the time of heads from this event on, and connections of tunnels are none of a port
  inner.emit('listening')
  const watch = setInterval(() => endOverdue(underWay, ports.still), limits.watchMs).unref()
  return {
    url: urlOf('https', outer),
    count: () => sockets.size,
    renew: tls => {
      outer.setSecureContext(contextOf(tls))
      sessions.retire(turns.current)
    },
    leave: () => {
      for (const server of [outer, inner]) endWithReplies(server)
    },
    close: withinMs => close(outer, inner, sockets, withinMs).finally(() => clearInterval(watch)),
  }
}

/** Connections get a place each, one before they show a certificate and one after. @returns those that are open */
function letIn(server: TlsServer, ports: ServerPorts, sessions: Sessions): ReadonlySet<Duplex> {
  const sockets = new Set<Duplex>()
  server.maxConnections = ports.limits.connections
  server.on('connection', (socket: Socket) => {
    if (!ports.places.arrive(socket)) return void socket.destroy()
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('secureConnection', (socket: TLSSocket) => {
    const held = holderOf(socket)
    if (!ports.places.take(socket, held?.holder)) return full(ports, socket, held)
    if (held) sessions.add(socket, { ...held, pinned: undefined })
  })
  return sockets
}

/** One connection of an agent too many: it hears so, whatever it was about to ask. */
function full(ports: ServerPorts, socket: TLSSocket, held: Held | undefined): void {
  const txn = ports.newId()
  quiet(socket)
  ports.refused('CONNECTIONS', 'as many as one agent may have', txn, held?.holder)
  replyRefusedRaw(socket, 'CONNECTIONS', txn)
}

/** What was let through goes on for as long as it would be let through: an answer that lasts does not outlive its token, nor what revokes that, nor the
 *  certificate of its connection. */
function endOverdue(underWay: Roster<UnderWay>, still: ServerPorts['still']): void {
  for (const one of underWay.all()) {
    const found = still(one.swap, one.held)
    if (!found.ok) one.end(found.code)
  }
}

function httpOptions(limits: Limits): ServerOptions {
  return {
    maxHeaderSize: limits.headBytes,
    headersTimeout: limits.headWithinMs,
    requestTimeout: 0, // by stallMs: an upload may last
    connectionsCheckingInterval: Math.min(1000, limits.headWithinMs),
    keepAliveTimeout: limits.idleMs,
    insecureHTTPParser: false,
    requireHostHeader: false, // refused with the rest
    optimizeEmptyRequests: true, // no stream for what is not there
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  }
}

function tlsOptions({ tls }: ServerPorts) {
  return {
    ...contextOf(tls),
    ALPNProtocols: ['http/1.1'],
    requestCert: true,
    // without an authority every certificate is as good as its key: a token is sealed to the certificate itself (RFC 8705, 2.2)
    rejectUnauthorized: tls.clientCa !== undefined,
    handshakeTimeout: 10_000,
  }
}

function contextOf({ cert, key, clientCa }: OwnTls) {
  const ca = clientCa === undefined ? {} : { ca: clientCa }
  return { cert, key, ...ca, minVersion: 'TLSv1.3' as const, sigalgs: SIGNATURES, secureOptions: constants.SSL_OP_NO_TICKET }
}

/** Takes no more requests, finishes those in flight, and after `withinMs` cuts off what is left. */
async function close(outer: TlsServer, inner: Server, sockets: ReadonlySet<Duplex>, withinMs: number): Promise<void> {
  const closed = new Promise(resolve => outer.close(resolve))
  outer.closeIdleConnections()
  inner.close()
  const cut = setTimeout(() => {
    for (const socket of sockets) socket.destroy()
  }, withinMs)
  await closed
  clearTimeout(cut)
}
