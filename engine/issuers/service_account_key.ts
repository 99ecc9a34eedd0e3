import { importPKCS8, SignJWT } from 'jose'
import { BrokerError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import type { Outbound } from './outbound.ts'
import { isModestRsaKey } from './private_key.ts'
import { askToken } from './token_endpoint.ts'

/** What a key of a Google service account says of itself: the JSON file as it came. */
export type AccountKey = { readonly client_email: string; readonly private_key: string; readonly private_key_id: string }

export const CLOUD = 'https://www.googleapis.com/auth/cloud-platform'

/** Undefined when it is none. */
export function accountKeyIn(secret: Secret | undefined): AccountKey | undefined {
  try {
    const read = JSON.parse(secret?.reveal() ?? '') as AccountKey
    return [read.client_email, read.private_key, read.private_key_id].every(one => typeof one === 'string') ? read : undefined
  } catch {
    return undefined
  }
}

type Ports = { readonly http: Outbound; readonly integration: string }

/** An access token of the account (RFC 7523, 2.1).
 *  @param start seconds since the epoch */
export async function tokenByKey({ http, integration }: Ports, url: string, key: AccountKey, start: number): Promise<string> {
  if (!isModestRsaKey(key.private_key)) noKey(integration)
  const pkcs8 = await importPKCS8(key.private_key, 'RS256').catch(() => noKey(integration))
  const assertion = await new SignJWT({ scope: CLOUD })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: key.private_key_id })
    .setIssuer(key.client_email)
    .setAudience(url)
    .setIssuedAt(start)
    .setExpirationTime(start + 300)
    .sign(pkcs8)
  const grantType = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
  const request = { url, clientId: 'none', auth: () => {}, grantType, proof: undefined, parameters: { assertion } }
  return (await askToken(http, integration, request)).token
}

export function noKey(integration: string): never {
  throw new BrokerError('unavailable', `the integration ${integration} holds no key of a service account`)
}
