/** What anybody may know of one version of a key. */
export type Published = {
  /** RFC 7638. Not the number of the version: a Vault that was restored counts on from an older one, and keys that relying parties keep are of those that were lost. */
  readonly kid: string
  readonly jwk: object
}

/** RFC 7517, 5 */
export function keySetOf(versions: readonly Published[], alg: 'ES256' | 'RS256'): readonly object[] {
  return versions.map(({ kid, jwk }) => ({ ...jwk, kid, use: 'sig', alg }))
}
