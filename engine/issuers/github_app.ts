import { BrokerError } from '../errors.ts'
import { list, required, text } from '../fields.ts'
import type { Received, Sent } from '../http.ts'
import { Secret } from '../secret.ts'
import { baseAt, ceiling, isToken, objectIn, outbound, TRANSIT_KEY } from './common.ts'
import { type Credential, type Grant, type IssuerPorts, issuer, type Plan } from './issuer.ts'
import { refused, unusable, unwanted, wider } from './refusal.ts'

const settings = {
  api_url: baseAt('https://api.github.com', 'Where the REST API is.'),
  app_id: required(text('Client id or id of the app.', { form: [/^[A-Za-z0-9.]{1,64}$/, 'the client id or the id of the app'] })),
  installation_id: required(text('Id of the installation.', { form: [/^\d{1,20}$/, 'digits'] })),
  key: required(text('RSA key in transit: the private key of the app, imported.', { form: TRANSIT_KEY })),
  ceiling,
  ...outbound,
}

const role = {
  repositories: list('Names of the repositories that the token is for, without their owner.', {
    form: [/^[A-Za-z0-9._-]{1,100}$/, 'names of repositories'],
  }),
}

type Ports = IssuerPorts<typeof role, typeof settings>

/** An installation token: for named repositories and permissions, revoked when its lease ends (it would live an hour).
 *  @see https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app */
export const githubApp = issuer({
  summary: 'An installation token of a GitHub App for named repositories and permissions; revoked when its lease ends.',
  role,
  integration: { settings, secrets: {} },
  permissions: { form: [/^[a-z_]{1,64}:(?:read|write|admin)$/, 'permissions such as contents:read'], within: isWithin },
  check: ({ repositories }) => {
    if (repositories.length === 0) throw new BrokerError('bad_request', 'repositories: wanted at least one')
  },
  plan: (grant, ports) => ({ POST: tokensUrl(ports), ...asked(grant, ports) }),
  issue: async (grant, ports) => {
    const headers = { ...(await appHeaders(grant, ports)), 'content-type': 'application/json' }
    // each repository is told of at length
    const sent: Sent = {
      method: 'POST',
      url: tokensUrl(ports),
      headers,
      body: JSON.stringify(asked(grant, ports)),
      mostBytes: 2 ** 20,
    }
    const received = await ports.http.send(sent)
    const token = tokenIn(received)
    try {
      return await credentialOf(grant, ports, received)
    } catch (error) {
      if (!token) throw error
      return unwanted(
        error,
        () => revoke(ports, token),
        async () => ({ token: await ports.seal(token) }),
      )
    }
  },
  revoke: async (handle, ports) => revoke(ports, await ports.unseal(handle['token'] ?? '')),
})

const tokensUrl = ({ settings: { api_url, installation_id } }: Plan<typeof role, typeof settings>) =>
  `${api_url}/app/installations/${installation_id}/access_tokens`

function asked(grant: Grant, { role: { repositories } }: Plan<typeof role, typeof settings>): object {
  const permissions = Object.fromEntries(grant.permissions.map(one => one.split(':') as [string, string]))
  return { repositories, permissions }
}

export const API = { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28', 'user-agent': 'assay' }

/** A JWT for ten minutes at most; a minute back, for clocks that are behind. */
async function appHeaders(grant: Grant, { settings: { app_id, key }, signRs256 }: Ports): Promise<Record<string, string>> {
  const jwt = await signRs256(key, { iat: grant.issuedAt - 60, exp: grant.issuedAt + 540, iss: app_id })
  return { ...API, authorization: `Bearer ${jwt}` }
}

async function credentialOf(grant: Grant, ports: Ports, received: Received): Promise<Credential> {
  const { integration } = ports
  if (received.status >= 400) throw refused(integration, `status_${received.status}`)
  const token = tokenIn(received)
  if (received.status !== 201 || !token)
    throw unusable(integration, `status ${received.status} without the token that comes with 201`)
  const { expires_at, permissions, repository_selection, repositories } = objectIn(received)
  const expiresAt = typeof expires_at === 'string' ? Math.floor(Date.parse(expires_at) / 1000) : Number.NaN
  const names = namesIn(repositories)
  // its names have no case: it answers with the spelling of its own
  const wanted = ports.role.repositories.map(name => name.toLowerCase())
  if (repository_selection !== 'selected' || names?.some(name => !wanted.includes(name.toLowerCase())) !== false)
    throw wider(integration, 'the token is for more than the repositories that were asked for')
  const given = permissionsIn(permissions)
  if (!given?.every(one => IMPLIED.has(one) || grant.permissions.some(limit => isWithin(one, limit))))
    throw wider(integration, 'the token has permissions that were not asked for')
  const granted = { permissions: given, repositories: names }
  return { fields: { token }, tokenType: 'Bearer', expiresAt, granted, handle: { token: await ports.seal(token) } }
}

/** GitHub gives it with every token. */
const IMPLIED = new Set(['metadata:read'])
const LEVELS = ['read', 'write', 'admin']

function isWithin(permission: string, ceiling: string): boolean {
  const [name, level = ''] = permission.split(':')
  const [limited, most = ''] = ceiling.split(':')
  return name === limited && LEVELS.includes(level) && LEVELS.indexOf(level) <= LEVELS.indexOf(most)
}

function namesIn(repositories: unknown): readonly string[] | undefined {
  if (!Array.isArray(repositories)) return undefined
  const names: unknown[] = repositories.map(one => (one as { name?: unknown } | null)?.name)
  return names.every(name => typeof name === 'string') ? names : undefined
}

function permissionsIn(permissions: unknown): readonly string[] | undefined {
  if (typeof permissions !== 'object' || permissions === null) return undefined
  return Object.entries(permissions).map(([name, level]) => `${name}:${typeof level === 'string' ? level : '?'}`)
}

function tokenIn(received: Received): Secret | undefined {
  const { token } = objectIn(received)
  return isToken(token) ? new Secret(token) : undefined
}

/** 401 is a token that has ended or was revoked already. */
async function revoke({ http, settings: { api_url }, integration }: Ports, token: Secret): Promise<void> {
  const headers = { ...API, authorization: `Bearer ${token.reveal()}` }
  const { status } = await http.send({ method: 'DELETE', url: `${api_url}/installation/token`, headers })
  if (status !== 204 && status !== 401)
    throw new BrokerError('unavailable', `the integration ${integration} did not revoke: status ${status}`)
}
