import { X509Certificate } from 'node:crypto'
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
