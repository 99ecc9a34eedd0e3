import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { calculateJwkThumbprint, createRemoteJWKSet, EmbeddedJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
import { PATIENCE_MS } from '../harness/patience.ts'
import type { Authority } from './certificates.ts'

/** A service that relies on tokens of a broker: `/mtls` wants the client certificate that the token is bound to (RFC 8705), `/dpop` a proof by its key (RFC 9449). */
export type ResourceServer = AsyncDisposable & { readonly url: string }

export async function openResourceServer(authority: Authority, issuer: string, audience: string): Promise<ResourceServer> {
  const { cert, key } = await authority.issue('resource')
  const jwks = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { timeoutDuration: PATIENCE_MS })
  const accept = async (incoming: IncomingMessage, url: string): Promise<void> => {
    const [, scheme = '', token = ''] = /^(\w+) (\S+)$/.exec(incoming.headers.authorization ?? '') ?? []
    const { payload } = await jwtVerify(token, jwks, { issuer, audience, typ: 'at+jwt', algorithms: ['ES256'] })
    if (incoming.url === '/mtls') shown(payload, incoming.socket as TLSSocket)
    else await proven(payload, token, scheme, incoming, `${url}${incoming.url}`)
  }
  // a client certificate is not looked at beyond its fingerprint: it may be issued by its own key (RFC 8705, 2.2)
  const tls = { cert: await readFile(cert), key: await readFile(key), requestCert: true, rejectUnauthorized: false }
  const server = createServer(tls, (incoming, outgoing) => {
    accept(incoming, url()).then(
      () => outgoing.writeHead(200).end('welcome'),
      (error: unknown) => outgoing.writeHead(401).end(String(error)),
    )
  })
  const url = () => `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: url(),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

type Confirmation = { readonly jkt?: string; readonly 'x5t#S256'?: string }

function shown(payload: JWTPayload, socket: TLSSocket): void {
  const { raw } = socket.getPeerCertificate()
  const bound = (payload['cnf'] as Confirmation | undefined)?.['x5t#S256']
  if (!raw) throw new Error('no certificate was shown')
  if (bound === undefined || createHash('sha256').update(raw).digest('base64url') !== bound)
    throw new Error('the token is bound to another certificate')
}

async function proven(payload: JWTPayload, token: string, scheme: string, incoming: IncomingMessage, htu: string): Promise<void> {
  if (scheme !== 'DPoP') throw new Error('wanted the scheme DPoP')
  const proof = await jwtVerify(String(incoming.headers['dpop']), EmbeddedJWK, { typ: 'dpop+jwt', algorithms: ['ES256'] })
  const { htm, htu: said, ath } = proof.payload
  const right = htm === incoming.method && said === htu && ath === createHash('sha256').update(token).digest('base64url')
  if (!right) throw new Error('the proof is for another request')
  const jkt = await calculateJwkThumbprint(proof.protectedHeader.jwk as JWK)
  if (jkt !== (payload['cnf'] as Confirmation | undefined)?.jkt) throw new Error('the token is bound to another key')
}
