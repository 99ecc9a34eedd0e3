import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { blobOfLine, parseCertificate, readable, readSsh, type SshCertificate } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'
import type { Known } from '../tokens.ts'
import { publicKeyOf } from './keys.ts'

/** What logs in: a key, and the certificate over it. */
export type SshCredential = { readonly key: KeyObject; readonly certificate: SshCertificate; readonly blob: Buffer }

const USER = 1

/** The credential of a token, when it is one of a user, in force, and permits no more than the service does: what a session may do beyond a command is
 *  what its certificate says, and the server sees to that. */
export function credentialOf({ fields }: Known, permitted: readonly string[], now: number): Verdict<SshCredential> {
  const { private_key: text, signed_key: line } = fields
  if (!text || !line) return shape('wanted private_key and signed_key')
  const key = privateKeyOf(text.reveal())
  const blob = blobOfLine(line.reveal())
  const certificate = blob && parseCertificate(blob)
  if (!key || !blob || !certificate) return shape('the key or the certificate cannot be read')
  const certified = publicKeyOf(certificate.key)
  if (!certified || !createPublicKey(key).equals(certified)) return shape('the certificate is over another key')
  const second = BigInt(Math.floor(now / 1000))
  if (certificate.type !== USER || second < certificate.validAfter || second >= certificate.validBefore)
    return shape('the certificate is not of a user, or not in force')
  // one without principals is good for every user
  if (certificate.principals.length === 0) return shape('the certificate names no principal')
  const beyond = [...certificate.extensions.keys()].find(name => !permitted.includes(name))
  return beyond === undefined ? accept({ key, certificate, blob }) : shape(`the certificate has ${beyond}`)
}

const shape = (detail: string) => refuse('CREDENTIAL_SHAPE', detail)

/** PEM as OpenSSL reads it, or OpenSSH's own form, in which Vault gives out Ed25519 keys. */
function privateKeyOf(text: string): KeyObject | undefined {
  try {
    return createPrivateKey(text)
  } catch {
    const [, inner] =
      /^-----BEGIN OPENSSH PRIVATE KEY-----([\sA-Za-z0-9+/=]+)-----END OPENSSH PRIVATE KEY-----\s*$/.exec(text) ?? []
    return inner === undefined ? undefined : readable(() => ed25519Of(Buffer.from(inner, 'base64')))
  }
}

const MAGIC = 'openssh-key-v1\0'

/** An Ed25519 key without a passphrase. @see PROTOCOL.key of OpenSSH */
function ed25519Of(bytes: Buffer): KeyObject | undefined {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined
  const reader = readSsh(bytes.subarray(MAGIC.length))
  const [cipher, kdf] = [reader.string().toString(), reader.string().toString()]
  reader.string() // the options of the kdf
  if (cipher !== 'none' || kdf !== 'none' || reader.uint32() !== 1) return undefined
  reader.string() // the public key
  const secret = readSsh(reader.string())
  const [check, again] = [secret.uint32(), secret.uint32()]
  if (check !== again || secret.string().toString() !== 'ssh-ed25519') return undefined
  const [x, d] = [secret.string(), secret.string().subarray(0, 32)]
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url'), d: d.toString('base64url') }
  return createPrivateKey({ key: jwk, format: 'jwk' })
}
