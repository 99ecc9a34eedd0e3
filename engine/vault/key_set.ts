import { hash } from 'node:crypto'

/** What anybody may know of one version of a key. */
export type Published = {
  /** RFC 7638. Not the number of the version: a Vault that was restored counts on from an older one, and keys that relying parties keep are of those that were lost. */
  readonly kid: string
  /** Its key and number: what it was called in key sets before, and is still there, as what was signed under that lives for an hour more. */
  readonly versionName: string
  readonly jwk: object
}

/** @param jwk with nothing but the members that RFC 7638, 3.2 requires */
export function thumbprintOf(jwk: object): string {
  return hash('sha256', JSON.stringify(jwk, Object.keys(jwk).toSorted()), 'base64url')
}

/** RFC 7517, 5 */
export function keySetOf(versions: readonly Published[], alg: 'ES256' | 'RS256'): readonly object[] {
  return versions.flatMap(({ kid, versionName, jwk }) => [kid, versionName].map(name => ({ ...jwk, kid: name, use: 'sig', alg })))
}
