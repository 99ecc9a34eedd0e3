import { randomUUID } from 'node:crypto'
import { BrokerError } from '../errors.ts'
import { clientAssertion } from '../issuers/assertion.ts'
import { ExchangeRefusal } from '../issuers/refusal.ts'
import { askToken, type ClientAuth, clientAuth, type Left, type TokenRequest } from '../issuers/token_endpoint.ts'
import type { Secret } from '../secret.ts'
import { type Made, type RotatorPorts, rotator, type Secrets } from './rotator.ts'

/** A refresh token, by a refresh (RFC 6749, 6): servers that rotate answer with the next one, which the access token beside it proves.
 *  Whether the old one stays good until then is the server's to say; it is replaced here before anything else is done. */
export const oauthRefreshToken = rotator({
  summary: 'A refresh token: a refresh brings the next one where the server rotates them, and keeps it alive where it does not.',
  type: 'oauth2',
  settings: {},
  serves: ({ grant }) => grant === 'refresh_token',
  make: async (root, ports) => {
    const { token_url: url, client_id } = textsOf(ports)
    return nextOf(root, ports, { url, clientId: client_id || 'none', auth: await authOf(root, ports) })
  },
})

function textsOf({ settings: its }: RotatorPorts) {
  const text = (name: string) => String(its[name])
  const client = { client_id: text('client_id'), client_auth: text('client_auth') }
  return { ...client, token_url: text('token_url'), audience: text('audience'), signing_key: text('signing_key') }
}

async function authOf(root: Secrets, ports: RotatorPorts): Promise<ClientAuth> {
  const client = textsOf(ports)
  if (client.client_auth !== 'private_key_jwt') return clientAuth(ports.integration, client, root['client_secret'])
  const about = { txn: randomUUID(), jti: randomUUID(), issuedAt: Math.floor(ports.now() / 1000) }
  return clientAssertion(about, ports, client)
}

/** The next one, also from an answer of which nothing else can be used: the one before may be worth nothing now. */
export async function nextOf(
  root: Secrets,
  ports: RotatorPorts,
  client: Pick<TokenRequest, 'url' | 'clientId' | 'auth'>,
): Promise<Made> {
  const token = root['refresh_token']
  if (!token) throw new BrokerError('unavailable', `${ports.integration}: there is no refresh_token`)
  return { secrets: { refresh_token: (await refreshed(token, ports, client)) ?? token }, handle: {} }
}

async function refreshed(
  token: Secret,
  ports: RotatorPorts,
  client: Pick<TokenRequest, 'url' | 'clientId' | 'auth'>,
): Promise<Secret | undefined> {
  let left: Secret | undefined
  const request = {
    ...client,
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
