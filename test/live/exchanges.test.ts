import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { createEmulator, type Emulator } from 'emulate'
import * as jose from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { issuers } from '../../engine/issuers/index.ts'
import { plans } from '../engine/issuers/plans.ts'
import { type Provider, startProvider } from '../fakes/provider.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type GoogleIam, startGoogleIam } from '../harness/peers/google_iam.ts'
import { type OauthServer, startOauthServer } from '../harness/peers/oauth_server.ts'
import { until } from '../harness/process.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, auditOf, done, logIn } from './world.ts'

// Exchanges as an operator configures them with the stock CLI and an agent asks for them: the front door, a real Vault with transit and KV, providers.
const SECRET = 'CanaRy7-the-secret-of-the-client-0123456789'
const GCP_ACCOUNT = 'agents@acme.iam.gserviceaccount.com'
const GCP_PROVIDER = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/assay/providers/broker'
const stack = new AsyncDisposableStack()
let world: EnrolledWorld
let attester: Attester
let token: string
let oauth: OauthServer
let github: Emulator
let google: GoogleIam
let revoking: Provider
const newKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
/** of the app, as GitHub keeps several; and what is asked of it while a key is shown */
const appKeys = [newKey()]
let onProof = async () => {}
beforeAll(async () => {
  world = stack.use(await openEnrolledWorld({ broker: false }))
  ;({ attester } = world)
  await write('sys/mounts/broker', { type: 'broker' })
  await write('broker/config', { actions: 'read,write' })
  await write('broker/policy/builders', { policy: 'permit (principal, action == Action::"read", resource);' })
  await write('sys/policies/acl/builder', { policy: 'path "broker/creds/*" { capabilities = ["update"] }' })
  await providers()
  token = await logIn(world.service, attester)
})
afterAll(() => stack.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))
const creds = (role: string, body: object = {}) => ask(world.door.address, 'PUT', `broker/creds/${role}`, { token, body })
const common = { plugins: 'reader', actions: 'read', audiences: 'https://api.example.com', ttl: '15m' }
const configure = (name: string, type: string, settings: object, secrets?: object) =>
  write(`broker/integration/${name}`, { type, settings, ...(secrets ? { secrets } : {}) })

async function providers(): Promise<void> {
  const client = { client_id: 'assay', client_secret: SECRET, redirect_uris: ['https://assay.example/back'] }
  const clients = [{ ...client, grant_types: ['client_credentials', 'authorization_code', 'refresh_token'] }] as never
  oauth = stack.use(
    await startOauthServer({ clients, scopes: ['orders:read', 'orders:write'], resource: 'https://api.example.com' }),
  )
  const settings = { token_url: `${oauth.url}/token`, grant: 'client_credentials', client_id: 'assay' }
  await configure('orders', 'oauth2', settings, { client_secret: SECRET })
  await write('broker/role/orders', { ...common, issuer: 'oauth2', integration: 'orders', scopes: 'orders:read,orders:write' })
  await gitHub()
  await gcp()
}

async function gitHub(): Promise<void> {
  const [privateKey] = appKeys as [KeyObject]
  const permissions = { contents: 'write', metadata: 'read' }
  const app = {
    app_id: 12,
    slug: 'assay',
    name: 'Assay',
    private_key: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    permissions,
  }
  const repos = ['app', 'payroll'].map(name => ({ owner: 'acme', name, private: true, auto_init: true }))
  const installations = [{ installation_id: 34, account: 'acme', permissions }]
  const seed = { github: { users: [{ login: 'acme' }], repos, apps: [{ ...app, installations }] } }
  github = await createEmulator({ service: 'github', port: 0, seed } as never)
  stack.defer(() => github.close())
  // the emulator has no DELETE /installation/token, and one key for an app: this stands before it
  revoking = stack.use(await startProvider())
  revoking.answer = async ({ method, url, headers, body }) => {
    if (method === 'DELETE') return { status: 204 }
    if (method === 'GET') await onProof()
    const forwarded = { authorization: await byFirstKey(String(headers.authorization)), 'content-type': 'application/json' }
    const reply = await fetch(`${github.url}${url}`, { method, headers: forwarded, ...(body === '' ? {} : { body }) })
    return { status: reply.status, text: await reply.text() }
  }
  // as an operator does: the key that GitHub made goes into transit, which never gives it out again
  await imported('assay-github-acme', privateKey)
  await configure('gh-acme', 'github_app', {
    api_url: revoking.url,
    app_id: '12',
    installation_id: '34',
    key: 'assay-github-acme',
    ceiling: 'contents:read',
  })
  const permitted = { permissions: { read: ['contents:read', 'issues:write'] }, repositories: 'app' }
  await write('broker/role/review', { ...common, ttl: '5m', issuer: 'github_app', integration: 'gh-acme', ...permitted })
}

async function imported(name: string, key: KeyObject): Promise<void> {
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' }).toString('base64')
  await world.operator(['transit', 'import', `transit/keys/${name}`, pkcs8, 'type=rsa-2048'])
}

/** What a later key of the app signed, signed by the first; what none of them signed stays as it is. */
async function byFirstKey(authorization: string): Promise<string> {
  const [first, ...later] = appKeys as [KeyObject, ...KeyObject[]]
  const jwt = authorization.replace(/^Bearer /, '')
  const verifications = later.map(key => jose.jwtVerify(jwt, createPublicKey(key), { issuer: '12', algorithms: ['RS256'] }))
  const signed = (await Promise.allSettled(verifications)).find(one => one.status === 'fulfilled')
  if (!signed) return authorization
  return `Bearer ${await new jose.SignJWT(signed.value.payload).setProtectedHeader({ alg: 'RS256' }).sign(first)}`
}

async function gcp(): Promise<void> {
  const { keys } = (await (await fetch(`${world.door.address}/v1/broker/.well-known/jwks.json`)).json()) as { keys: [jose.JWK] }
  const trusts = { issuer: `${world.door.address}/v1/broker`, jwk: keys[0], subject: 'integration:gcp', provider: GCP_PROVIDER }
  google = stack.use(await startGoogleIam({ trusts, accounts: [GCP_ACCOUNT] }))
  await configure('gcp', 'gcp', { provider: GCP_PROVIDER, sts_url: `${google.url}/v1/token`, iam_url: google.url })
  const scopes = 'https://www.googleapis.com/auth/devstorage.read_only'
  await write('broker/role/reports', { ...common, issuer: 'gcp', integration: 'gcp', scopes, service_account: GCP_ACCOUNT })
}

describe('OAuth 2.0', () => {
  test('a token for the scope of the request', async () => {
    const { status, body } = await creds('orders', { scope: 'orders:read' })
    expect({ status, errors: body.errors }).toEqual({ status: 200 })
    expect(body.data).toMatchObject({ token_type: 'Bearer', scope: 'orders:read', plugin: 'reader' })
    expect(body.data).not.toHaveProperty('kid')
    expect(await oauth.introspect(body.data.token)).toMatchObject({ active: true, scope: 'orders:read' })
  })

  test('the secret is in KV encrypted, and in no answer, log or audit record', async () => {
    await creds('orders', { scope: 'orders:read' })
    const read = await world.api('GET', 'broker/integration/orders')
    const said = JSON.stringify(read.body) + world.door.server.output() + JSON.stringify(await auditOf(world.door.auditFile))
    expect(said).not.toContain(SECRET)
    const metrics = await (await fetch(`${world.door.address}/metrics`)).text()
    expect(metrics).toContain('assay_issues_total{issuer="oauth2"}')
    expect(metrics).not.toContain(SECRET)
  })

  test('the audit log has what was granted beside what was asked', async () => {
    const { body } = await creds('orders', { scope: 'orders:read' })
    const mine = await until('the outcome in the audit log', async () => {
      const found = (await auditOf(world.door.auditFile)).filter(one => one['txn'] === body.request_id)
      return found.length >= 2 && found
    })
    expect(mine.map(one => one['type'])).toEqual(['intent', 'outcome'])
    expect(mine[0]).toMatchObject({ issuer: 'oauth2', integration: 'orders', scope: ['orders:read'] })
    expect(mine[1]).toMatchObject({ result: 'issued', granted: JSON.stringify({ scope: ['orders:read'], expires_in: 600 }) })
  })

  test('64 who ask at once share one, where the role says so', async () => {
    await write('broker/role/shared', { ...common, issuer: 'oauth2', integration: 'orders', scopes: 'orders:read', reuse: true })
    const before = oauth.granted()
    const all = await Promise.all(Array.from({ length: 64 }, () => creds('shared', { scope: 'orders:read' })))
    expect(new Set(all.map(({ body }) => body.data?.token)).size).toBe(1)
    expect(oauth.granted() - before).toBe(1)
    // the policy is narrowed: what was shared is shared no more
    await write('broker/policy/narrow', { policy: 'forbid (principal, action, resource) when { context.role == "shared" };' })
    await until('the policy to count', async () => (await creds('shared', { scope: 'orders:read' })).status === 403)
    await done(world.api('DELETE', 'broker/policy/narrow'))
  })

  test('simulate shows what would be sent, without secrets', async () => {
    const described = { role: 'orders', tpm_id: 'sha256-x', login_role: 'builder', scope: 'orders:read' }
    const { body } = await world.api('POST', 'broker/simulate', described)
    expect(body.data).toMatchObject({
      allowed: true,
      request: { POST: `${oauth.url}/token`, grant_type: 'client_credentials', scope: 'orders:read' },
    })
    expect(JSON.stringify(body)).not.toContain(SECRET)
  })

  test('an integration bounds the scopes of every role; simulate says so too', async () => {
    const { settings } = (await done(world.api('GET', 'broker/integration/orders'))).data
    await write('broker/integration/orders', { settings: { ...settings, ceiling: 'orders:read' } })
    const refused = await creds('orders', { scope: 'orders:write' })
    const sentence = 'orders: the ceiling of the integration is orders:read'
    expect([refused.status, refused.body.errors[0]]).toEqual([403, expect.stringMatching(/^SCOPE: /)])
    const described = { role: 'orders', tpm_id: 'sha256-x', login_role: 'builder', scope: 'orders:write' }
    const { body } = await world.api('POST', 'broker/simulate', described)
    expect(body.data).toMatchObject({ allowed: false, code: 'SCOPE', detail: sentence })
    expect((await creds('orders', { scope: 'orders:read' })).status).toBe(200)
  })
})

test.each(plans)('simulate shows what %s would be asked for, and nothing secret', async (issuer, settings, role, holds) => {
  const { integration: shape } = issuers[issuer] ?? {}
  const name = `plan-${issuer}`
  const secrets = Object.fromEntries(Object.keys(shape?.secrets ?? {}).map(secret => [secret, SECRET]))
  if (shape) await configure(name, issuer, settings, secrets)
  await write(`broker/role/${name}`, { ...common, issuer, ...(shape ? { integration: name } : {}), ...role })
  const said = await world.operator([
    'write',
    '-format=json',
    'broker/simulate',
    `role=${name}`,
    'tpm_id=any',
    'login_role=builder',
  ])
  const { data } = JSON.parse(said)
  expect(data).toMatchObject({ allowed: true, action: 'read', policies: ['builders#1'] })
  expect(JSON.stringify(data.request)).toContain(holds)
  expect(said).not.toContain(SECRET)
})

describe('a GitHub App whose key is in transit', () => {
  const status = async (bearer: string, path: string) =>
    (await fetch(`${github.url}${path}`, { headers: { authorization: `Bearer ${bearer}` } })).status

  test('a token for the repository and what role and integration both allow, revoked with its lease', async () => {
    const { status: http, body } = await creds('review')
    expect({ http, errors: body.errors }).toEqual({ http: 200 })
    expect(body.data.expires_in).toBeLessThanOrEqual(300)
    expect([await status(body.data.token, '/repos/acme/app'), await status(body.data.token, '/repos/acme/payroll')]).toEqual([
      200, 403,
    ])
    const asked = revoking.asked.find(one => one.method === 'POST')
    expect(JSON.parse(asked?.body ?? '')).toEqual({ repositories: ['app'], permissions: { contents: 'read' } })
    expect(body.lease_id).toMatch(/^broker\/creds\/review\//)
    await world.operator(['lease', 'revoke', '-sync', body.lease_id])
    const gone = await until('the revocation', async () => revoking.asked.find(one => one.method === 'DELETE'))
    expect(gone).toMatchObject({ url: '/installation/token', headers: { authorization: `Bearer ${body.data.token}` } })
  })
})

describe('the key of a GitHub App', () => {
  const integration = 'broker/integration/gh-acme'
  const rotate = (settings: object) => world.api('POST', `${integration}/rotate`, { settings })
  const keyInUse = async () => (await done(world.api('GET', integration))).data.settings.key
  const before = 'assay-github-acme'

  test.each([
    ['that is not named', {}, 400, 'settings: wanted key, the name of a transit key, which begins with assay-, and nothing else'],
    ['that is not in transit', { key: 'assay-github-nowhere' }, 503, 'the transit key assay-github-nowhere does not exist'],
    ['that is none of the app', { key: 'assay-github-stranger' }, 503, 'gh-acme: GitHub does not take the key: status 401'],
  ])('%s takes the place of none', async (_, settings, status, said) => {
    if ('key' in settings && settings.key === 'assay-github-stranger') await imported(settings.key, newKey())
    const refused = await rotate(settings)
    expect([refused.status, refused.body.errors]).toEqual([status, [said]])
    expect([await keyInUse(), (await creds('review')).status]).toEqual([before, 200])
  })

  test('is replaced by one that GitHub took; the one before serves until then', async () => {
    const next = newKey()
    appKeys.push(next)
    await imported('assay-github-next', next)
    const meanwhile: unknown[] = []
    onProof = async () => void meanwhile.push(await keyInUse(), (await creds('review', { ttl: '4m' })).status)
    const { body } = await rotate({ key: 'assay-github-next' })
    onProof = async () => {}
    expect(body.data.state).toBe('done')
    expect(meanwhile).toEqual([before, 200])
    expect(await keyInUse()).toBe('assay-github-next')
    expect((await creds('review', { ttl: '3m' })).status).toBe(200)
    const shown = revoking.asked.findLast(one => one.method === 'POST')
    const by = String(shown?.headers.authorization).replace(/^Bearer /, '')
    await jose.jwtVerify(by, createPublicKey(next), { issuer: '12', algorithms: ['RS256'], maxTokenAge: '10m' })
    const told = await until('the outcome in the audit log', async () => {
      const mine = (await auditOf(world.door.auditFile)).filter(one => one['operation'] === 'rotate')
      return mine.some(one => one['result'] === 'rotated') ? mine : undefined
    })
    const refusals = ['intent', 'not made', 'intent', 'not proved', 'discarded', 'intent', 'not proved', 'discarded']
    expect(told.map(one => one['result'] ?? one['type'])).toEqual([...refusals, 'intent', 'rotated'])
    expect(told.at(-1)).toMatchObject({ handle: JSON.stringify({ key: 'assay-github-next' }) })
  })

  test('is never on schedule, as GitHub has no way to make one', async () => {
    const { body } = await world.api('POST', integration, { rotate_every: '1d' })
    expect(body.errors).toEqual(['rotate_every: nothing can replace this kind of root credential by itself'])
  })
})

describe('providers that verify RS256 alone', () => {
  test('get a JWT by a key of the operator, which the JWKS of the mount has', async () => {
    await write('broker/config', { rsa_keys: 'assay-github-acme' })
    await using provider = await startProvider()
    provider.answer = () => ({ status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 600 } })
    const settings = {
      token_url: `${provider.url}/token`,
      grant: 'jwt_bearer',
      client_auth: 'none',
      signing_key: 'assay-github-acme',
    }
    await configure('rs256', 'oauth2', settings)
    await write('broker/role/rs256', { ...common, issuer: 'oauth2', integration: 'rs256', scopes: 'a' })
    expect((await creds('rs256', { scope: 'a' })).status).toBe(200)
    const { assertion = '' } = Object.fromEntries(new URLSearchParams(provider.asked[0]?.body))
    const issuer = `${world.door.address}/v1/broker`
    const keys = jose.createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { timeoutDuration: PATIENCE_MS })
    const checks = { issuer, audience: `${provider.url}/token`, subject: 'integration:rs256', algorithms: ['RS256'] }
    expect((await jose.jwtVerify(assertion, keys, checks)).payload).toMatchObject({ plugin: 'reader', action: 'read' })
  })
})

describe('Google, by a JWT of this mount', () => {
  test('a token of the service account, without any root credential', async () => {
    const { status, body } = await creds('reports', { scope: 'https://www.googleapis.com/auth/devstorage.read_only' })
    expect({ status, errors: body.errors }).toEqual({ status: 200 })
    expect(google.reads(body.data.token, 'reports', 'a')).toBe(true)
  })
})

describe('roles and integrations', () => {
  test('path-help shows the fields of every issuer', async () => {
    const { body } = await world.api('GET', 'broker/role/x?help=1')
    for (const field of ['role_arn', 'repositories', 'service_account', 'vault_path', 'permissions', 'integration'])
      expect(body.help).toContain(field)
  })

  test('an integration of another type, or one that is not there, is answered alike', async () => {
    await write('broker/role/absent', { ...common, issuer: 'oauth2', integration: 'nothing', scopes: 'a' })
    await write('broker/role/other', { ...common, issuer: 'oauth2', integration: 'gcp', scopes: 'a' })
    const said = await Promise.all(
      ['absent', 'other'].map(async role => (await creds(role, { scope: 'a' })).body.errors[0] as string),
    )
    expect(said.map(one => one.split(':')[0])).toEqual(['INTEGRATION', 'INTEGRATION'])
  })

  test.each([
    [{ issuer: 'static', integration: 'x' }, 'delivery: what static issues is only ever delivered sealed'],
    [{ issuer: 'github_app', integration: 'x', repositories: 'a' }, 'permissions: wanted a list of texts for the action read'],
    [
      { issuer: 'github_app', integration: 'x', repositories: 'a', permissions: { read: ['all'] } },
      'permissions: wanted permissions such as contents:read for the action read',
    ],
    [{ issuer: 'github_app', integration: 'x', permissions: { read: ['contents:read'] } }, 'repositories: wanted at least one'],
    [{ issuer: 'aws_sts', integration: 'x', role_arn: 'admin' }, 'role_arn: wanted the ARN of a role'],
    [{ issuer: 'oauth2' }, 'integration: the issuer oauth2 wants one'],
    [
      { issuer: 'github_app', integration: 'x', reuse: true, repositories: 'a', permissions: { read: ['contents:read'] } },
      'reuse: what github_app issues is never given twice',
    ],
    [{ issuer: 'jwt', permissions: { read: ['x'] } }, 'permissions: a role like this of the issuer jwt has no use for them'],
  ])('a role that makes no sense is refused: %j', async (role, sentence) => {
    const { status, body } = await world.api('POST', 'broker/role/bad', { ...common, ...role })
    expect({ status, errors: body?.errors }).toEqual({ status: 400, errors: [sentence] })
  })
})
