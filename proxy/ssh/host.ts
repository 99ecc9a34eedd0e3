import { parseCertificate } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'
import { verifies } from './keys.ts'

/** Whom a server has to be: one of these keys, or one that an authority certified for its name. Blobs. */
export type HostTrust = {
  readonly host: string
  readonly keys: readonly Buffer[]
  readonly authorities: readonly Buffer[]
}

const HOST = 2

/** The key that a server has to prove, from what it shows. @param now milliseconds since the epoch */
export function trustedKey({ host, keys, authorities }: HostTrust, shown: Buffer, now: number): Verdict<Buffer> {
  if (keys.some(key => key.equals(shown))) return accept(shown)
  const certificate = parseCertificate(shown)
  if (!certificate) return refuse('HOST_KEY', 'the server shows another key')
  // a certificate that nobody asked for takes nothing from the key that it is over
  if (keys.some(key => key.equals(certificate.key))) return accept(certificate.key)
  const { type, key, authority, signed, signature, principals, criticalOptions, validAfter, validBefore } = certificate
  const second = BigInt(Math.floor(now / 1000))
  if (!authorities.some(one => one.equals(authority)) || !verifies(authority, signed, signature))
    return refuse('HOST_KEY', 'the certificate of the server is of another authority')
  if (type !== HOST || !principals.includes(host)) return refuse('HOST_KEY', 'the certificate is not for this host')
  if (second < validAfter || second >= validBefore) return refuse('HOST_KEY', 'the certificate of the server is not in force')
  // none is known for hosts, and what is critical and not known is refused
  return criticalOptions.size === 0 ? accept(key) : refuse('HOST_KEY', 'the certificate of the server has a critical option')
}
