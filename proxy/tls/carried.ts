import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'

/** How the certificate that carries a token names it: as its one subjectAltName, a URI. */
const CARRIER = /^URI:assay-token:([A-Za-z0-9_.-]+)$/
/** Node keeps what it told of the certificates behind a client's own until the process ends: so many bytes, and then none are looked at. */
const MOST_KEPT = 2 ** 28
/** Of each beside its bytes. */
const EACH = 8192

/** Reads the sealed token that a client shows behind its certificate, in one that is named like its issuer: for programs that have no other place for it. What
 *  counts of that certificate is the token, which speaks for itself. TLS 1.3 covers all that a client shows by the signature of its key (RFC 8446, 4.4.3),
 *  and the token is sealed to that. Undefined where there is none, or more than one. */
export function openCarried(mostKept = MOST_KEPT): (socket: TLSSocket) => string | undefined {
  let kept = 0
  return socket => {
    if (kept >= mostKept) return undefined
    const found = new Set<string>()
    // `getPeerCertificate(true)` keeps nothing, but a key of an unusual curve behind a certificate ends the process there
    for (const one of behind(socket.getPeerX509Certificate())) {
      kept += one.raw.length + EACH
      const token = CARRIER.exec(one.subjectAltName ?? '')?.[1]
      if (token !== undefined) found.add(token)
    }
    const [token, ...others] = found
    return others.length === 0 ? token : undefined
  }
}

export const carriedToken = openCarried()

function* behind(own: X509Certificate | undefined): Generator<X509Certificate> {
  for (let one = own?.issuerCertificate; one; one = one.issuerCertificate) yield one
}
