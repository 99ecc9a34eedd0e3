import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { Signer } from './certificate.ts'

/** A new P-256 key that is nowhere but in this process. */
export function ownKey(): { readonly privateKey: KeyObject; readonly publicKey: KeyObject; readonly signer: Signer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const signer = {
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    sign: async (data: Uint8Array) => sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
  }
  return { privateKey, publicKey, signer }
}
