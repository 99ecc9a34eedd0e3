import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { type SecureContext, TLSSocket } from 'node:tls'
import { BrokerError, parseAuthority } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'
import type { Mint } from '../tls/mint.ts'
import type { Session } from './gate.ts'
import type { Authority, Pinned } from './head.ts'
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

/** Answers CONNECT: the tunnel ends at the proxy, for a service with TLS with a certificate of the host from the proxy's own authority, and what is in it is
 *  served like everything else, except that it can only go where the tunnel was asked for. */
export async function openTunnel(
  ports: TunnelPorts,
  incoming: IncomingMessage,
  socket: Duplex,
  rest: Buffer,
  session: Session,
  txn: string,
): Promise<void> {
  const asked = destinationOf(ports, incoming)
  const context = asked.ok ? await contextOf(asked.value) : asked
  if (!asked.ok || !context.ok) {
    const { code, detail } = context as Exclude<typeof context, { ok: true }>
    ports.refused(code, detail, txn)
    replyRefusedRaw(socket, code, txn)
    return
  }
  if (!socket.writable) return
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (rest.length > 0) socket.unshift(rest)
  const inner = context.value ? secured(socket, context.value) : socket
  ports.remember(inner, { ...session, pinned: asked.value.pinned })
  ports.inner.emit('connection', inner)
}

function secured(socket: Duplex, secureContext: SecureContext): TLSSocket {
  const inner = new TLSSocket(socket as TLSSocket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
  inner.on('error', () => inner.destroy())
  const late = setTimeout(() => inner.destroy(), HANDSHAKE_MS)
  return inner.once('secure', () => clearTimeout(late)).once('close', () => clearTimeout(late))
}

/** `mint` is for a service with TLS: to others some clients ask for tunnels, too. */
type Asked = { readonly pinned: Pinned; readonly mint: Mint | undefined }

function destinationOf({ services, mint }: TunnelPorts, { url = '' }: IncomingMessage): Verdict<Asked> {
  const authority = /:\d+$/.test(url) ? parseAuthority(url, 443) : undefined
  if (!authority) return refuse('DESTINATION_UNCLEAR', 'CONNECT wants host:port')
  const scheme = services().find(authority)?.scheme
  if (scheme === 'http') return accept({ pinned: { ...authority, scheme }, mint: undefined })
  if (!mint || scheme !== 'https') return refuse('DESTINATION', `${authority.host}:${authority.port}`)
  return accept({ pinned: { ...authority, scheme }, mint })
}

async function contextOf({ mint, pinned }: Asked): Promise<Verdict<SecureContext | undefined>> {
  return mint === undefined ? accept(undefined) : mintFor(mint, pinned)
}

async function mintFor(mint: Mint, { host }: Authority): Promise<Verdict<SecureContext>> {
  try {
    return accept(await mint.of(host))
  } catch (error) {
    if (error instanceof BrokerError) return refuse('UNAVAILABLE', error.message)
    throw error
  }
}
