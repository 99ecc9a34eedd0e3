import { hash } from 'node:crypto'

/** The SHA-256 thumbprint of a public key, base64url (RFC 7638, 3).
 *  @param jwk with nothing but the members that 3.2 requires of its type */
export function thumbprintOf(jwk: object): string {
  return hash('sha256', JSON.stringify(jwk, Object.keys(jwk).toSorted()), 'base64url')
}
