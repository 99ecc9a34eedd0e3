import type { KeyVersion, Signer, SigningKey } from './vault/transit.ts'

/** A JWS in compact form (RFC 7515), ES256, signed inside transit: the private key is nowhere else. */
export async function signJwt(
  signer: Signer,
  key: SigningKey,
  version: KeyVersion,
  typ: string,
  claims: object,
): Promise<string> {
  const header = { alg: 'ES256', kid: version.kid, typ }
  const input = `${encode(header)}.${encode(claims)}`
  const signature = await signer.sign(key.name, version.version, Buffer.from(input))
  return `${input}.${signature.toString('base64url')}`
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
