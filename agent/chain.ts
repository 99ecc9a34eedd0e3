import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { namedLikeIssuer } from './certificate.ts'
import { ownKey } from './own_key.ts'
import { pemOf } from './pem.ts'
import type { World } from './world.ts'

const DAY_SECONDS = 86_400

/** What a client shows at mutual TLS that has no other place for a sealed token, such as psql by `sslcert`: its certificates, and behind them one whose only
 *  purpose is to carry the token. That one is named like the issuer of the last, as a TLS library looks at nothing else there; its key is thrown away, and
 *  the token speaks for itself. PEM. @param certificates DER, the client's own first */
export async function chainOf(
  certificates: readonly [Buffer, ...Buffer[]],
  { token, expiresInSeconds }: { readonly token: string; readonly expiresInSeconds: number },
  { now, random }: Pick<World, 'now' | 'random'>,
): Promise<string> {
  const last = certificates.at(-1) ?? certificates[0]
  const signer = { ...ownKey().signer, spki: keyLikeIssuer(new X509Certificate(last)) }
  const about = { of: last, uri: `assay-token:${token}`, days: expiresInSeconds / DAY_SECONDS, notBefore: now(), random }
  const carrier = await namedLikeIssuer(signer, about)
  return [...certificates, carrier].map(one => pemOf('CERTIFICATE', one)).join('')
}

/** A key of the kind that signed it: with one of another kind it could not be the issuer. SubjectPublicKeyInfo, DER. */
function keyLikeIssuer({ signatureAlgorithm = '' }: X509Certificate): Buffer {
  const { publicKey } = /rsa/i.test(signatureAlgorithm)
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : /ed25519/i.test(signatureAlgorithm)
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return publicKey.export({ type: 'spki', format: 'der' })
}
