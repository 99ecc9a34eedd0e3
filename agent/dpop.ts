import { createHash } from 'node:crypto'

/** What a DPoP proof speaks of (RFC 9449 4.2). */
export type ProofClaims = {
  /** HTTP method */
  readonly htm: string
  /** address of the request; its query and fragment are left out */
  readonly htu: string
  /** of the access token that the proof goes with: `athOf(token)` */
  readonly ath?: string
  /** that the server gave */
  readonly nonce?: string
}

/** RFC 7517 JWK of a P-256 key. */
export type P256Jwk = { readonly kty: 'EC'; readonly crv: 'P-256'; readonly x: string; readonly y: string }

export type ProofSigner = {
  readonly jwk: P256Jwk
  /** ECDSA with SHA-256 over the data, r || s */
  sign(data: Uint8Array): Promise<Buffer>
}

type World = { readonly now: () => number; readonly random: (size: number) => Buffer }

/** A proof of possession for one request, as the `DPoP` header carries it. @param world.now milliseconds since 1970 */
export async function dpopProof(signer: ProofSigner, claims: ProofClaims, world: World): Promise<string> {
  const { crv, kty, x, y } = signer.jwk
  const target = new URL(claims.htu)
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: { crv, kty, x, y } }
  const payload = {
    jti: world.random(16).toString('base64url'),
    htm: claims.htm,
    htu: `${target.origin}${target.pathname}`,
    iat: Math.floor(world.now() / 1000),
    ...(claims.ath === undefined ? {} : { ath: claims.ath }),
    ...(claims.nonce === undefined ? {} : { nonce: claims.nonce }),
  }
  const input = `${encode(header)}.${encode(payload)}`
  const signature = await signer.sign(Buffer.from(input, 'ascii'))
  return `${input}.${signature.toString('base64url')}`
}

/** Hash of an access token (RFC 9449 4.2, `ath`). */
export function athOf(token: string): string {
  return createHash('sha256').update(token, 'ascii').digest('base64url')
}

/** JWK thumbprint (RFC 7638 3): SHA-256 over the required members in lexical order. */
export function thumbprintOf({ crv, kty, x, y }: P256Jwk): string {
  return createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')
}

const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')
