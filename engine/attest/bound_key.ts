import { X509Certificate } from 'node:crypto'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { accept, type KeyEvidence, type KeyRules, reject, verifyCertifiedKey } from '#attestation'
import type { Verdict } from '../refusals.ts'

/** What an agent sends of the key that it wants bound, beside its thumbprint. */
export type KeyOffer = {
  readonly certified?: KeyEvidence | undefined
  /** DER of an X.509 certificate for the key: it is shown at mutual TLS, whoever issued it */
  readonly certificate?: Buffer | undefined
}

/** What is bound to what a machine is given (`cnf`); members are empty when there is none. */
export type BoundKey = {
  /** RFC 7638 SHA-256 thumbprint, base64url: `jkt` (RFC 9449) */
  readonly thumbprint: string
  /** SHA-256 of the certificate, base64url: `x5t#S256` (RFC 8705) */
  readonly x5tS256: string
  /** the TPM of the machine certified that the key is its own */
  readonly certified: boolean
}

/** Binds the key that the quote named by its thumbprint. What else was sent has to be of that key. */
export async function bindKey(thumbprint: string, offer: KeyOffer, rules: KeyRules): Promise<Verdict<BoundKey>> {
  const certified = offer.certified ? verifyCertifiedKey(offer.certified, rules) : undefined
  if (certified && !certified.ok) return certified
  if (certified && certified.value.thumbprint !== thumbprint)
    return reject('KEY_MISMATCH', `the certified key has the thumbprint ${certified.value.thumbprint}`)
  const x5t = offer.certificate ? await x5tOf(offer.certificate, thumbprint) : accept('')
  return x5t.ok ? accept({ thumbprint, x5tS256: x5t.value, certified: certified !== undefined }) : x5t
}

async function x5tOf(der: Buffer, thumbprint: string): Promise<Verdict<string>> {
  const certificate = readCertificate(der)
  if (!certificate) return reject('KEY_MISMATCH', 'the certificate cannot be read')
  const jwk = certificate.publicKey.export({ format: 'jwk' }) as JWK
  const found = await calculateJwkThumbprint(jwk)
  if (found !== thumbprint) return reject('KEY_MISMATCH', `the key of the certificate has the thumbprint ${found}`)
  return accept(Buffer.from(certificate.fingerprint256.replaceAll(':', ''), 'hex').toString('base64url'))
}

/** Whole and nothing else: a tail would not be in the fingerprint, and a key that has no JWK form binds nothing. */
function readCertificate(der: Buffer): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(der)
    return certificate.raw.equals(der) && certificate.publicKey.export({ format: 'jwk' }) ? certificate : undefined
  } catch {
    return undefined
  }
}
