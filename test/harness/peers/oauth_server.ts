import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { text } from 'node:stream/consumers'
import * as jose from 'jose'
import { type ClientMetadata, type Configuration, errors, Provider } from 'oidc-provider'
import { listening } from '../listening.ts'
import { freePort } from '../process.ts'

/** An OAuth 2.0 authorization server (oidc-provider), with what its makers leave to its users: RFC 8693 and RFC 7523 for assertions of one issuer. */
export type OauthServer = AsyncDisposable & {
  readonly url: string
  /** how many tokens it gave */
  readonly granted: () => number
  /** A refresh token as a person's consent would have left it. */
  readonly refreshToken: (clientId: string, scope: string) => Promise<string>
  /** What the server knows of a token. */
  readonly introspect: (token: string) => Promise<Readonly<Record<string, unknown>>>
}

export type OauthServerOptions = {
  readonly clients: readonly ClientMetadata[]
  readonly scopes: readonly string[]
  readonly tls?: { readonly cert: string; readonly key: string }
  /** where it is mounted, such as `/tenant` */
  readonly path?: string
  readonly tokenPath?: string
  /** whose assertions it takes, and for whom they have to be */
  readonly trusts?: { readonly issuer: string; readonly jwk: jose.JWK; readonly audience: string }
  /** As Entra has them: a JWT of this issuer, subject and audience proves to be the client. The client is registered by its secret. */
  readonly federated?: {
    readonly client: string
    readonly secret: string
    readonly jwk: jose.JWK
    readonly issuer: string
    readonly subject: string
    readonly audience: string
  }
  readonly resource?: string
  /** of access tokens; opaque when nothing is said */
  readonly tokenFormat?: 'opaque' | 'jwt'
  readonly ttlSeconds?: number
  readonly nonces?: boolean
}

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

export async function startOauthServer(options: OauthServerOptions): Promise<OauthServer> {
  const { tls, path = '', trusts, ttlSeconds = 600 } = options
  const port = await freePort()
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${port}${path}`
  const provider = new Provider(url, configuration(options, ttlSeconds))
  let granted = 0
  provider.on('grant.success', () => granted++)
  if (trusts) for (const grant of [EXCHANGE, BEARER]) registerAssertion(provider, grant, trusts, ttlSeconds)
  const callback = provider.callback()
  // mounted below a path, as tenants of Entra are
  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (!incoming.url?.startsWith(path)) return void outgoing.writeHead(404).end()
    if (options.federated) Object.assign(incoming, await federatedBody(incoming, options.federated))
    Object.assign(incoming, { originalUrl: incoming.url, baseUrl: path, url: incoming.url.slice(path.length) || '/' })
    void callback(incoming, outgoing)
  }
  const listener: RequestListener = (incoming, outgoing) => void answer(incoming, outgoing)
  const server = tls ? createTlsServer(tls, listener) : createServer(listener)
  const listens = await listening(server, port)
  return {
    url,
    granted: () => granted,
    refreshToken: async (clientId, scope) => {
      const grant = new provider.Grant({ accountId: 'alice', clientId })
      grant.addOIDCScope(scope)
      const grantId = await grant.save()
      const client = await provider.Client.find(clientId)
      if (!client) throw new Error(`no client ${clientId}`)
      const token = new provider.RefreshToken({
        accountId: 'alice',
        client,
        grantId,
        gty: 'authorization_code',
        scope,
        rotations: 0,
        iiat: Math.floor(Date.now() / 1000),
      })
      return token.save()
    },
    introspect: async token => {
      const found = await provider.AccessToken.find(token)
      const own = found ?? (await provider.ClientCredentials.find(token))
      return own ? { active: own.isValid, scope: own.scope, jkt: (own as { jkt?: string }).jkt } : { active: false }
    },
    [Symbol.asyncDispose]: listens[Symbol.asyncDispose],
  }
}

/** The parsed body, with the client's secret in place of an assertion that the federated credential trusts. */
async function federatedBody(
  incoming: IncomingMessage,
  { client, secret, jwk, issuer, subject, audience }: NonNullable<OauthServerOptions['federated']>,
): Promise<object> {
  const body: Record<string, string> = Object.fromEntries(new URLSearchParams(await text(incoming)))
  const { client_assertion = '', client_assertion_type: _, ...rest } = body
  if (rest['client_id'] !== client || client_assertion === '') return { body }
  const checks = { issuer, audience, subject, algorithms: ['ES256', 'RS256'], requiredClaims: ['exp', 'jti'] }
  const proven = await jose.jwtVerify(client_assertion, await jose.importJWK(jwk, 'ES256'), checks).catch(() => undefined)
  return { body: proven ? { ...rest, client_secret: secret } : rest }
}

function configuration(options: OauthServerOptions, ttl: number): Configuration {
  const { clients, scopes, tokenPath, resource, nonces, tokenFormat = 'opaque' } = options
  return {
    clients: clients.map(client => ({ ...client })),
    scopes: ['openid', 'offline_access', ...scopes],
    routes: tokenPath ? { token: tokenPath } : {},
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      dPoP: { enabled: true, ...(nonces ? { nonceSecret: randomBytes(32), requireNonce: () => true } : {}) },
      resourceIndicators: {
        enabled: resource !== undefined,
        defaultResource: () => resource ?? '',
        getResourceServerInfo: () => ({ scope: scopes.join(' '), accessTokenTTL: ttl, accessTokenFormat: tokenFormat }),
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    ttl: { AccessToken: ttl, ClientCredentials: ttl, RefreshToken: 86_400, Grant: 86_400 },
    cookies: { keys: ['a key of this test'] },
  }
}

/** The two grants by assertion: what is asked for is given to whoever a trusted JWT names. */
function registerAssertion(
  provider: Provider,
  grant: string,
  { issuer, jwk, audience }: NonNullable<OauthServerOptions['trusts']>,
  ttl: number,
): void {
  const used = new Set<string>()
  const parameters = ['assertion', 'subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope']
  provider.registerGrantType(
    grant,
    async ctx => {
      const { params, client } = ctx.oidc as unknown as { params: Record<string, string | undefined>; client: object }
      const assertion = params['assertion'] ?? params['subject_token'] ?? ''
      const key = await jose.importJWK(jwk)
      const checks = { issuer, audience, algorithms: [jwk.alg ?? 'ES256'], requiredClaims: ['exp', 'jti', 'sub'] }
      const { payload } = await jose.jwtVerify(assertion, key, checks).catch(() => {
        throw new errors.InvalidGrant('the assertion is not good')
      })
      const once = createHash('sha256').update(String(payload.jti)).digest('hex')
      if (used.has(once)) throw new errors.InvalidGrant('the assertion was used')
      used.add(once)
      const token = new provider.ClientCredentials({ client: client as never, scope: params['scope'] ?? '' })
      const issued = grant === EXCHANGE ? { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' } : {}
      ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: ttl, scope: params['scope'], ...issued }
    },
    parameters,
    ['resource', 'audience'],
  )
}
