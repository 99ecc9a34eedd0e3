import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Holder, Turns } from '#engine'
import type { RefusalCode, Verdict } from '../refusals.ts'
import { isInForce } from '../tls/holder.ts'
import type { Mint } from '../tls/mint.ts'
import { readBody } from './body.ts'
import { type ExchangePorts, exchange, type UnderWay } from './exchange.ts'
import type { Question, Session, Swap } from './gate.ts'
import { hasBody, replyRefused, replyRefusedRaw } from './replies.ts'
import type { Roster } from './roster.ts'
import type { Sessions } from './sessions.ts'
import { openTunnel } from './tunnel.ts'
import { openWebSocket } from './websocket.ts'

export type AnswerPorts = Pick<ExchangePorts, 'services' | 'answered'> & {
  readonly limits: AnswerLimits
  readonly gate: (question: Question) => Verdict<Swap> | Promise<Verdict<Swap>>
  /** undefined when nothing is intercepted */
  readonly mint: Mint | undefined
  readonly now: () => number
  readonly newId: () => string
  /** Records a refusal; `holder` when it is known who asked. */
  readonly refused: (code: RefusalCode, detail: string, txn: string, holder: Holder | undefined) => void
  /** A mistake of ours. */
  readonly broken: (error: unknown) => void
}

export type AnswerLimits = {
  /** bytes of a body that has to be held */
  readonly heldBodyBytes: number
  /** a client that owes us bytes, or does not take those that we have for it, may pause for so long */
  readonly stallMs: number
}

/** What the server of the port has in common with the one that reads what is in tunnels. */
export type Answering = {
  readonly ports: AnswerPorts
  /** who is on a connection, and on one that stands in a tunnel */
  readonly sessions: Sessions
  readonly underWay: Roster<UnderWay>
  readonly turns: Turns<ServerResponse>
}

/** Answers requests, upgrades, and what never became one of them. */
export function answerRequests(server: Server, answering: Answering): void {
  const { ports, sessions, turns } = answering
  server.maxHeadersCount = 0 // Node would drop what is more, unseen; readHead refuses
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse) => answerRequest(answering, incoming, outgoing)
  server.on('request', answer)
  server.on('checkContinue', answer)
  server.on('checkExpectation', (incoming, outgoing) => {
    const txn = ports.newId()
    ports.refused('REQUEST_FORM', 'another expectation than 100-continue', txn, sessions.get(incoming.socket)?.holder)
    replyRefused(incoming, outgoing, 'REQUEST_FORM', txn)
  })
  server.on('upgrade', (incoming, socket, rest) => answerUpgrade(answering, incoming, socket, rest))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => answerBroken(answering, error, socket as Socket))
  server.setTimeout(ports.limits.stallMs, socket => endStalled(socket, turns.current(socket)))
}

/** Answers CONNECT at the port; `inner` reads what is in the tunnels, and opens none itself: a tunnel in a tunnel would hide where it leads. */
export function answerTunnels(outer: Server, inner: Server, answering: Answering): void {
  const { ports, sessions } = answering
  const remember = (made: Duplex, session: Session) => sessions.add(made, session)
  outer.on('connect', (incoming, socket, rest) => {
    const left = leaveHttp(answering, incoming, socket)
    if (!left) return
    const { txn, session } = left
    const refused = (code: RefusalCode, detail: string) => ports.refused(code, detail, txn, session.holder)
    const tunnel = { services: ports.services, mint: ports.mint, inner, remember, refused }
    openTunnel(tunnel, incoming, socket, rest, session, txn).catch((error: unknown) => {
      ports.broken(error)
      socket.destroy()
    })
  })
  inner.on('connect', (_, socket) => refuseRaw(ports, socket, 'DESTINATION_UNCLEAR', ports.newId()))
}

function answerRequest(answering: Answering, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { ports, sessions, underWay, turns } = answering
  const { socket } = incoming
  if (isLeft(socket)) return
  const txn = ports.newId()
  outgoing.on('error', () => {})
  const refuse = (code: RefusalCode, detail: string) => {
    ports.refused(code, detail, txn, sessions.get(socket)?.holder)
    replyRefused(incoming, outgoing, code, txn)
  }
  const begin = () => {
    const session = sessionOf(answering, socket)
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

function answerUpgrade(answering: Answering, incoming: IncomingMessage, socket: Duplex, rest: Buffer): void {
  const left = leaveHttp(answering, incoming, socket)
  if (!left) return
  const { txn, session } = left
  const { ports, underWay } = answering
  const failed = (code: RefusalCode, detail: string) => ports.refused(code, detail, txn, session.holder)
  const go = (verdict: Verdict<Swap>) => {
    if (verdict.ok) return openWebSocket({ ...ports, underWay, held: session, failed }, verdict.value, socket, rest, txn)
    failed(verdict.code, verdict.detail)
    replyRefusedRaw(socket, verdict.code, txn)
  }
  const body: Question['body'] = async () => ({ ok: true, value: Buffer.alloc(0) })
  attempt(ports, { head: headOf(incoming), session, txn, upgrade: true, body }, go, () => socket.destroy())
}

/** Takes a connection out of the hands of the HTTP server. Undefined when nobody is on it who may ask: then it has been ended. */
function leaveHttp(answering: Answering, { socket: from }: IncomingMessage, socket: Duplex) {
  const { ports, sessions, turns } = answering
  if (isLeft(socket)) return undefined
  const txn = ports.newId()
  quiet(socket as Socket)
  sessions.letGo(socket)
  if (turns.current(socket)) {
    // what is no HTTP any more cannot begin before the answer to what came first has ended
    ports.refused('REQUEST_FORM', 'another protocol ahead of an answer', txn, undefined)
    socket.destroy()
    return undefined
  }
  const session = sessionOf(answering, from)
  if (!session) refuseRaw(ports, socket, 'NO_CERTIFICATE', txn)
  return session && { txn, session }
}

/** Whose certificate is in force now. */
function sessionOf({ sessions, ports }: Answering, socket: Duplex): Session | undefined {
  const session = sessions.get(socket)
  return session && isInForce(session, ports.now()) ? session : undefined
}

/** No deadline of the HTTP server is for this connection any more. */
export function quiet(socket: Socket): void {
  socket.on('error', () => socket.destroy())
  socket.setTimeout(0)
  socket.setKeepAlive(true, 60_000)
}

function attempt(
  { gate, broken }: AnswerPorts,
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

function refuseRaw(ports: AnswerPorts, socket: Duplex, code: RefusalCode, txn: string): void {
  ports.refused(code, '', txn, undefined)
  replyRefusedRaw(socket, code, txn)
}

/** It was told the last: what it asks all the same is not heard. */
const isLeft = (socket: Duplex) => socket.writableEnded

/** What the parser refuses, and what took too long. */
function answerBroken({ ports, turns }: Answering, error: NodeJS.ErrnoException, socket: Socket): void {
  const code = codeOf(error.code ?? '')
  if (!code || !socket.writable || turns.current(socket)?.headersSent) socket.destroy()
  else refuseRaw(ports, socket, code, ports.newId())
}

function codeOf(code: string): RefusalCode | undefined {
  if (code === 'HPE_HEADER_OVERFLOW') return 'HEAD_TOO_LARGE'
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_SLOW'
  return code.startsWith('HPE_') ? 'REQUEST_FORM' : undefined
}

/** Nothing moved. It is the client's fault when it owes us a body that we want, or does not take what we have for it; the upstream server has its own
 *  deadlines. */
function endStalled(socket: Socket, reply: ServerResponse | undefined): void {
  const owes = reply && hasBody(reply.req) && !reply.req.complete && !reply.req.isPaused()
  if (!reply || owes || reply.writableLength > 0 || socket.writableLength > 0) socket.destroy()
}
