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
