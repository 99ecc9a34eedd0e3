import { constants } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Holder } from '#engine'
import type { Places } from '../places.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import { type Held, holderOf, isInForce } from '../tls/holder.ts'
import type { Mint } from '../tls/mint.ts'
import { SIGNATURES } from '../tls/secure.ts'
import { readBody } from './body.ts'
import { type ExchangePorts, exchange, type UnderWay } from './exchange.ts'
import type { Question, Session, Swap } from './gate.ts'
import { hasBody, replyRefused, replyRefusedRaw } from './replies.ts'
import { Roster } from './roster.ts'
import { openTunnel } from './tunnel.ts'
import { openTurns } from './turns.ts'
import { openWebSocket } from './websocket.ts'

export type ServerPorts = Pick<ExchangePorts, 'services' | 'answered'> & {
  /** Whether a swap that is under way would still be let through to who holds its connection. */
  readonly still: (swap: Swap, held: Held) => Verdict<string>
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls: { readonly cert: string; readonly key: string; readonly clientCa: string | undefined }
  readonly limits: Limits
  readonly gate: (question: Question) => Verdict<Swap> | Promise<Verdict<Swap>>
  /** undefined when nothing is intercepted */
  readonly mint: Mint | undefined
  readonly places: Places
  readonly now: () => number
  readonly newId: () => string
  /** Records a refusal; `holder` when it is known who asked. */
  readonly refused: (code: RefusalCode, detail: string, txn: string, holder: Holder | undefined) => void
  /** A mistake of ours. */
  readonly broken: (error: unknown) => void
}

export type Limits = {
  /** bytes of the request line and headers together */
  readonly headBytes: number
  /** bytes of a body that has to be held */
  readonly heldBodyBytes: number
  readonly headWithinMs: number
  /** a client that owes us bytes, or does not take those that we have for it, may pause for so long */
  readonly stallMs: number
  readonly idleMs: number
  /** how often what is under way is looked at */
  readonly watchMs: number
  readonly connections: number
}

export type ProxyServer = {
  readonly url: string
  /** connections of agents that are open */
  readonly count: () => number
  readonly close: (withinMs: number) => Promise<void>
}

/** Listens with mutual TLS 1.3, for agents that prove to hold the key of their certificate in every handshake: nothing is resumed.
 *  @throws Error when it cannot listen there */
export async function openServer(ports: ServerPorts): Promise<ProxyServer> {
  const sessions = new WeakMap<Duplex, Session>()
  const sockets = new Set<Duplex>()
  const outer = createTlsServer({ ...httpOptions(ports.limits), ...tlsOptions(ports) })
  const inner = createServer(httpOptions(ports.limits))
  outer.maxConnections = ports.limits.connections
  outer.on('secureConnection', (socket: TLSSocket) => {
    const held = holderOf(socket)
    if (!ports.places.take(socket, held?.holder)) return full(ports, socket, held)
    if (held) sessions.set(socket, { ...held, pinned: undefined })
  })
  outer.on('connection', (socket: Socket) => {
    if (!ports.places.arrive(socket)) return void socket.destroy()
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const underWay = new Roster<UnderWay>()
  const watch = setInterval(() => endOverdue(underWay, ports.still), ports.limits.watchMs).unref()
  for (const server of [outer, inner]) answerRequests(server, ports, sessions, underWay)
  outer.on('connect', (incoming, socket, rest) => {
    if (isLeft(socket)) return
    const txn = ports.newId()
    quiet(socket as Socket)
    if (turns.current(socket)) return interrupt(ports, socket, txn)
    const session = sessionOf(sessions, incoming, ports)
    if (!session) return refuseRaw(ports, socket, 'NO_CERTIFICATE', txn)
    const refused = (code: RefusalCode, detail: string) => ports.refused(code, detail, txn, session.holder)
    const remember = (made: Duplex, of: Session) => void sessions.set(made, of)
    const tunnel = { services: ports.services, mint: ports.mint, inner, remember, refused }
    openTunnel(tunnel, incoming, socket, rest, session, txn).catch((error: unknown) => {
      ports.broken(error)
      socket.destroy()
    })
  })
  // a tunnel in a tunnel would hide where it leads
  inner.on('connect', (_, socket) => refuseRaw(ports, socket, 'DESTINATION_UNCLEAR', ports.newId()))
  await listen(outer, ports.listen)
  // Node counts the time of heads from this event on, and connections of tunnels are none of a port
  inner.emit('listening')
  const { address, family, port } = outer.address() as AddressInfo
  return {
    url: `https://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    count: () => sockets.size,
    close: withinMs => close(outer, inner, sockets, withinMs).finally(() => clearInterval(watch)),
  }
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
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  }
}

function tlsOptions({ tls }: ServerPorts) {
  return {
    cert: tls.cert,
    key: tls.key,
    minVersion: 'TLSv1.3' as const,
    sigalgs: SIGNATURES,
    ALPNProtocols: ['http/1.1'],
    requestCert: true,
    // without an authority every certificate is as good as its key: a token is sealed to the certificate itself (RFC 8705, 2.2)
    ...(tls.clientCa === undefined ? { rejectUnauthorized: false } : { ca: tls.clientCa, rejectUnauthorized: true }),
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: 10_000,
  }
}

const turns = openTurns()

function answerRequests(
  server: Server,
  ports: ServerPorts,
  sessions: WeakMap<Duplex, Session>,
  underWay: Roster<UnderWay>,
): void {
  server.maxHeadersCount = 0 // Node would drop what is more, unseen; readHead refuses
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { socket } = incoming
    if (isLeft(socket)) return
    const txn = ports.newId()
    outgoing.on('error', () => {})
    const refuse = (code: RefusalCode, detail: string) => {
      ports.refused(code, detail, txn, sessions.get(socket)?.holder)
      replyRefused(incoming, outgoing, code, txn)
    }
    const begin = () => {
      const session = sessionOf(sessions, incoming, ports)
      if (!session) return refuse('NO_CERTIFICATE', 'none, or not in force')
      const failed = (code: RefusalCode, detail: string) => ports.refused(code, detail, txn, session.holder)
      const go = (verdict: Verdict<Swap>) => {
        if (!verdict.ok) refuse(verdict.code, verdict.detail)
        else if (!outgoing.destroyed)
          exchange({ ...ports, underWay, held: session, failed }, verdict.value, incoming, outgoing, txn)
      }
      const body = () => readBody(incoming, ports.limits.heldBodyBytes, () => outgoing.writeContinue())
      attempt(ports, { head: headOf(incoming), session, txn, upgrade: false, body }, go, () => outgoing.destroy())
    }
    if (!turns.take(socket, outgoing, begin)) refuse('CONNECTIONS', 'too many requests ahead of their answers')
  }
  server.on('request', answer)
  server.on('checkContinue', answer)
  server.on('checkExpectation', (incoming, outgoing) => {
    const txn = ports.newId()
    ports.refused('REQUEST_FORM', 'another expectation than 100-continue', txn, sessions.get(incoming.socket)?.holder)
    replyRefused(incoming, outgoing, 'REQUEST_FORM', txn)
  })
  server.on('upgrade', (incoming, socket, rest) => {
    if (isLeft(socket)) return
    const txn = ports.newId()
    quiet(socket as Socket)
    if (turns.current(socket)) return interrupt(ports, socket, txn)
    const session = sessionOf(sessions, incoming, ports)
    if (!session) return refuseRaw(ports, socket, 'NO_CERTIFICATE', txn)
    const failed = (code: RefusalCode, detail: string) => ports.refused(code, detail, txn, session.holder)
    const go = (verdict: Verdict<Swap>) => {
      if (verdict.ok) return openWebSocket({ ...ports, underWay, held: session, failed }, verdict.value, socket, rest, txn)
      failed(verdict.code, verdict.detail)
      replyRefusedRaw(socket, verdict.code, txn)
    }
    const body: Question['body'] = async () => ({ ok: true, value: Buffer.alloc(0) })
    attempt(ports, { head: headOf(incoming), session, txn, upgrade: true, body }, go, () => socket.destroy())
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => answerBroken(ports, error, socket as Socket))
  server.setTimeout(ports.limits.stallMs, endStalled)
}

/** Whose certificate is in force now. */
function sessionOf(sessions: WeakMap<Duplex, Session>, { socket }: IncomingMessage, { now }: ServerPorts): Session | undefined {
  const session = sessions.get(socket)
  return session && isInForce(session, now()) ? session : undefined
}

/** A connection that is no longer in the hands of the HTTP server, whose deadlines are not for it. */
function quiet(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.setTimeout(0)
  socket.setKeepAlive(true, 60_000)
}

/** What is no HTTP any more cannot begin before the answer to what came first has ended. */
function interrupt(ports: ServerPorts, socket: Duplex, txn: string): void {
  ports.refused('REQUEST_FORM', 'another protocol ahead of an answer', txn, undefined)
  socket.destroy()
}

function attempt(
  { gate, broken }: ServerPorts,
  question: Question,
  go: (verdict: Verdict<Swap>) => void,
  drop: () => void,
): void {
  const failed = (error: unknown) => {
    broken(error)
    drop()
  }
  try {
    const verdict = gate(question)
    if (verdict instanceof Promise) verdict.then(go).catch(failed)
    else go(verdict)
  } catch (error) {
    failed(error)
  }
}

function headOf({ method = '', url = '', httpVersion, rawHeaders }: IncomingMessage) {
  return { method, target: url, httpVersion, rawHeaders }
}

function refuseRaw(ports: ServerPorts, socket: Duplex, code: RefusalCode, txn: string): void {
  ports.refused(code, '', txn, undefined)
  replyRefusedRaw(socket, code, txn)
}

/** One connection of an agent too many: it hears so, whatever it was about to ask. */
function full(ports: ServerPorts, socket: TLSSocket, held: Held | undefined): void {
  const txn = ports.newId()
  quiet(socket)
  ports.refused('CONNECTIONS', 'as many as one agent may have', txn, held?.holder)
  replyRefusedRaw(socket, 'CONNECTIONS', txn)
}

/** It was told the last: what it asks all the same is not heard. */
const isLeft = (socket: Duplex) => socket.writableEnded

/** What the parser refuses, and what took too long. */
function answerBroken(ports: ServerPorts, error: NodeJS.ErrnoException, socket: Socket): void {
  const code = codeOf(error.code ?? '')
  if (!code || !socket.writable || turns.current(socket)?.headersSent) {
    socket.destroy()
    return
  }
  refuseRaw(ports, socket, code, ports.newId())
}

function codeOf(code: string): RefusalCode | undefined {
  if (code === 'HPE_HEADER_OVERFLOW') return 'HEAD_TOO_LARGE'
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_SLOW'
  return code.startsWith('HPE_') ? 'REQUEST_FORM' : undefined
}

/** Nothing moved. It is the client's fault when it owes us a body that we want, or does not take what we have for it; the upstream server has its own
 *  deadlines. */
function endStalled(socket: Socket): void {
  const reply = turns.current(socket)
  const owes = reply && hasBody(reply.req) && !reply.req.complete && !reply.req.isPaused()
  if (!reply || owes || reply.writableLength > 0 || socket.writableLength > 0) socket.destroy()
}

function listen(server: TlsServer, { host, port }: ServerPorts['listen']): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
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
