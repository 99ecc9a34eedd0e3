import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { type RefusalCode, toldOf } from '../refusals.ts'
import { holderOf } from '../tls/holder.ts'
import { secure } from '../tls/secure.ts'
import { type Admitted, admit, firstOf } from './admission.ts'
import { authenticated, backendKey, cancelRequest, type First, fatal, parameterStatus, ready } from './messages.ts'
import type { SessionPorts } from './ports.ts'
import { type MessageReader, openReader } from './reader.ts'

/** Sessions of one service: what they are known by, for requests to cancel. */
export type Sessions = { readonly begin: (socket: Socket) => Promise<void> }

export function openSessions(ports: SessionPorts): Sessions {
  // who holds a key of a session may cancel its queries, as at the server itself
  const keys = new Set<string>()
  return {
    begin: async socket => {
      socket.on('error', () => socket.destroy())
      try {
        await serve(ports, keys, socket)
      } catch (error) {
        ports.broken(error)
        socket.destroy()
      }
    },
  }
}

async function serve(ports: SessionPorts, keys: Set<string>, socket: Socket): Promise<void> {
  const signal = AbortSignal.timeout(ports.startWithinMs)
  const txn = ports.newId()
  const first = await beginning(openReader(socket, signal), socket).catch(() => undefined)
  if (first?.kind === 'cancel') return cancel(ports, keys, socket, first)
  // bytes that came before the handshake were not protected by it
  if (first?.kind !== 'ssl' || socket.readableLength > 0) {
    ports.refused('NO_CERTIFICATE', 'the connection does not begin with TLS', txn, undefined)
    return end(socket, 'NO_CERTIFICATE')
  }
  socket.write('S')
  const secured = await secure(ports.door, socket, signal)
  if (!secured) return void socket.destroy()
  const held = holderOf(secured)
  const known = await admit(ports, held, openReader(secured, signal), secured, txn)
  if (!known.ok) {
    ports.refused(known.code, known.detail, txn, held?.holder)
    return end(secured, known.code)
  }
  await run(ports, keys, secured, known.value, txn)
}

/** A client may ask for GSS encryption first, once, and hears that there is none. */
async function beginning(reader: MessageReader, socket: Socket): Promise<First | undefined> {
  const first = await firstOf(reader)
  if (first?.kind !== 'gss') return first
  socket.write('N')
  return firstOf(reader)
}

/** Bytes both ways until one side ends, or the token does not count any more. */
async function run(
  ports: SessionPorts,
  keys: Set<string>,
  agent: TLSSocket,
  { upstream, known, destination }: Admitted,
  txn: string,
): Promise<void> {
  const { socket, parameters, processId, secretKey } = upstream
  const key = `${processId} ${secretKey}`
  keys.add(key)
  const status = [...parameters].map(([name, value]) => parameterStatus(name, value))
  agent.write(Buffer.concat([authenticated(), ...status, backendKey(processId, secretKey), ready()]))
  const watch = setInterval(() => {
    const still = ports.tokens.permits(known, destination)
    if (still.ok) return
    ports.refused(still.code, 'the session ends with its token', txn, undefined)
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
  keys.delete(key)
}

/** Hands on a request to cancel a query of a session that goes through here; the server's answer is none. */
async function cancel(
  ports: SessionPorts,
  keys: ReadonlySet<string>,
  socket: Socket,
  asked: Extract<First, { kind: 'cancel' }>,
): Promise<void> {
  if (keys.has(`${asked.processId} ${asked.secretKey}`)) {
    const upstream = await ports.dial()
    upstream.on('error', () => upstream.destroy())
    upstream.end(cancelRequest(asked.processId, asked.secretKey))
  }
  socket.destroy()
}

function end(socket: Duplex, code: RefusalCode): void {
  const { code: shown, sentence } = toldOf(code)
  socket.end(fatal(code === 'UPSTREAM' || code === 'UNAVAILABLE' ? '08006' : '28000', `${shown}: ${sentence}`))
}
