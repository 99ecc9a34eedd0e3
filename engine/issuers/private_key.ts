import { createPrivateKey } from 'node:crypto'

const MOST_BITS = 4096

/** Whether that is an RSA key that signs in milliseconds: one of 65536 bits takes minutes, and with MSAL nobody is served meanwhile. A store, or a provider
 *  that made the key, may hold anything. */
export function isModestRsaKey(pem: string): boolean {
  try {
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = createPrivateKey(pem)
    return type === 'rsa' && (details?.modulusLength ?? Number.POSITIVE_INFINITY) <= MOST_BITS
  } catch {
    return false
  }
}
