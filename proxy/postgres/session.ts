import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { leave } from '../leave.ts'
import { type RefusalCode, toldOf } from '../refusals.ts'
import { holderOf } from '../tls/holder.ts'
import { secure } from '../tls/secure.ts'
import { stillPermitted } from '../tokens.ts'
import { type Admitted, admit, firstOf } from './admission.ts'
import { authenticated, backendKey, cancelRequest, type First, fatal, parameterStatus, ready } from './messages.ts'
import type { SessionPorts } from './ports.ts'
import { type MessageReader, openReader } from './reader.ts'

/** How a query of a session is cancelled: who holds the key of the session may, as at the server itself. Of all services: a session goes on when they are taken
 *  over anew. */
const cancels = new Map<string, () => Promise<void>>()
const keyOf = ({ host, port }: SessionPorts['place'], processId: number, secretKey: number) =>
  `${host}:${port} ${processId} ${secretKey}`

/** A connection of an agent, until it ends. */
export async function beginSession(ports: SessionPorts, socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy())
  try {
    await serve(ports, socket)
  } catch (error) {
    ports.broken(error)
    socket.destroy()
  }
}

async function serve(ports: SessionPorts, socket: Socket): Promise<void> {
  const signal = AbortSignal.timeout(ports.startWithinMs)
  const txn = ports.newId()
  const first = await beginning(openReader(socket, signal), socket).catch(() => undefined)
  if (first?.kind === 'cancel') return cancel(ports, socket, first)
  // bytes that came before the handshake were not protected by it
  if (first?.kind !== 'ssl' || socket.readableLength > 0) {
    ports.refused('NO_CERTIFICATE', 'the connection does not begin with TLS', txn, undefined)
    return end(socket, 'NO_CERTIFICATE')
  }
  socket.write('S')
  const secured = await secure(ports.door, socket, signal)
  if (!secured) return void socket.destroy()
  const held = holderOf(secured)
  if (!ports.places.take(secured, held?.holder)) {
    ports.refused('CONNECTIONS', 'as many as one agent may have', txn, held?.holder)
    return end(secured, 'CONNECTIONS')
  }
  const reader = openReader(secured, signal)
  const wanted = await firstOf(reader).catch(() => undefined)
  // libpq asks for it over TLS since its version 17
  if (wanted?.kind === 'cancel') return cancel(ports, secured, wanted)
  const known = await admit(ports, held, wanted, reader, secured, txn)
  if (!known.ok) {
    ports.refused(known.code, known.detail, txn, held?.holder)
    return end(secured, known.code, known.detail)
  }
  await run(ports, secured, known.value, txn)
}

/** A client may ask for GSS encryption first, once, and hears that there is none. */
async function beginning(reader: MessageReader, socket: Socket): Promise<First | undefined> {
  const first = await firstOf(reader)
  if (first?.kind !== 'gss') return first
  socket.write('N')
  return firstOf(reader)
}

/** Bytes both ways until one side ends, or the token or the certificate does not count any more. */
async function run(ports: SessionPorts, agent: TLSSocket, { upstream, ...admitted }: Admitted, txn: string): Promise<void> {
  const { socket, parameters, processId, secretKey } = upstream
  // it may have left while the proxy logged in: nobody tells again
  if (agent.destroyed) return void socket.destroy()
  const key = keyOf(ports.place, processId, secretKey)
  cancels.set(key, async () => {
    const other = await ports.dial()
    other.on('error', () => other.destroy())
    other.end(cancelRequest(processId, secretKey))
  })
  const status = [...parameters].map(([name, value]) => parameterStatus(name, value))
  agent.write(Buffer.concat([authenticated(), ...status, backendKey(processId, secretKey), ready()]))
  const watch = setInterval(() => {
    const still = stillPermitted(ports, admitted)
    if (still.ok) return
    ports.refused(still.code, 'the session ends with what let it through', txn, undefined)
    agent.destroy()
  }, ports.watchMs)
  await new Promise<void>(resolve => {
    for (const [one, other] of [
      [agent, socket],
      [socket, agent],
    ] as const) {
      one.on('error', () => other.destroy())
      one.once('close', () => {
        other.destroy()
        resolve()
      })
    }
    agent.pipe(socket)
    socket.pipe(agent)
  })
  clearInterval(watch)
  cancels.delete(key)
}

/** Hands on a request to cancel a query of a session that goes through here, or through another process of ours; the server's answer is none. */
async function cancel(ports: SessionPorts, socket: Socket, asked: Extract<First, { kind: 'cancel' }>): Promise<void> {
  const key = keyOf(ports.place, asked.processId, asked.secretKey)
  if (!(await cancelHere(key))) ports.tellOthers(key)
  socket.destroy()
}

/** @returns whether a session with this key goes through this process */
export async function cancelHere(key: string): Promise<boolean> {
  const work = cancels.get(key)
  // a server that is not there has nothing to cancel
  await work?.().catch(() => undefined)
  return work !== undefined
}

/** SQLSTATE of refusals that are not of authorization. @see PostgreSQL documentation, Appendix A */
const states: Readonly<Partial<Record<RefusalCode, string>>> = { UPSTREAM: '08006', UNAVAILABLE: '08006', CONNECTIONS: '53300' }

/** Of what the server itself says: classes begin so, and words of the network do not. Its own states leave it to the agent whether to come again. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/

function end(socket: Duplex, code: RefusalCode, detail = ''): void {
  const { code: shown, sentence } = toldOf(code)
  const said = code === 'UPSTREAM' && SQLSTATE.test(detail) ? detail : undefined
  const words = said && `the server answered with SQLSTATE ${said}`
  leave(socket, fatal(said ?? states[code] ?? '28000', `${shown}: ${sentence}`, words))
}
