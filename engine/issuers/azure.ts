import { X509Certificate } from 'node:crypto'
import { BrokerError } from '../errors.ts'
import { required, text, type Values } from '../fields.ts'
import type { RootCredential } from '../integrations/port.ts'
import { Secret } from '../secret.ts'
import { claimsIn, lifeOf, notAsked } from './access_token.ts'
import { assertion } from './assertion.ts'
import { baseAt, isToken, outbound, subject, TRANSIT_KEY } from './common.ts'
import { type Credential, type Grant, type IssuerPorts, issuer } from './issuer.ts'
import { type Answered, msalTransport } from './msal_transport.ts'
import { isModestRsaKey } from './private_key.ts'
import { refreshing, replacing } from './refresh.ts'
import { refused, unusable, wider } from './refusal.ts'

const settings = {
  authority: baseAt('https://login.microsoftonline.com', 'Where Entra is, without the tenant.'),
  tenant_id: required(text('Tenant.', { form: [/^[A-Za-z0-9.-]{1,128}$/, 'the id or a domain of a tenant'] })),
  client_id: required(text('App registration.', { form: [/^[A-Za-z0-9-]{1,64}$/, 'the id of an application'] })),
  auth: text(
    'How the broker proves that it is this application. `federated`: a JWT of this mount, which a federated credential of the application trusts; no root key.',
    { fallback: 'federated', choices: ['secret', 'certificate', 'federated', 'refresh_token'] },
  ),
  certificate: text('Certificate of the application, PEM, for `auth=certificate`.', { fallback: '', max: 16_384 }),
  audience: text('Audience of the JWT, as the federated credential has it.', { fallback: 'api://AzureADTokenExchange' }),
  subject,
  signing_key: text(
    'RSA key in transit for the JWT (RS256); the key of the mount (ES256) when empty. Entra documents RS256 alone: with others it may work, and is not tested by its makers.',
    {
      fallback: '',
      form: TRANSIT_KEY,
    },
  ),
  ...outbound,
}

type Settings = Values<typeof settings>
type Ports = IssuerPorts<Record<never, never>, typeof settings>
type Msal = typeof import('@azure/msal-node')
type Client = InstanceType<Msal['ConfidentialClientApplication']>

/** An access token of Microsoft Entra for an application. Entra cannot narrow the permissions of an application per request: what narrows is the
 *  choice among several applications, each an integration of its own.
 *  @see https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow */
export const azure = issuer({
  summary: 'An access token of Microsoft Entra: client secret, certificate, federated credential or refresh token.',
  role: {},
  integration: {
    settings,
    secrets: {
      client_secret: { description: 'Secret of the application.', required: false },
      private_key: { description: 'Private key of the certificate, PEM.', required: false },
      refresh_token: { description: 'Refresh token of a user; replaced here when Entra replaces it.', required: false },
    },
  },
  cacheable: true,
  plan: (grant, { settings: own }) => ({
    POST: tokenUrl(own),
    client_id: own.client_id,
    auth: own.auth,
    scope: grant.scope.join(' '),
  }),
  issue: async (grant, ports) => {
    const msal = await sdk()
    if (ports.settings.auth === 'refresh_token') return refreshed(grant, ports, msal)
    const root = ports.settings.auth === 'federated' ? undefined : await ports.root.read()
    const { client, answered } = await clientOf(grant, ports, msal, root)
    await through(ports, () => client.acquireTokenByClientCredential({ ...PLAIN, scopes: [...grant.scope] }))
    return credentialOf(grant, ports, answered())
  },
})

/** Nothing from a cache, and no region of the environment: it would be another address. */
const PLAIN = { skipCache: true, azureRegion: 'DisableMsalForceRegion' } as const

async function sdk(): Promise<Msal> {
  try {
    return await import('@azure/msal-node')
  } catch (error) {
    throw new BrokerError('unavailable', 'the issuer azure needs the package @azure/msal-node: install it', { cause: error })
  }
}

type Place = Pick<Settings, 'authority' | 'tenant_id'>
const authorityOf = ({ authority, tenant_id }: Place) => `${authority}/${tenant_id}`
export const tokenUrl = (own: Place) => `${authorityOf(own)}/oauth2/v2.0/token`

async function clientOf(grant: Grant, ports: Ports, { ConfidentialClientApplication }: Msal, root: RootCredential | undefined) {
  const { settings: own, http } = ports
  const { transport, answered } = msalTransport(http)
  // metadata is given, so that nothing but the token endpoint is asked
  const authorityMetadata = JSON.stringify({
    issuer: `${authorityOf(own)}/v2.0`,
    authorization_endpoint: `${authorityOf(own)}/oauth2/v2.0/authorize`,
    token_endpoint: tokenUrl(own),
    jwks_uri: `${authorityOf(own)}/discovery/v2.0/keys`,
  })
  const client: Client = new ConfidentialClientApplication({
    auth: {
      clientId: own.client_id,
      authority: authorityOf(own),
      knownAuthorities: [new URL(own.authority).host],
      authorityMetadata,
      ...(await proofOf(grant, ports, root)),
    },
    system: {
      networkClient: transport,
      disableInternalRetries: true,
      loggerOptions: { loggerCallback: () => {}, piiLoggingEnabled: false },
    },
  })
  return { client, answered }
}

async function proofOf(grant: Grant, ports: Ports, root: RootCredential | undefined) {
  const { auth, certificate, audience, signing_key: rsaKey } = ports.settings
  if (auth === 'federated') return { clientAssertion: await assertion(grant, ports, audience, { rsaKey }) }
  if (auth !== 'certificate') return { clientSecret: secretIn(ports, root, 'client_secret').reveal() }
  const thumbprintSha256 = thumbprintOf(ports, certificate)
  const privateKey = secretIn(ports, root, 'private_key').reveal()
  if (!isModestRsaKey(privateKey))
    throw new BrokerError(
      'unavailable',
      `the integration ${ports.integration} wants an RSA key of at most 4096 bits as private_key`,
    )
  return { clientCertificate: { thumbprintSha256, privateKey } }
}

function secretIn({ integration }: Ports, root: RootCredential | undefined, name: string): Secret {
  const secret = root?.fields[name]
  if (!secret) throw new BrokerError('unavailable', `the integration ${integration} holds no ${name}`)
  return secret
}

function thumbprintOf({ integration }: Ports, pem: string): string {
  try {
    return new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase()
  } catch {
    throw new BrokerError('unavailable', `the integration ${integration} has a certificate that cannot be read`)
  }
}

/** As for every refresh token that rotates: what came anew is durable before anything is handed out. */
function refreshed(grant: Grant, ports: Ports, msal: Msal): Promise<Credential> {
  return refreshing(ports.root, async (root, hold) => {
    const alone = { ...ports, http: ports.http.under(hold) }
    const { client, answered } = await clientOf(grant, alone, msal, root)
    const refreshToken = secretIn(ports, root, 'refresh_token').reveal()
    const asked = through(alone, () => client.acquireTokenByRefreshToken({ refreshToken, scopes: [...grant.scope] }))
    const failure = await asked.then(
      () => undefined,
      (error: unknown) => ({ error }),
    )
    // also beside what MSAL does not take: the one before may be worth nothing now
    const { status, body } = answered()
    const next = status >= 200 && status < 300 ? body['refresh_token'] : undefined
    await replacing(ports.root, root)(isToken(next) ? new Secret(next) : undefined)
    if (failure) throw failure.error
    return credentialOf(grant, ports, answered())
  })
}

/** Errors of MSAL hold descriptions of Entra, which may repeat what was sent: of them only the error code goes on. */
async function through(ports: Ports, call: () => Promise<unknown>): Promise<void> {
  try {
    await call()
  } catch (error) {
    const { errorCode, errorMessage } = error as { errorCode?: unknown; errorMessage?: unknown }
    if (ports.http.failure()) throw ports.http.failure()
    // it stumbled over what it got
    if (typeof errorCode !== 'string') throw unusable(ports.integration, 'the answer of the token endpoint is no token response')
    throw refused(ports.integration, /AADSTS\d{1,9}/.exec(String(errorMessage))?.[0] ?? errorCode)
  }
}

/** MSAL takes a good deal for a success: what counts is the answer itself. */
function credentialOf(grant: Grant, { integration, now }: Ports, { status, body }: Answered): Credential {
  const { access_token, token_type, expires_in, scope, error } = body
  if (typeof error === 'string') throw refused(integration, error)
  if (status !== 200) throw unusable(integration, `status ${status} is no success`)
  if (!isToken(access_token)) throw unusable(integration, 'the answer has no access_token')
  if (typeof token_type !== 'string' || token_type.toLowerCase() !== 'bearer')
    throw unusable(integration, 'the token is of a type that is not known')
  if (typeof expires_in !== 'number' || !Number.isSafeInteger(expires_in) || expires_in <= 0)
    throw unusable(integration, 'the token has no usable expires_in')
  if (scope !== undefined && typeof scope !== 'string') throw unusable(integration, 'the scope is no text')
  const given = typeof scope === 'string' ? scope.split(' ').filter(one => one !== '' && !OF_LOGIN.has(one)) : grant.scope
  if (given.some(one => !isAsked(one, grant.scope))) throw wider(integration, 'the scope is wider than what was asked for')
  const claims = claimsIn(access_token) ?? {}
  if (notAsked(claims, grant.scope).some(one => !OF_LOGIN.has(one)))
    throw wider(integration, 'the token has scopes that were not asked for')
  return {
    fields: { token: new Secret(access_token) },
    tokenType: 'Bearer',
    expiresAt: grant.issuedAt + lifeOf(claims, expires_in, now()),
    granted: { scope: given, expires_in },
  }
}

/** MSAL asks for these by itself; they give no access to a resource. */
const OF_LOGIN = new Set(['openid', 'profile', 'email', 'offline_access'])

/** `<resource>/.default` stands for whatever of the resource the application was given. */
function isAsked(scope: string, asked: readonly string[]): boolean {
  return asked.some(one => one === scope || (one.endsWith('/.default') && scope.startsWith(one.slice(0, -'.default'.length))))
}
