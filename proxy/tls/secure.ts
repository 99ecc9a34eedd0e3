import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import type { StreamPorts } from '../connectors/connector.ts'

/** How a service with a port of its own lets agents in: TLS 1.3, and their certificate. */
export type Door = {
  readonly context: SecureContext
  /** certificates of agents have to lead to a declared authority */
  readonly requireCa: boolean
}

export function doorOf({ cert, key, clientCa }: StreamPorts['tls']): Door {
  const ca = clientCa === undefined ? {} : { ca: clientCa }
  return { context: createSecureContext({ cert, key, minVersion: 'TLSv1.3', ...ca }), requireCa: clientCa !== undefined }
}

/** Undefined when the handshake fails, is not done in time, or the certificate is not of the declared authority. */
export function secure({ context, requireCa }: Door, socket: Socket, signal: AbortSignal): Promise<TLSSocket | undefined> {
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext: context,
    requestCert: true,
    rejectUnauthorized: requireCa,
  })
  return new Promise(resolve => {
    secured.on('error', () => resolve(undefined))
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
    secured.once('secure', () => resolve(!requireCa || secured.authorized ? secured : undefined))
    secured.once('close', () => resolve(undefined))
  })
}
