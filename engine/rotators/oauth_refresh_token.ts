import { BrokerError } from '../errors.ts'
import { ExchangeRefusal } from '../issuers/refusal.ts'
import { askToken, clientAuth, type Left } from '../issuers/token_endpoint.ts'
import type { Secret } from '../secret.ts'
import { type RotatorPorts, rotator, type Secrets } from './rotator.ts'

/** A refresh token, by a refresh (RFC 6749, 6): servers that rotate answer with the next one, which the access token beside it proves.
 *  Whether the old one stays good until then is the server's to say; it is replaced here before anything else is done. */
export const oauthRefreshToken = rotator({
  summary: 'A refresh token: a refresh brings the next one where the server rotates them, and keeps it alive where it does not.',
  type: 'oauth2',
  settings: {},
  serves: ({ grant, client_auth }) => grant === 'refresh_token' && client_auth !== 'private_key_jwt',
  make: async (root, ports) => {
    const token = root['refresh_token']
    if (!token) throw new BrokerError('unavailable', `${ports.integration}: there is no refresh_token`)
    return { secrets: { refresh_token: (await refreshed(root, token, ports)) ?? token }, handle: {} }
  },
})

/** The next one, also from an answer of which nothing else can be used: the one before may be worth nothing now. */
async function refreshed(root: Secrets, token: Secret, ports: RotatorPorts): Promise<Secret | undefined> {
  const settings = { client_auth: String(ports.settings['client_auth']), client_id: String(ports.settings['client_id']) }
  let left: Secret | undefined
  const request = {
    url: String(ports.settings['token_url']),
    clientId: settings.client_id || 'none',
    auth: clientAuth(ports.integration, settings, root['client_secret']),
    grantType: 'refresh_token',
    parameters: { refresh_token: token.reveal() },
    proof: undefined,
    leave: async ({ refreshToken }: Left) => {
      left = refreshToken
    },
  }
  try {
    return (await askToken(ports.http, ports.integration, request)).refreshToken
  } catch (error) {
    if (left) return left
    if (error instanceof ExchangeRefusal)
      throw new BrokerError('unavailable', `${error.detail}: the refresh token was not replaced`)
    throw error
  }
}
