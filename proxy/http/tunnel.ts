import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { type SecureContext, TLSSocket } from 'node:tls'
import { parseAuthority } from '#engine'
import { accept, type RefusalCode, refuse, type Verdict } from '../refusals.ts'
import type { Mint } from '../tls/mint.ts'
import { unavailable } from '../tokens.ts'
import type { Session } from './gate.ts'
import type { Pinned } from './head.ts'
import { replyRefusedRaw } from './replies.ts'
import type { Services } from './service.ts'

export type TunnelPorts = {
  readonly services: () => Services
  /** undefined when interception is off */
  readonly mint: Mint | undefined
  /** the server that reads the requests in the tunnel */
  readonly inner: Server
  readonly remember: (socket: Duplex, session: Session) => void
  readonly refused: (code: RefusalCode, detail: string) => void
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
  const way = await wayOf(ports, incoming)
  if (!way.ok) {
    ports.refused(way.code, way.detail)
    replyRefusedRaw(socket, way.code, txn)
    return
  }
  if (!socket.writable) return
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (rest.length > 0) socket.unshift(rest)
  const { pinned, context } = way.value
  const inner = context ? secured(socket, context) : socket
  ports.remember(inner, { ...session, pinned })
  ports.inner.emit('connection', inner)
}

function secured(socket: Duplex, secureContext: SecureContext): TLSSocket {
  const inner = new TLSSocket(socket as TLSSocket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
  inner.on('error', () => inner.destroy())
  const late = setTimeout(() => inner.destroy(), HANDSHAKE_MS)
  return inner.once('secure', () => clearTimeout(late)).once('close', () => clearTimeout(late))
}

/** `context` is for a service with TLS: to others some clients ask for tunnels, too. */
type Way = { readonly pinned: Pinned; readonly context: SecureContext | undefined }

async function wayOf({ services, mint }: TunnelPorts, { url = '' }: IncomingMessage): Promise<Verdict<Way>> {
  const authority = /:\d+$/.test(url) ? parseAuthority(url, 443) : undefined
  if (!authority) return refuse('DESTINATION_UNCLEAR', 'CONNECT wants host:port')
  const scheme = services().find(authority)?.scheme
  if (scheme === 'http') return accept({ pinned: { ...authority, scheme }, context: undefined })
  if (!mint || scheme !== 'https') return refuse('DESTINATION', `${authority.host}:${authority.port}`)
  return mint.of(authority.host).then(context => accept({ pinned: { ...authority, scheme }, context }), unavailable)
}
