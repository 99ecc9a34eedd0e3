import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader } from 'jose'
import { BrokerError } from '../errors.ts'
import { required, text, type Values } from '../fields.ts'
import type { RootCredential } from '../integrations/port.ts'
import { Secret } from '../secret.ts'
import { type Claims, claimsIn, lifeOf, notAsked, notFor } from './access_token.ts'
import { type Asked, actorClaims, assertion, clientAssertion } from './assertion.ts'
import { ceiling, endpoint, optionalEndpoint, outbound, plainWithin, subject, TRANSIT_KEY } from './common.ts'
import { type Credential, type Grant, type IssuerPorts, issuer, type Plan } from './issuer.ts'
import { type Replaced, reasonOf, refreshing, replacing } from './refresh.ts'
import { ExchangeRefusal, unusable, unwanted, wider } from './refusal.ts'
import { askToken, type ClientAuth, clientAuth, type TokenAnswer } from './token_endpoint.ts'

const GRANTS = {
  client_credentials: 'client_credentials',
  refresh_token: 'refresh_token',
  token_exchange: 'urn:ietf:params:oauth:grant-type:token-exchange',
  jwt_bearer: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
} as const

const settings = {
  token_url: endpoint('Token endpoint.'),
  revocation_url: optionalEndpoint('Revocation endpoint (RFC 7009); what was issued is revoked there when its lease ends.'),
  grant: required(
    text('How a token is asked for: RFC 6749 4.4 and 6, RFC 8693, RFC 7523 2.1.', {
      choices: Object.keys(GRANTS) as (keyof typeof GRANTS)[],
    }),
  ),
  client_id: text('Client that the broker is; none for grants by assertion that identify by themselves.', { fallback: '' }),
  client_auth: text('How the broker proves that it is this client; `private_key_jwt` by a key in transit.', {
    fallback: 'client_secret_basic',
    choices: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  }),
  audience: text('Audience of assertions that the broker signs; the token endpoint when empty.', { fallback: '' }),
  subject,
  signing_key: text('RSA key in transit for these assertions (RS256); the key of the mount (ES256) when empty.', {
    fallback: '',
    form: TRANSIT_KEY,
  }),
  ceiling,
  ...outbound,
}

const role = {
  target: text('How the audience of the request is told to the provider (RFC 8707 `resource`, RFC 8693 `audience`).', {
    fallback: 'none',
    choices: ['none', 'resource', 'audience'],
  }),
  dpop: text(
    '`required`: the token is bound to the key of the machine. The agent gives a DPoP proof for the token endpoint in `parameters` (`dpop`).',
    { fallback: 'none', choices: ['none', 'required'] },
  ),
}

type Ports = IssuerPorts<typeof role, typeof settings>
type Settings = Values<typeof settings>

/** An access token of an OAuth 2.0 authorization server. */
export const oauth2 = issuer({
  summary: 'An access token of an OAuth 2.0 server: client credentials, refresh token, token exchange or assertion; DPoP.',
  role,
  integration: {
    settings,
    secrets: {
      client_secret: { description: 'Secret of the client.', required: false },
      refresh_token: { description: 'Refresh token; replaced here when the server replaces it.', required: false },
    },
  },
  cacheable: true,
  check: ({ dpop }, { delivery }) => {
    // the proxy has no key of the machine, and the agent never sees the token
    if (dpop === 'required' && delivery === 'sealed')
      throw new BrokerError('bad_request', 'dpop: a sealed token is bound to the certificate of the machine instead')
  },
  plan: (grant, ports) => ({ POST: ports.settings.token_url, grant_type: grantType(ports.settings), ...asked(grant, ports) }),
  issue: async (grant, ports) => {
    const proof = await proofOf(grant, ports)
    const answer = await (ports.settings.grant === 'refresh_token'
      ? refreshed(grant, ports, proof)
      : plainly(grant, ports, proof))
    try {
      return await credentialOf(grant, ports, answer)
    } catch (error) {
      return ended(grant, ports, new Secret(answer.token), error)
    }
  },
  revocable: ({ revocation_url }) => revocation_url !== '',
  revoke: async ({ token = '', txn = '' }, ports) => revoke(txn, ports, await ports.unseal(token)),
})

const grantType = ({ grant }: Settings) => GRANTS[grant]

/** The parameters that say what is wanted; nothing secret. */
function asked(
  grant: Grant,
  { role: { target }, settings: { grant: kind, ceiling: limits }, integration }: Plan<typeof role, typeof settings>,
): Record<string, string> {
  // no scope at all would be whatever the server has for the client
  const isAllowed = (one: string) => limits.some(limit => plainWithin(one, limit))
  if (limits.length > 0 && !(grant.scope.length > 0 && grant.scope.every(isAllowed)))
    throw new ExchangeRefusal('SCOPE', `${integration}: the ceiling of the integration is ${limits.join(', ')}`)
  return {
    ...(grant.scope.length > 0 ? { scope: grant.scope.join(' ') } : {}),
    ...(target === 'none' ? {} : { [target]: grant.audience }),
    ...(kind === 'token_exchange' ? { subject_token_type: JWT, requested_token_type: ACCESS_TOKEN } : {}),
  }
}

const JWT = 'urn:ietf:params:oauth:token-type:jwt'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

/** What an assertion is called, where the grant is one. */
const ASSERTED: { readonly [grant in keyof typeof GRANTS]?: string } = {
  token_exchange: 'subject_token',
  jwt_bearer: 'assertion',
}

/** Client credentials, or an assertion that says who acts: what it needs of the root credential is the secret of the client at most. */
async function plainly(grant: Grant, ports: Ports, proof: string | undefined): Promise<TokenAnswer> {
  const name = ASSERTED[ports.settings.grant]
  const proving = name ? { [name]: await signed(grant, ports, actorClaims(grant)) } : {}
  const root = needsSecret(ports.settings) ? await ports.root.read() : undefined
  return ask(grant, ports, proof, { ...asked(grant, ports), ...proving }, root)
}

const needsSecret = ({ client_auth }: Settings) => client_auth.startsWith('client_secret')

/** What the server gave anew is durable before anything is handed out. */
function refreshed(grant: Grant, ports: Ports, proof: string | undefined): Promise<TokenAnswer> {
  return refreshing(ports.root, async (root, hold) => {
    const token = root.fields['refresh_token']
    if (!token) throw new BrokerError('unavailable', `the integration ${ports.integration} holds no refresh_token`)
    const replaced = replacing(ports.root, root)
    const parameters = { ...asked(grant, ports), refresh_token: token.reveal() }
    const answer = await ask(grant, ports, proof, parameters, root, { http: ports.http.under(hold), replaced })
    await replaced(answer.refreshToken).catch((error: unknown) => ended(grant, ports, new Secret(answer.token), error))
    return answer
  })
}

/** How a token is asked for, and what is done with the refresh token that comes with it. */
type Asking = Pick<Ports, 'http'> & { readonly replaced: Replaced }

async function ask(
  grant: Grant,
  ports: Ports,
  proof: string | undefined,
  parameters: Readonly<Record<string, string>>,
  root: RootCredential | undefined,
  { http, replaced }: Asking = { http: ports.http, replaced: async () => {} },
): Promise<TokenAnswer> {
  const { token_url: url, client_id: clientId } = ports.settings
  const auth = await authOf(grant, ports, root)
  return askToken(http, ports.integration, {
    url,
    clientId: clientId || 'none',
    auth,
    grantType: grantType(ports.settings),
    parameters,
    proof,
    leave: async ({ token, refreshToken }, why) => {
      await ended(grant, ports, token, await reasonOf(why, replaced(refreshToken)))
    },
  })
}

/** No server takes an assertion twice, and whoever waited for a turn asks late: each has a name and a time of its own. */
async function authOf({ txn }: Pick<Grant, 'txn'>, ports: Ports, root: RootCredential | undefined): Promise<ClientAuth> {
  if (ports.settings.client_auth !== 'private_key_jwt')
    return clientAuth(ports.integration, ports.settings, root?.fields['client_secret'])
  const about = { txn, jti: randomUUID(), issuedAt: Math.floor(ports.now() / 1000) }
  return clientAssertion(about, ports, ports.settings)
}

function signed(about: Asked, ports: Ports, more: object = {}): Promise<string> {
  const { audience, token_url, signing_key: rsaKey } = ports.settings
  return assertion(about, ports, audience || token_url, { more, rsaKey })
}

/** The agent's own proof for the token endpoint, so that the token is bound to a key that we never hold. Its signature is the server's to verify;
 *  that it is by the key of the login is ours. */
async function proofOf(
  grant: Grant,
  { role: { dpop }, settings: { token_url }, integration }: Ports,
): Promise<string | undefined> {
  if (dpop === 'none') return undefined
  const proof = grant.parameters['dpop']
  const wanted = new ExchangeRefusal(
    'PARAMETERS',
    `${integration}: give dpop, a DPoP proof of the bound key for POST ${token_url}`,
  )
  if (typeof proof !== 'string') throw wanted
  try {
    const { jwk } = decodeProtectedHeader(proof)
    const { htm, htu } = decodeJwt(proof)
    const by = await calculateJwkThumbprint(jwk as Parameters<typeof calculateJwkThumbprint>[0])
    if (grant.keyThumbprint !== '' && by === grant.keyThumbprint && htm === 'POST' && htu === token_url) return proof
  } catch {}
  throw wanted
}

async function credentialOf(grant: Grant, ports: Ports, answer: TokenAnswer): Promise<Credential> {
  const { integration, settings: own } = ports
  const claims = claimsIn(answer.token)
  const above = (answer.scope ?? grant.scope).filter(one => !grant.scope.includes(one))
  if (above.length > 0) throw wider(integration, `the scope has ${above.length} values that were not asked for`)
  if (claims) assertNarrow(grant, ports, claims)
  if (answer.issuedTokenType !== undefined && answer.issuedTokenType !== ACCESS_TOKEN && answer.issuedTokenType !== JWT)
    throw unusable(integration, 'the token is no access token')
  if (ports.role.dpop === 'required' && !isBound(answer, claims, grant))
    throw wider(integration, 'the token is not bound to the key')
  const token = new Secret(answer.token)
  return {
    fields: { token },
    tokenType: answer.type,
    expiresAt: grant.issuedAt + lifeOf(claims ?? {}, answer.expiresIn, ports.now()),
    granted: { scope: answer.scope ?? grant.scope, expires_in: answer.expiresIn },
    ...(own.revocation_url === '' ? {} : { handle: await handleOf(grant, ports, token) }),
  }
}

function assertNarrow({ scope, audience }: Grant, { role: { target }, integration }: Ports, claims: Claims): void {
  const above = notAsked(claims, scope)
  if (above.length > 0) throw wider(integration, `the token has ${above.length} scopes that were not asked for`)
  if (target !== 'none' && notFor(claims, audience).length > 0)
    throw wider(integration, 'the token is for another audience than was asked for')
}

async function handleOf({ txn }: Grant, ports: Ports, token: Secret): Promise<Readonly<Record<string, string>>> {
  return { token: await ports.seal(token), txn }
}

/** Of what nobody gets. */
async function ended(grant: Grant, ports: Ports, token: Secret, why: unknown): Promise<never> {
  if (ports.settings.revocation_url === '') throw why
  return unwanted(
    why,
    () => revoke(grant.txn, ports, token),
    () => handleOf(grant, ports, token),
  )
}

/** A token that can be read says to which key it is bound; of another we have the word of the server. */
function isBound({ type }: TokenAnswer, claims: Claims | undefined, grant: Grant): boolean {
  const { jkt } = (claims?.['cnf'] ?? {}) as { readonly jkt?: unknown }
  return type === 'DPoP' && (claims === undefined || jkt === grant.keyThumbprint)
}

/** RFC 7009: what the server does not know any more is revoked, and it answers 200 to that too. */
async function revoke(txn: string, ports: Ports, token: Secret): Promise<void> {
  const { revocation_url: url, client_id } = ports.settings
  if (url === '') throw new BrokerError('unavailable', `the integration ${ports.integration} has no revocation_url any more`)
  const root = needsSecret(ports.settings) ? await ports.root.read() : undefined
  const body = new URLSearchParams({ token: token.reveal(), token_type_hint: 'access_token' })
  const headers = new Headers({ 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' })
  const auth = await authOf({ txn }, ports, root)
  await auth({ issuer: new URL(url).origin }, { client_id }, body, headers)
  const { status } = await ports.http.send({ method: 'POST', url, headers: Object.fromEntries(headers), body: body.toString() })
  if (status !== 200)
    throw new BrokerError('unavailable', `the integration ${ports.integration} did not revoke: status ${status}`)
}
