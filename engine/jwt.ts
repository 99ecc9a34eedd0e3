import { compactVerify, importJWK } from 'jose'
import { BrokerError } from './errors.ts'
import type { RsaSigner } from './vault/rsa_signer.ts'
import type { KeyVersion, Signer, SigningKey } from './vault/transit.ts'

/** Versions of keys of which one token was verified here: a key signs all its tokens the same way. */
const proven = new Set<string>()

/** A JWS in compact form (RFC 7515), ES256, signed inside transit: the private key is nowhere else.
 *  The first token of each version is verified before anybody gets it.
 *  @throws BrokerError unavailable when transit cannot sign, or when what it signed does not verify */
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
  const token = `${input}.${signature.toString('base64url')}`
  if (!proven.has(version.publicPem)) await prove(token, version)
  return token
}

/** The same by an RSA key of the operator, RS256. */
export async function signRs256(signer: RsaSigner, key: string, claims: object): Promise<string> {
  const latest = (await signer.versions(key)).at(-1)
  if (!latest) throw new BrokerError('unavailable', `the transit key ${key} has no version`)
  const input = `${encode({ alg: 'RS256', kid: latest.kid, typ: 'JWT' })}.${encode(claims)}`
  return `${input}.${(await signer.sign(key, latest.version, Buffer.from(input))).toString('base64url')}`
}

async function prove(token: string, version: KeyVersion): Promise<void> {
  try {
    await compactVerify(token, await importJWK(version.jwk, 'ES256'), { algorithms: ['ES256'] })
  } catch (error) {
    throw new BrokerError('unavailable', `what transit signed with ${version.kid} does not verify`, { cause: error })
  }
  proven.add(version.publicPem)
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

/** `cnf` (RFC 7800): one key, and two ways to show that it is there, by a proof (RFC 9449) or at mutual TLS with its certificate (RFC 8705).
 *  @param x5tS256 empty when no certificate was shown */
export function confirmationOf(jkt: string, x5tS256: string): object {
  return x5tS256 ? { jkt, 'x5t#S256': x5tS256 } : { jkt }
}
