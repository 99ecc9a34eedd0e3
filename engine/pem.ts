import { createPrivateKey, X509Certificate } from 'node:crypto'
import { BrokerError } from './errors.ts'

/** Authorities that a setting names. Node passes over a text in which there is none, and then trusts nobody: that is told at start.
 *  @throws BrokerError bad_request */
export function authoritiesIn(pem: string, setting: string): string {
  try {
    new X509Certificate(pem)
  } catch (cause) {
    throw new BrokerError('bad_request', `${setting}: wanted certificates in PEM`, { cause })
  }
  return pem
}

/** When the first of these certificates ends, in seconds since 1970. What cannot be read ends never: nobody is let in by it. */
export function endOf(pem: string): number {
  const ends = (pem.match(CERTIFICATE) ?? []).flatMap(one => {
    try {
      return [new X509Certificate(one).validToDate.getTime() / 1000]
    } catch {
      return []
    }
  })
  return Math.min(...ends)
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Looks whether a certificate and its key can be shown, before anybody has to be shown them. @throws BrokerError bad_request */
export function checkPair(cert: string, key: string, setting: string): void {
  if (!isPair(cert, key))
    throw new BrokerError('bad_request', `${setting}: the certificate and its key have to be PEM and belong together`)
}

function isPair(cert: string, key: string): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}
