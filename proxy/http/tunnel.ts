import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { type SecureContext, TLSSocket } from 'node:tls'
import { BrokerError, parseAuthority } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'
import type { Mint } from '../tls/mint.ts'
import type { Session } from './gate.ts'
import type { Authority } from './head.ts'
import { replyRefusedRaw } from './replies.ts'
import type { Services } from './service.ts'

export type TunnelPorts = {
  readonly services: () => Services
  /** undefined when interception is off */
  readonly mint: Mint | undefined
  /** the server that reads the requests in the tunnel */
  readonly inner: Server
  readonly remember: (socket: Duplex, session: Session) => void
  readonly refused: (code: Parameters<typeof replyRefusedRaw>[1], detail: string, txn: string) => void
}

const HANDSHAKE_MS = 10_000

/** Answers CONNECT: with a certificate of the host from the proxy's own authority the tunnel ends here, and what is in it is served like everything
 *  else, except that it can only go where the tunnel was asked for. */
export async function openTunnel(
  ports: TunnelPorts,
  incoming: IncomingMessage,
  socket: Duplex,
  rest: Buffer,
  session: Session,
  txn: string,
): Promise<void> {
  const asked = destinationOf(ports, incoming)
  const context = asked.ok ? await mintFor(asked.value.mint, asked.value.authority) : asked
  if (!asked.ok || !context.ok) {
    const { code, detail } = context as Exclude<typeof context, { ok: true }>
    ports.refused(code, detail, txn)
    replyRefusedRaw(socket, code, txn)
    return
  }
  if (!socket.writable) return
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (rest.length > 0) socket.unshift(rest)
  const inner = new TLSSocket(socket as TLSSocket, { isServer: true, secureContext: context.value, ALPNProtocols: ['http/1.1'] })
  inner.on('error', () => inner.destroy())
  const late = setTimeout(() => inner.destroy(), HANDSHAKE_MS)
  inner.once('secure', () => clearTimeout(late)).once('close', () => clearTimeout(late))
  ports.remember(inner, { ...session, pinned: asked.value.authority })
  ports.inner.emit('connection', inner)
}

function destinationOf(
  { services, mint }: TunnelPorts,
  { url = '' }: IncomingMessage,
): Verdict<{ authority: Authority; mint: Mint }> {
  const authority = /:\d+$/.test(url) ? parseAuthority(url, 443) : undefined
  if (!authority) return refuse('DESTINATION_UNCLEAR', 'CONNECT wants host:port')
  if (!mint || services().find(authority)?.scheme !== 'https') return refuse('DESTINATION', `${authority.host}:${authority.port}`)
  return accept({ authority, mint })
}

async function mintFor(mint: Mint, { host }: Authority): Promise<Verdict<SecureContext>> {
  try {
    return accept(await mint.of(host))
  } catch (error) {
    if (error instanceof BrokerError) return refuse('UNAVAILABLE', error.message)
    throw error
  }
}
