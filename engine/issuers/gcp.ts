import { BrokerError } from '../errors.ts'
import { list, map, required, text, type Values } from '../fields.ts'
import type { Received } from '../http.ts'
import { Secret } from '../secret.ts'
import { claimsIn } from './access_token.ts'
import { assertion } from './assertion.ts'
import { baseAt, endpointAt, isToken, objectIn, outbound, subject, TRANSIT_KEY } from './common.ts'
import { type Credential, type Grant, type IssuerPorts, issuer, type Plan } from './issuer.ts'
import { refused, unusable, wider } from './refusal.ts'
import { accountKeyIn, CLOUD, noKey, tokenByKey } from './service_account_key.ts'
import { askToken } from './token_endpoint.ts'

const EMAIL = [/^[a-z0-9-]{1,63}@[a-z0-9.-]{1,255}$/, 'the e-mail address of a service account'] as const

const settings = {
  auth: text(
    '`federated`: a JWT of this mount, which a workload identity pool trusts; no root key. `key`: a key of a service account.',
    { fallback: 'federated', choices: ['federated', 'key'] },
  ),
  provider: text('Workload identity provider: `//iam.googleapis.com/projects/.../providers/...`.', {
    fallback: '',
    form: [/^$|^\/\/iam\.googleapis\.com\/\S{1,512}$/, 'the full name of a workload identity provider'],
  }),
  subject,
  signing_key: text('RSA key in transit for the JWT (RS256); the key of the mount (ES256) when empty.', {
    fallback: '',
    form: TRANSIT_KEY,
  }),
  sts_url: endpointAt('https://sts.googleapis.com/v1/token', 'Security Token Service.'),
  token_url: endpointAt('https://oauth2.googleapis.com/token', 'Token endpoint for keys of service accounts.'),
  iam_url: baseAt('https://iamcredentials.googleapis.com', 'IAM Service Account Credentials.'),
  ...outbound,
}

const role = {
  service_account: required(text('Service account to impersonate.', { form: EMAIL })),
  delegates: list('Service accounts between ours and that one.', { form: EMAIL }),
  gcp_token: text('`access`: an access token for the scopes. `id`: an ID token for the audience.', {
    fallback: 'access',
    choices: ['access', 'id'],
  }),
  boundary: map(
    'Credential access boundary: `{"rules":[{"availableResource":"//storage.googleapis.com/projects/_/buckets/b","expression":"..."}]}`; what is available there are the permissions of the action, such as inRole:roles/storage.objectViewer.',
  ),
}

type Ports = IssuerPorts<typeof role, typeof settings>
type Planned = Plan<typeof role, typeof settings>

/** A token of a Google service account by impersonation, narrowed by a credential access boundary where the role has one.
 *  @see https://cloud.google.com/iam/docs/reference/credentials/rest and https://cloud.google.com/iam/docs/downscoping-short-lived-credentials */
export const gcp = issuer({
  summary: 'A Google access or ID token by impersonation, with a credential access boundary where the role has one.',
  role,
  integration: {
    settings,
    secrets: { key: { description: 'Key of a service account: the JSON file as it came.', required: false } },
  },
  cacheable: true,
  permissions: {
    wanted: ({ boundary }) => Object.keys(boundary).length > 0,
    form: [/^inRole:(?:roles|projects\/[^/\s]+\/roles|organizations\/\d+\/roles)\/[A-Za-z0-9_.]+$/, 'inRole:roles/...'],
  },
  check: checkRole,
  plan: (grant, ports) => ({ POST: impersonationUrl(ports), ...asked(grant, ports), ...boundaryOf(grant, ports) }),
  issue: async (grant, ports) => {
    const source = await (ports.settings.auth === 'key' ? byKey(grant, ports) : federated(grant, ports))
    const received = await ports.http.send({
      method: 'POST',
      url: impersonationUrl(ports),
      headers: { authorization: `Bearer ${source}`, 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(asked({ ...grant, ttlSeconds: leftOf(grant, ports) }, ports)),
    })
    const body = bodyOf(ports, received)
    if (ports.role.gcp_token === 'id') return idToken(grant, ports, body)
    const credential = accessToken(grant, ports, body)
    return 'accessBoundary' in boundaryOf(grant, ports) ? downscoped(grant, ports, credential) : credential
  },
})

type Rule = { readonly availableResource: string; readonly expression?: string }

/** What a role has of rules; the first ten count at Google, more are refused here. */
function rulesOf(boundary: Readonly<Record<string, unknown>>): readonly Rule[] {
  return Array.isArray(boundary['rules']) ? (boundary['rules'] as Rule[]) : []
}

const RESOURCE = /^\/\/storage\.googleapis\.com\/projects\/_\/buckets\/[a-z0-9._-]{3,222}$/

function checkRole({ boundary, gcp_token }: Values<typeof role>): void {
  if (Object.keys(boundary).length === 0) return
  const rules = rulesOf(boundary)
  if (rules.length === 0 || rules.length > 10 || rules.some(one => !RESOURCE.test(String(one?.availableResource))))
    throw new BrokerError('bad_request', 'boundary: wanted rules, at most 10, each for a bucket of Cloud Storage')
  if (rules.some(one => one.expression !== undefined && typeof one.expression !== 'string'))
    throw new BrokerError('bad_request', 'boundary: wanted expressions as text')
  // such as a condition as Google writes it: what is not read narrows nothing
  const isKnown = (name: string) => name === 'availableResource' || name === 'expression'
  if (Object.keys(boundary).length > 1 || !rules.flatMap(one => Object.keys(one)).every(isKnown))
    throw new BrokerError('bad_request', 'boundary: wanted rules of availableResource and expression, and nothing else')
  if (gcp_token === 'id') throw new BrokerError('bad_request', 'boundary: an ID token has none')
}

const impersonationUrl = ({ role: own, settings: { iam_url } }: Planned) =>
  `${iam_url}/v1/projects/-/serviceAccounts/${own.service_account}:${own.gcp_token === 'id' ? 'generateIdToken' : 'generateAccessToken'}`

const nameOf = (account: string) => `projects/-/serviceAccounts/${account}`

function asked(grant: Grant, { role: own }: Planned): object {
  const delegates = own.delegates.map(nameOf)
  if (own.gcp_token === 'id') return { delegates, audience: grant.audience, includeEmail: true }
  return { delegates, scope: grant.scope, lifetime: `${grant.ttlSeconds}s` }
}

/** Google counts a life from when it is asked, and the way there took some of it. */
function leftOf({ issuedAt, ttlSeconds }: Grant, { now }: Ports): number {
  return Math.max(1, issuedAt + ttlSeconds - Math.floor(now() / 1000))
}

function boundaryOf({ permissions }: Grant, { role: { boundary } }: Planned): object {
  const accessBoundaryRules = rulesOf(boundary).map(({ availableResource, expression }) => ({
    availableResource,
    availablePermissions: permissions,
    ...(expression === undefined ? {} : { availabilityCondition: { expression } }),
  }))
  return accessBoundaryRules.length > 0 ? { accessBoundary: { accessBoundaryRules } } : {}
}

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const TYPES = { jwt: 'urn:ietf:params:oauth:token-type:jwt', access: 'urn:ietf:params:oauth:token-type:access_token' } as const

/** Google's STS: the clients have no name there. */
function exchanged(ports: Ports, parameters: Readonly<Record<string, string>>, fallbackSeconds?: number) {
  const { http, integration, settings: own } = ports
  const request = { url: own.sts_url, clientId: 'none', auth: () => {}, grantType: EXCHANGE, proof: undefined }
  const types = { requested_token_type: TYPES.access }
  return askToken(http, integration, {
    ...request,
    parameters: { ...types, ...parameters },
    ...(fallbackSeconds === undefined ? {} : { fallbackSeconds }),
  })
}

async function federated(grant: Grant, ports: Ports): Promise<string> {
  const { provider, signing_key: rsaKey } = ports.settings
  const subject_token = await assertion(grant, ports, `https:${provider}`, { rsaKey })
  const parameters = { audience: provider, scope: CLOUD, subject_token, subject_token_type: TYPES.jwt }
  return (await exchanged(ports, parameters)).token
}

/** With the key that Google gave for the service account. */
async function byKey(grant: Grant, ports: Ports): Promise<string> {
  const key = accountKeyIn((await ports.root.read()).fields['key']) ?? noKey(ports.integration)
  return tokenByKey(ports, ports.settings.token_url, key, grant.issuedAt)
}

function bodyOf({ integration }: Ports, received: Received): Readonly<Record<string, unknown>> {
  const { status } = received
  const read = objectIn(received)
  if (status >= 400) throw refused(integration, (read['error'] as { status?: unknown } | undefined)?.status ?? `status_${status}`)
  if (status !== 200) throw unusable(integration, `status ${status} is no success`)
  return read
}

function accessToken(
  grant: Grant,
  { integration }: Ports,
  { accessToken: token, expireTime }: Readonly<Record<string, unknown>>,
): Credential {
  if (!isToken(token)) throw unusable(integration, 'the answer has no accessToken')
  const end = typeof expireTime === 'string' ? Math.floor(Date.parse(expireTime) / 1000) : Number.NaN
  return { fields: { token: new Secret(token) }, tokenType: 'Bearer', expiresAt: end, granted: { scope: grant.scope } }
}

/** It says itself for whom it is and when it ends. */
function idToken(
  grant: Grant,
  { integration, role: { service_account } }: Ports,
  { token }: Readonly<Record<string, unknown>>,
): Credential {
  const { aud, exp, email } = claimsIn(String(token)) ?? {}
  if (!isToken(token) || typeof exp !== 'number') throw unusable(integration, 'the answer has no ID token')
  if (aud !== grant.audience) throw wider(integration, 'the ID token is for another audience')
  if (email !== undefined && email !== service_account) throw wider(integration, 'the ID token is of another service account')
  return { fields: { token: new Secret(token) }, tokenType: 'Bearer', expiresAt: exp, granted: { audience: aud } }
}

/** The boundary takes the place of the wide token; that one is not kept. Google may leave its life out: then it is that of the source. */
async function downscoped(grant: Grant, ports: Ports, source: Credential): Promise<Credential> {
  const token = source.fields['token']
  if (!(token instanceof Secret)) throw new Error('an access token is a secret')
  const left = source.expiresAt - Math.ceil(ports.now() / 1000)
  const options = encodeURIComponent(JSON.stringify(boundaryOf(grant, ports)))
  const parameters = { subject_token: token.reveal(), subject_token_type: TYPES.access, options }
  const answer = await exchanged(ports, parameters, Math.max(1, left))
  if (answer.token === token.reveal()) throw wider(ports.integration, 'the token was not narrowed')
  const expiresAt = Math.min(source.expiresAt, grant.issuedAt + answer.expiresIn)
  return {
    ...source,
    fields: { token: new Secret(answer.token) },
    expiresAt,
    granted: { ...source.granted, permissions: grant.permissions },
  }
}
