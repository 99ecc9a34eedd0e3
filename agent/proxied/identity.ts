import { X509Certificate } from 'node:crypto'
import { DAY_MS, selfSigned } from '../certificate.ts'
import { type P256Jwk, thumbprintOf } from '../dpop.ts'
import { AgentError } from '../exits.ts'
import { readBytes } from '../open.ts'
import { ownKey } from '../own_key.ts'
import { pemOf } from '../pem.ts'
import type { World } from '../world.ts'

/** Who this program is at the proxy: a certificate and its key, both PEM. */
export type Identity = {
  readonly cert: string
  readonly key: string
  /** DER */
  readonly certificate: Buffer
  /** RFC 7638 thumbprint of the key, when the key is this program's own: the quote of the login then names it. Undefined for a key in the TPM. */
  readonly thumbprint: string | undefined
}

/** The proxy takes no certificate that is not in force by its own clock, and commands run for long: it is so for a year before and after this start, as far as
 *  the clock here may be wrong. The key is gone with this process, and what is bound to it lives minutes. */
const DAYS = 365

/** A key that is made for this run, is nowhere but in this process and goes with it. */
export async function ownIdentity({ now, random }: Pick<World, 'now' | 'random'>): Promise<Identity> {
  const { privateKey, publicKey, signer } = ownKey()
  const notBefore = now() - DAYS * DAY_MS
  const certificate = await selfSigned(signer, { commonName: 'assay agent', notBefore, days: 2 * DAYS, random })
  const thumbprint = thumbprintOf(publicKey.export({ format: 'jwk' }) as P256Jwk)
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  return { cert: pemOf('CERTIFICATE', certificate), key, certificate, thumbprint }
}

/** A key that `assay agent key` made in the TPM, and its certificate: OpenSSL has to know how to use it. */
export async function tpmIdentity(keyFile: string, certificateFile: string | undefined): Promise<Identity> {
  if (certificateFile === undefined)
    throw new AgentError('usage', 'wanted --key-certificate with --key: the proxy knows agents by their certificate')
  const [key, content] = await Promise.all([readBytes(keyFile), readBytes(certificateFile)])
  const { raw } = new X509Certificate(content)
  return { cert: pemOf('CERTIFICATE', raw), key: key.toString(), certificate: raw, thumbprint: undefined }
}
