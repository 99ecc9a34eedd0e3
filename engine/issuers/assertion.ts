import type { Grant, IssuerPorts } from './issuer.ts'
import type { ClientAuth } from './token_endpoint.ts'

const SECONDS = 60

/** What an assertion is made for. */
export type Asked = Pick<Grant, 'txn' | 'jti' | 'issuedAt'>
type Signing = Pick<IssuerPorts, 'integration' | 'key' | 'sign' | 'signRs256'>

/** A JWT that says to one provider who asks and for what (RFC 7523, 3): signed in transit, for a minute, so that no root key is needed.
 *  @param more claims that the provider understands beyond those
 *  @param rsaKey key of the operator in transit, for providers that verify RS256 only; the key of the mount when empty */
export async function assertion(
  about: Asked,
  ports: Signing & { readonly issuerUrl: string; readonly settings: { readonly subject: string } },
  audience: string,
  { more = {}, rsaKey = '' }: { readonly more?: object; readonly rsaKey?: string } = {},
): Promise<string> {
  const claims = {
    iss: ports.issuerUrl,
    sub: ports.settings.subject || `integration:${ports.integration}`,
    aud: audience,
    iat: about.issuedAt,
    nbf: about.issuedAt,
    exp: about.issuedAt + SECONDS,
    jti: about.jti,
    txn: about.txn,
    ...more,
  }
  return rsaKey === '' ? ports.sign(await ports.key(), 'JWT', claims) : ports.signRs256(rsaKey, claims)
}

type Client = { readonly client_id: string; readonly token_url: string; readonly audience: string; readonly signing_key: string }

/** Proves to be a client by a key in transit: `private_key_jwt` (RFC 7523, 2.2; OpenID Connect Core 1.0, section 9). */
export async function clientAssertion(about: Asked, ports: Signing, client: Client): Promise<ClientAuth> {
  const { client_id, token_url, audience, signing_key: rsaKey } = client
  const asClient = { ...ports, issuerUrl: client_id, settings: { subject: client_id } }
  const signed = await assertion(about, asClient, audience || token_url, { rsaKey })
  return (_server, _client, body) => {
    body.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
    body.set('client_assertion', signed)
  }
}

/** Who acts, for whom: what a provider may decide by and will have in its log. */
export function actorClaims({ tpmId, plugin, action, task }: Grant): object {
  const about = task ? { org: task.org, task: task.task, user: task.user } : {}
  const said = Object.entries(about).filter(([, value]) => value !== '')
  return { client_id: tpmId, plugin, action, ...Object.fromEntries(said) }
}
