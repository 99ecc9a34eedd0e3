import { randomUUID } from 'node:crypto'
import { type Arrived, type JsonServer, type Said, startJsonServer } from './json_server.ts'

type Kept = { version: string; value: string; attributes: { enabled: boolean; exp?: number } }

/** Azure Key Vault and the authority of its tenant, as far as their documents say how secrets are read and set:
 *  a challenge, client credentials, `GET` and `PUT /secrets/{name}`. It knows neither access policies nor throttling. */
export type KeyVault = JsonServer & {
  readonly secrets: Map<string, Kept>
  readonly tenant: string
  readonly client: { readonly id: string; secret: string }
  /** of the challenge */
  resource: string
  challengeTenant: string
  /** the tokens that it takes */
  readonly tokens: Set<string>
}

export async function startKeyVault(): Promise<KeyVault> {
  const server = await startJsonServer(arrived => answer(vault, arrived), 'localhost')
  const tenant = randomUUID()
  const parts = {
    secrets: new Map<string, Kept>(),
    tenant,
    client: { id: randomUUID(), secret: 'canary-client-secret' },
    resource: server.url,
    challengeTenant: tenant,
    tokens: new Set<string>(),
  }
  const vault: KeyVault = Object.assign(server, parts)
  return vault
}

function answer(vault: KeyVault, arrived: Arrived): Said {
  if (arrived.path === `/${vault.tenant}/oauth2/v2.0/token`) return token(vault, arrived)
  const name = /^\/secrets\/([0-9A-Za-z-]+)$/.exec(arrived.path)?.[1]
  if (!name || arrived.query.get('api-version') !== '7.6') return failed(404, 'BadRequest')
  const given = arrived.headers.authorization?.replace(/^Bearer /, '') ?? ''
  if (!vault.tokens.has(given)) return { ...failed(401, 'Unauthorized'), headers: { 'WWW-Authenticate': challenge(vault) } }
  return arrived.method === 'PUT' ? put(vault, name, arrived) : shown(vault, name)
}

function challenge({ url, challengeTenant, resource }: KeyVault): string {
  return `Bearer authorization="${url}/${challengeTenant}", resource="${resource}"`
}

function token(vault: KeyVault, { method, body }: Arrived): Said {
  const form = new URLSearchParams(body)
  const fine =
    method === 'POST' &&
    form.get('grant_type') === 'client_credentials' &&
    form.get('scope') === `${vault.resource}/.default` &&
    form.get('client_id') === vault.client.id &&
    form.get('client_secret') === vault.client.secret
  if (!fine) return { status: 401, body: { error: 'invalid_client', error_description: `AADSTS7000215 ${body}` } }
  const access_token = `token-${randomUUID()}`
  vault.tokens.add(access_token)
  return { status: 200, body: { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599, access_token } }
}

function put(vault: KeyVault, name: string, { body }: Arrived): Said {
  const { value, attributes = {} } = JSON.parse(body) as { value: string; attributes?: { exp?: number } }
  vault.secrets.set(name, { version: randomUUID().replaceAll('-', ''), value, attributes: { enabled: true, ...attributes } })
  return shown(vault, name)
}

function shown({ secrets, url }: KeyVault, name: string): Said {
  const kept = secrets.get(name)
  if (!kept) return failed(404, 'SecretNotFound')
  const { value, version, attributes } = kept
  return {
    status: 200,
    body: { value, id: `${url}/secrets/${name}/${version}`, attributes: { ...attributes, created: 1, updated: 1 } },
  }
}

const failed = (status: number, code: string): Said => ({ status, body: { error: { code, message: 'no' } } })
