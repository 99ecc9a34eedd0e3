import * as oauth from 'oauth4webapi'
import { BrokerError } from '../errors.ts'
import { Secret } from '../secret.ts'
import { isShort, isToken, saysJson } from './common.ts'
import type { Outbound } from './outbound.ts'
import { ExchangeRefusal, refused, unusable } from './refusal.ts'

/** A token request (RFC 6749, 3.2). `auth` proves who the client is; `proof` is a DPoP proof of the agent (RFC 9449, 5). */
export type TokenRequest = {
  readonly url: string
  readonly clientId: string
  readonly auth: oauth.ClientAuth
  readonly grantType: string
  readonly parameters: Readonly<Record<string, string>>
  readonly proof: string | undefined
  /** life of the token when the server may leave it out; without it that is unusable */
  readonly fallbackSeconds?: number
  /** What to do with what a success that cannot be used brought all the same; `why` it cannot. */
  readonly leave?: (left: Left, why: Error) => Promise<void>
}

/** Of a success that cannot be used: a token that may well live, and the refresh token that is the only one now. */
export type Left = { readonly token: Secret; readonly refreshToken: Secret | undefined }

export type TokenAnswer = {
  readonly token: string
  readonly type: 'Bearer' | 'DPoP'
  /** whole seconds */
  readonly expiresIn: number
  /** undefined when the server did not say: then it is what was asked for (RFC 6749, 5.1) */
  readonly scope: readonly string[] | undefined
  readonly refreshToken: Secret | undefined
  readonly issuedTokenType: string | undefined
}

export type ClientAuth = oauth.ClientAuth

/** How the broker proves that it is this client, with a secret at most. @throws BrokerError unavailable when that is missing */
export function clientAuth(
  integration: string,
  { client_auth, client_id }: { readonly client_auth: string; readonly client_id: string },
  secret: Secret | undefined,
): ClientAuth {
  // what identifies by its assertion alone has no name
  if (client_auth === 'none') return client_id === '' ? () => {} : oauth.None()
  if (!secret) throw new BrokerError('unavailable', `the integration ${integration} holds no client_secret`)
  return client_auth === 'client_secret_post' ? oauth.ClientSecretPost(secret.reveal()) : oauth.ClientSecretBasic(secret.reveal())
}

/** Asks a token endpoint. What it answers counts only if it is a whole and unambiguous success.
 *  @throws ExchangeRefusal EXCHANGE_REFUSED with the error code of the server, EXCHANGE_UNUSABLE for everything odd
 *  @throws BrokerError unavailable when it does not answer */
export async function askToken(http: Outbound, integration: string, request: TokenRequest): Promise<TokenAnswer> {
  const server = { issuer: new URL(request.url).origin, token_endpoint: request.url }
  const client = { client_id: request.clientId }
  const options = {
    [oauth.customFetch]: (url: string, init: oauth.CustomFetchOptions<'POST', URLSearchParams>) => http.fetch(url, init),
    // endpoints without TLS are on the loopback: the settings of the integration were checked when they were written
    [oauth.allowInsecureRequests]: true,
    ...(request.proof === undefined ? {} : { headers: { DPoP: request.proof } }),
  }
  const { auth, grantType, parameters } = request
  const response = await oauth
    .genericTokenEndpointRequest(server, client, auth, grantType, { ...parameters }, options)
    .catch((error: unknown) => {
      throw http.failure() ?? told(integration, error)
    })
  const raw: unknown = await response
    .clone()
    .json()
    .catch(() => undefined)
  try {
    if (response.ok && !saysJson(response.headers.get('content-type'))) throw unusable(integration, 'the answer is no JSON')
    return read(
      integration,
      { expires_in: request.fallbackSeconds, ...(raw as object) },
      await oauth.processGenericTokenEndpointResponse(server, client, withoutIdToken(response, raw)),
    )
  } catch (error) {
    const why = told(integration, error)
    const left = response.ok ? leftIn(raw) : undefined
    if (left) await request.leave?.(left, why)
    throw why
  }
}

/** Who logged in is nothing to an exchange; the library would want the ID token to be of an issuer that is the origin of the token endpoint, which those of
 *  many servers are not. */
function withoutIdToken(response: Response, raw: unknown): Response {
  if (!response.ok || typeof raw !== 'object' || raw === null || !('id_token' in raw)) return response
  const { id_token: _, ...rest } = raw
  return new Response(JSON.stringify(rest), response)
}

/** What the library lets pass and we do not: a life that is missing, or that is no whole number of seconds. */
function read(integration: string, { expires_in }: { expires_in?: unknown }, answer: oauth.TokenEndpointResponse): TokenAnswer {
  if (!Number.isSafeInteger(expires_in) || Number(expires_in) <= 0)
    throw unusable(integration, 'the token has no usable expires_in')
  if (!isToken(answer.access_token)) throw unusable(integration, 'the token has characters that no token has, or more of them')
  if (answer.refresh_token !== undefined && !isShort(answer.refresh_token))
    throw unusable(integration, 'the refresh token is longer than any')
  const { issued_token_type: issuedTokenType } = answer as { readonly issued_token_type?: unknown }
  if (issuedTokenType !== undefined && typeof issuedTokenType !== 'string')
    throw unusable(integration, 'the issued_token_type is no text')
  return {
    token: answer.access_token,
    type: answer.token_type === 'dpop' ? 'DPoP' : 'Bearer',
    expiresIn: Number(expires_in),
    scope: answer.scope?.split(' ').filter(one => one !== ''),
    refreshToken: answer.refresh_token === undefined ? undefined : new Secret(answer.refresh_token),
    issuedTokenType,
  }
}

function leftIn(raw: unknown): Left | undefined {
  const { access_token: token, refresh_token: refresh } = (raw ?? {}) as Readonly<Record<string, unknown>>
  if (!isToken(token)) return undefined
  return { token: new Secret(token), refreshToken: isToken(refresh) ? new Secret(refresh) : undefined }
}

const NONCE = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/

/** The errors of the library hold the whole response: of them only the kind and the error code go on. */
function told(integration: string, error: unknown): Error {
  if (error instanceof ExchangeRefusal || error instanceof BrokerError) return error
  if (error instanceof oauth.ResponseBodyError) {
    const nonce = error.response.headers.get('dpop-nonce') ?? ''
    if (error.error === 'use_dpop_nonce' && NONCE.test(nonce))
      return new ExchangeRefusal('PARAMETERS', `${integration}: give a DPoP proof with the nonce ${nonce}`)
    return refused(integration, error.error)
  }
  if (error instanceof oauth.WWWAuthenticateChallengeError) return refused(integration, error.cause[0]?.parameters.error)
  if (error instanceof oauth.OperationProcessingError)
    return unusable(integration, 'the answer of the token endpoint is no token response')
  // lists in lists, which nobody can write again
  if (error instanceof RangeError) return unusable(integration, 'the answer of the token endpoint cannot be read')
  if (error instanceof oauth.UnsupportedOperationError) return unusable(integration, 'the token is of a type that is not known')
  return error instanceof Error ? error : new Error('the token endpoint could not be asked')
}
