import type { DetailedPeerCertificate, TLSSocket } from 'node:tls'

/** How the certificate that carries a token names it: as its one subjectAltName, a URI. */
const CARRIER = /^URI:assay-token:([A-Za-z0-9_.-]+)$/
/** Certificates that are looked at behind the client's own. */
const MOST = 8

/** A sealed token that the client shows behind its certificate, in one that is named like its issuer: for programs that have no other place for it. What
 *  counts of that certificate is the token, which speaks for itself. TLS 1.3 covers all that a client shows by the signature of its key (RFC 8446, 4.4.3),
 *  and the token is sealed to that. Undefined where there is none, or more than one; and where certificates have to lead to an authority: then Node tells
 *  of the way there alone. */
export function carriedToken(socket: TLSSocket): string | undefined {
  const found = new Set<string>()
  let below: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  for (let left = MOST; below && left > 0; left--) {
    const above: DetailedPeerCertificate | undefined = below.issuerCertificate
    const token = CARRIER.exec(above?.subjectaltname ?? '')?.[1]
    if (token !== undefined) found.add(token)
    below = above === below ? undefined : above
  }
  const [token, ...others] = found
  return others.length === 0 ? token : undefined
}
