import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import type { StreamPorts } from '../connectors/connector.ts'

/** How clients sign their handshake, and so which keys they may have: ECDSA of NIST's curves, EdDSA and RSA. Of other keys (other curves, RSA-PSS) Node reads
 *  no certificate: at some it throws, at others the process ends. */
export const SIGNATURES = [
  'ecdsa_secp256r1_sha256',
  'ecdsa_secp384r1_sha384',
  'ecdsa_secp521r1_sha512',
  'ed25519',
  'ed448',
  'rsa_pss_rsae_sha256',
  'rsa_pss_rsae_sha384',
  'rsa_pss_rsae_sha512',
  'rsa_pkcs1_sha256', // in certificates alone: RFC 8446, 4.2.3
  'rsa_pkcs1_sha384',
  'rsa_pkcs1_sha512',
].join(':')

/** How a service with a port of its own lets agents in: TLS 1.3, and their certificate. */
export type Door = {
  readonly context: SecureContext
  /** certificates of agents have to lead to a declared authority */
  readonly requireCa: boolean
}

export function doorOf({ cert, key, clientCa }: StreamPorts['tls']): Door {
  const ca = clientCa === undefined ? {} : { ca: clientCa }
  return {
    context: createSecureContext({ cert, key, minVersion: 'TLSv1.3', sigalgs: SIGNATURES, ...ca }),
    requireCa: clientCa !== undefined,
  }
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
