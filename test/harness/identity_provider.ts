import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'
import { listening } from './listening.ts'
import { freePort } from './process.ts'

/** A real OpenID provider with its own sign-in pages; any name and password will do. */
export type IdentityProvider = AsyncDisposable & {
  readonly issuer: string
  readonly client: { readonly id: string; readonly secret: string }
  /** tokens that are live there, by kind */
  readonly introspect: (token: string) => Promise<Readonly<Record<string, unknown>>>
  /** paths that were asked for, in order */
  readonly asked: readonly string[]
  /** refresh tokens that were given out, in order */
  readonly refreshTokens: readonly string[]
}

/** Starts one that knows one client, which may send people back to `redirectUri`. */
export async function startIdentityProvider(redirectUri: string): Promise<IdentityProvider> {
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const client = { id: 'assay', secret: 'a-secret-of-the-client-and-of-this-test' }
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        // plain HTTP on the loopback is for native applications
        application_type: 'native',
        redirect_uris: [redirectUri],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
    ],
    scopes: ['openid', 'offline_access', 'repo:read', 'repo:write'],
    features: { introspection: { enabled: true }, revocation: { enabled: true } },
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: { AccessToken: 600, RefreshToken: 86_400 },
    cookies: { keys: ['a key of this test'] },
  })
  const refreshTokens: string[] = []
  // the identifier of an opaque token is the token
  provider.on('refresh_token.saved', ({ jti }) => void refreshTokens.push(jti))
  const answer = provider.callback()
  const asked: string[] = []
  const server = createServer((incoming, outgoing) => {
    asked.push(new URL(incoming.url ?? '', issuer).pathname)
    void answer(incoming, outgoing)
  })
  const listens = await listening(server, port)
  const introspect: IdentityProvider['introspect'] = async token => {
    const authorization = `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}`
    const body = new URLSearchParams({ token })
    const reply = await fetch(`${issuer}/token/introspection`, { method: 'POST', headers: { authorization }, body })
    return (await reply.json()) as Readonly<Record<string, unknown>>
  }
  return { issuer, client, introspect, asked, refreshTokens, [Symbol.asyncDispose]: listens[Symbol.asyncDispose] }
}
