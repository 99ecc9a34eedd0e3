import type { Socket } from 'node:net'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'

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

/** The proxy's own certificate, and whom certificates of agents have to lead to. */
export type OwnTls = { readonly cert: string; readonly key: string; readonly clientCa: string | undefined }

/** How a service with a port of its own lets agents in: TLS 1.3, and their certificate, which has to lead to the authority that is declared. */
export type Door = TlsOptions

export function doorOf({ cert, key, clientCa }: OwnTls): Door {
  const whom = clientCa === undefined ? { rejectUnauthorized: false } : { ca: clientCa, rejectUnauthorized: true }
  return { cert, key, minVersion: 'TLSv1.3', sigalgs: SIGNATURES, requestCert: true, ...whom }
}

/** Undefined when the handshake fails, is not done in time, or the certificate is not of the declared authority. */
export function secure(door: Door, socket: Socket, signal: AbortSignal): Promise<TLSSocket | undefined> {
  // whether a certificate leads to an authority Node tells of connections of a server alone: this one has one connection
  const server = createServer(door)
  return new Promise(resolve => {
    const none = () => resolve(undefined)
    server.once('secureConnection', secured => resolve(secured.on('error', () => secured.destroy())))
    server.once('tlsClientError', none)
    signal.addEventListener('abort', none, { once: true })
    socket.once('close', none)
    server.emit('connection', socket)
  })
}
