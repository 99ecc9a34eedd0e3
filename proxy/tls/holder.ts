import { createHash, X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { Holder } from '#engine'

export type Held = {
  readonly holder: Holder
  /** when the certificate is in force, milliseconds since the epoch */
  readonly from: number
  readonly until: number
}

/** Who is at the other end: the certificate whose key the client proved to have in the handshake. Undefined without one. */
export function holderOf(socket: TLSSocket): Held | undefined {
  // `getPeerX509Certificate` would keep the memory of every other certificate that the client shows
  const raw = socket.getPeerCertificate().raw as Buffer | undefined
  const certificate = raw && new X509Certificate(raw)
  const jkt = certificate && thumbprintOf(certificate)
  if (!certificate || jkt === undefined) return undefined
  const [from, until] = [certificate.validFromDate.getTime(), certificate.validToDate.getTime()]
  return { holder: { x5tS256: sha256(certificate.raw), jkt }, from, until }
}

/** Whether the certificate is in force, its last moment among that (RFC 5280, 4.1.2.5). */
export const isInForce = ({ from, until }: Held, now: number): boolean => from <= now && now <= until

/** RFC 7638: the members that make the key, in the order of their names. */
function thumbprintOf({ publicKey }: X509Certificate): string | undefined {
  const { kty, crv, x, y, n, e } = publicKey.export({ format: 'jwk' })
  if (kty === 'EC') return sha256(JSON.stringify({ crv, kty, x, y }))
  if (kty === 'RSA') return sha256(JSON.stringify({ e, kty, n }))
  return kty === 'OKP' ? sha256(JSON.stringify({ crv, kty, x })) : undefined
}

const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('base64url')
