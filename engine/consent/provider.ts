import { LRUCache } from 'lru-cache'
import * as oauth from 'oauth4webapi'
import { BrokerError } from '../errors.ts'
import { duration, list, map, required, text, type Values } from '../fields.ts'
import { endpoint, isShort, optionalEndpoint, outbound } from '../issuers/common.ts'
import type { FetchInit, Outbound } from '../issuers/outbound.ts'
import { ExchangeRefusal, refused, unusable } from '../issuers/refusal.ts'
import { clientAuth } from '../issuers/token_endpoint.ts'
import type { Secret } from '../secret.ts'

/** What an operator says of an identity provider that people consent at. */
export const providerFields = {
  issuer: endpoint('Issuer identifier of the authorization server.'),
  discovery: text('Where its metadata is: OpenID Connect Discovery, RFC 8414, or nowhere, when its endpoints are given here.', {
    fallback: 'oidc',
    choices: ['oidc', 'oauth2', 'none'],
  }),
  authorization_url: optionalEndpoint('Authorization endpoint, with discovery=none.'),
  token_url: optionalEndpoint('Token endpoint, with discovery=none.'),
  client_id: required(text('Client that the broker is there.', { max: 512 })),
  client_auth: text('How the broker proves that it is this client.', {
    fallback: 'client_secret_basic',
    choices: ['client_secret_basic', 'client_secret_post', 'none'],
  }),
  also_scope: list('Scope that is always asked for, so that there is a refresh token.', {
    fallback: ['openid', 'offline_access'],
  }),
  callback: text(
    'Where people come back: at the callback of all integrations, or at one of its own (`.../callback/MOUNT/INTEGRATION`), by which no other provider brings what this one gave.',
    { fallback: 'shared', choices: ['shared', 'own'] },
  ),
  authorization_parameters: map(
    'Parameters for the authorization endpoint that this provider wants besides, such as prompt=consent.',
  ),
  consent_ttl: duration('How long a consent counts, whatever the provider says.', { fallback: 30 * 86_400 }),
  ...outbound,
}
export type ProviderSettings = Values<typeof providerFields>

/** An authorization code flow with PKCE (RFC 6749 4.1, RFC 7636, RFC 9207, OpenID Connect Core 3.1), and what comes after. */
export type Provider = {
  /** where the person goes */
  readonly authorizationUrl: (
    journey: { state: string; nonce: string; verifier: string },
    scope: readonly string[],
    redirectUri: string,
  ) => Promise<URL>
  /** What came back is redeemed. @throws ExchangeRefusal when the person or the provider refused, or the answer is not for this journey */
  readonly redeem: (
    callback: URL,
    journey: { state: string; nonce: string; verifier: string },
    scope: readonly string[],
    redirectUri: string,
    secret: Secret | undefined,
  ) => Promise<Redeemed>
  /** Where people sign in, and where the broker redeems. @throws BrokerError unavailable when the metadata cannot be had */
  readonly authorizationEndpoint: () => Promise<string>
  readonly tokenEndpoint: () => Promise<string>
  /** Ends a token (RFC 7009), where the provider has an endpoint for that. @throws ExchangeRefusal, BrokerError when it did not */
  readonly revoke: (token: Secret, secret: Secret | undefined) => Promise<void>
}
export type Redeemed = {
  readonly refreshToken: string
  /** `sub` of the person, where the provider tells it; empty else */
  readonly subject: string
  /** undefined when the provider did not say: then it is what was asked for */
  readonly scope: readonly string[] | undefined
}

const METADATA_MS = 300_000
const known = new LRUCache<string, oauth.AuthorizationServer>({ max: 256, ttl: METADATA_MS })

export function openProvider(name: string, settings: ProviderSettings, http: Outbound): Provider {
  const options = {
    [oauth.customFetch]: (url: string, init: FetchInit) => http.fetch(url, init),
    // endpoints without TLS are on the loopback: the settings were checked when they were written
    [oauth.allowInsecureRequests]: true,
  }
  const client = { client_id: settings.client_id }
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      throw http.failure() ?? told(name, error)
    }
  }
  const server = () => guarded(() => metadataOf(name, settings, options))
  const authorizationEndpoint = async () => (await server()).authorization_endpoint ?? ''
  return {
    authorizationEndpoint,
    tokenEndpoint: async () => (await server()).token_endpoint ?? '',
    revoke: (token, secret) =>
      guarded(async () => {
        const as = await metadataOf(name, settings, options)
        if (!as.revocation_endpoint) return
        const auth = clientAuth(name, settings, secret)
        await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token.reveal(), options))
      }),
    authorizationUrl: async ({ state, nonce, verifier }, scope, redirectUri) => {
      const url = new URL(await authorizationEndpoint())
      const asked = askedFor(settings, scope)
      const parameters: Record<string, string> = {
        ...Object.fromEntries(Object.entries(settings.authorization_parameters).map(([key, value]) => [key, String(value)])),
        response_type: 'code',
        client_id: settings.client_id,
        redirect_uri: redirectUri,
        scope: asked.join(' '),
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        ...(asked.includes('openid') ? { nonce } : {}),
      }
      for (const [key, value] of Object.entries(parameters)) url.searchParams.set(key, value)
      return url
    },
    redeem: (callback, { state, nonce, verifier }, scope, redirectUri, secret) =>
      guarded(async () => {
        const as = await metadataOf(name, settings, options)
        const answer = oauth.validateAuthResponse(as, client, callback, state)
        const auth = clientAuth(name, settings, secret)
        const response = await oauth.authorizationCodeGrantRequest(as, client, auth, answer, redirectUri, verifier, options)
        const openid = askedFor(settings, scope).includes('openid')
        const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, {
          expectedNonce: openid ? nonce : oauth.expectNoNonce,
          requireIdToken: openid,
        })
        return redeemedOf(name, tokens)
      }),
  }
}

function askedFor({ also_scope }: ProviderSettings, scope: readonly string[]): readonly string[] {
  return [...new Set([...also_scope, ...scope])]
}

type Options = {
  [oauth.customFetch]: (url: string, init: FetchInit) => Promise<Response>
  [oauth.allowInsecureRequests]: boolean
}

async function metadataOf(name: string, settings: ProviderSettings, options: Options): Promise<oauth.AuthorizationServer> {
  const { issuer, discovery, authorization_url, token_url } = settings
  if (discovery === 'none') return { issuer, authorization_endpoint: authorization_url, token_endpoint: token_url }
  const key = JSON.stringify([issuer, discovery, settings.ca])
  const there = known.get(key)
  if (there) return there
  const url = new URL(issuer)
  const algorithm = discovery === 'oidc' ? 'oidc' : 'oauth2'
  const metadata = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { ...options, algorithm }))
  const { authorization_endpoint, token_endpoint, revocation_endpoint } = metadata
  if ([authorization_endpoint, token_endpoint, revocation_endpoint].some(url => url !== undefined && !isGuarded(url, issuer)))
    throw unusable(name, 'the metadata of the provider names an endpoint without TLS')
  known.set(key, metadata)
  return metadata
}

/** As what an operator may write: nobody on the way reads what goes there. A provider elsewhere does not say what is asked on this machine. */
function isGuarded(url: string, issuer: string): boolean {
  if (!URL.canParse(url)) return false
  const { protocol, hostname } = new URL(url)
  if (protocol === 'https:') return true
  return protocol === 'http:' && issuer.startsWith('http:') && ['127.0.0.1', 'localhost', '[::1]'].includes(hostname)
}

/** OpenID Connect Core 1.0, section 2: 255 ASCII characters at most. Operators see it in a terminal, which would obey others. */
const SUBJECT = /^[\x20-\x7e]{0,255}$/

function redeemedOf(name: string, tokens: oauth.TokenEndpointResponse): Redeemed {
  if (!tokens.refresh_token)
    throw unusable(name, 'the provider gave no refresh token: see also_scope and authorization_parameters')
  if (!isShort(tokens.refresh_token)) throw unusable(name, 'the refresh token is longer than any')
  const { sub = '' } = oauth.getValidatedIdTokenClaims(tokens) ?? {}
  if (!SUBJECT.test(sub)) throw unusable(name, 'the person is named by what is no name')
  return {
    refreshToken: tokens.refresh_token,
    subject: sub,
    scope: tokens.scope?.split(' ').filter(one => one !== ''),
  }
}

/** The errors of the library hold the whole response: of them only the kind and the error code go on. */
function told(name: string, error: unknown): Error {
  if (error instanceof ExchangeRefusal || error instanceof BrokerError) return error
  if (error instanceof oauth.AuthorizationResponseError) return refused(name, error.error)
  if (error instanceof oauth.ResponseBodyError) return refused(name, error.error)
  if (error instanceof oauth.OperationProcessingError) return unusable(name, 'what came back does not belong to what was sent')
  return unusable(name, 'the provider does not speak the protocol')
}
