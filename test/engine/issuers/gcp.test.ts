import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { IAMCredentialsClient } from '@google-cloud/iam-credentials'
import { Impersonated, OAuth2Client } from 'google-auth-library'
import * as jose from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Credential } from '../../../engine/issuers/index.ts'
import type { Secret } from '../../../engine/secret.ts'
import { ISSUER_URL, jwkOf, newEcKey, openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { startProvider } from '../../fakes/provider.ts'
import { type GoogleIam, startGoogleIam } from '../../harness/peers/google_iam.ts'

// Google's own client and we ask the same server, whose routes and messages are those of Google's published proto.
const ACCOUNT = 'agents@acme.iam.gserviceaccount.com'
const PROVIDER = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/assay/providers/broker'
const READ_ONLY = 'https://www.googleapis.com/auth/devstorage.read_only'
const ec = newEcKey()

/** The end of a life that begins now: the clock of both sides stands still, at a whole second. */
const in300 = () => Math.floor(Date.now() / 1000) + 300

let google: GoogleIam
beforeAll(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: Math.floor(Date.now() / 1000) * 1000 })
  const trusts = { issuer: ISSUER_URL, jwk: jwkOf(ec.publicKey), subject: 'integration:acme', provider: PROVIDER }
  google = await startGoogleIam({ trusts, accounts: [ACCOUNT] })
})
afterAll(async () => {
  vi.useRealTimers()
  await google[Symbol.asyncDispose]()
})

const open: TestExchange[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
})
function opened({ settings = {}, role = {}, secrets = {}, key = ec } = {}): TestExchange {
  const where = { provider: PROVIDER, sts_url: `${google.url}/v1/token`, iam_url: google.url, ...settings }
  const one = openTestExchange({ type: 'gcp', settings: where, secrets, role: { service_account: ACCOUNT, ...role }, ec: key })
  open.push(one)
  return one
}
const ask = { grant: { scope: [READ_ONLY], ttlSeconds: 300 } }
const tokenOf = ({ fields }: Credential) => (fields['token'] as Secret).reveal()

describe('an access token by impersonation', () => {
  test('for the scopes and the life that were asked for, without a root credential', async () => {
    const { expiresAt, granted, tokenType } = await opened().credential(ask)
    expect(expiresAt).toBe(in300())
    expect({ granted, tokenType }).toEqual({ granted: { scope: [READ_ONLY] }, tokenType: 'Bearer' })
  })

  test('not by a key that the pool does not trust, and not as another subject', async () => {
    expect(await opened({ key: newEcKey() }).issue(ask)).toMatchObject({
      code: 'EXCHANGE_REFUSED',
      detail: 'acme: invalid_grant',
    })
    expect(await opened({ settings: { subject: 'another' } }).issue(ask)).toMatchObject({ code: 'EXCHANGE_REFUSED' })
  })

  test('not of an account that may not be impersonated', async () => {
    const verdict = await opened({ role: { service_account: 'admin@acme.iam.gserviceaccount.com' } }).issue(ask)
    expect(verdict).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: PERMISSION_DENIED' })
  })

  test('by a key of a service account, signed for Google’s token endpoint', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    await using endpoint = await startProvider()
    endpoint.answer = async ({ body }) => {
      const { assertion = '' } = Object.fromEntries(new URLSearchParams(body))
      const audience = `${endpoint.url}/token`
      await jose.jwtVerify(assertion, publicKey, { issuer: 'root@acme.iam.gserviceaccount.com', audience, algorithms: ['RS256'] })
      return { status: 200, body: { access_token: 'ya29.source', token_type: 'Bearer', expires_in: 3599 } }
    }
    const key = {
      client_email: 'root@acme.iam.gserviceaccount.com',
      private_key_id: 'k1',
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    }
    const exchange = opened({
      settings: { auth: 'key', token_url: `${endpoint.url}/token` },
      secrets: { key: JSON.stringify(key) },
    })
    // the token endpoint took the assertion; the server of the proto does not know the token that it gave
    expect(await exchange.issue(ask)).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: UNAUTHENTICATED' })
    expect(endpoint.asked).toHaveLength(1)
  })

  test('not by a key that takes seconds to sign', async () => {
    const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })
    const slow = createPrivateKey({ key: { ...jwk, n: Buffer.alloc(1024, 0xc1).toString('base64url') }, format: 'jwk' })
    const key = { client_email: ACCOUNT, private_key_id: 'k1', private_key: slow.export({ type: 'pkcs8', format: 'pem' }) }
    const exchange = opened({ settings: { auth: 'key' }, secrets: { key: JSON.stringify(key) } })
    await expect(exchange.issue(ask)).rejects.toThrow('the integration acme holds no key of a service account')
  })
})

describe('an answer that takes its time', () => {
  const PAUSE_SECONDS = 8
  /** A provider whose tokens live for what was asked and `more`, from when it answers: so much later by the clock of the broker. */
  async function slow({ role = {}, more = 0, federation = 0 } = {}) {
    const server = await startProvider()
    onTestFinished(() => server[Symbol.asyncDispose]())
    const exchange = opened({ role, settings: { sts_url: `${server.url}/sts`, iam_url: server.url } })
    let late = 0
    server.answer = ({ url, body }) => {
      if (url === '/sts') {
        late += federation
        exchange.pass(federation * 1000)
        return { status: 200, body: { access_token: 'a', token_type: 'Bearer', expires_in: 3599 } }
      }
      late += PAUSE_SECONDS
      exchange.pass(PAUSE_SECONDS * 1000)
      const { lifetime } = JSON.parse(body) as { lifetime: string }
      const ends = Date.now() + (late + Number.parseInt(lifetime, 10) + more) * 1000
      return { status: 200, body: { accessToken: `ya29.${late}`, expireTime: new Date(ends).toISOString() } }
    }
    return exchange
  }

  test('counts from when it came', async () => {
    const exchange = await slow()
    expect((await exchange.credential(ask)).expiresAt).toBe(in300() + PAUSE_SECONDS)
  })

  test('is asked for what is left by then', async () => {
    expect((await (await slow({ federation: PAUSE_SECONDS })).credential(ask)).expiresAt).toBe(in300() + PAUSE_SECONDS)
  })

  test('and may be no longer than what was asked from then on', async () => {
    expect(await (await slow({ more: 6 })).outcome(ask)).toBe('EXCHANGE_WIDER')
  })

  test('is not given again to who may have less', async () => {
    const exchange = await slow({ role: { reuse: true } })
    const wanted = [300, 300, 60].map(ttlSeconds => ({ grant: { scope: [READ_ONLY], ttlSeconds } }))
    const tokens: string[] = []
    for (const one of wanted) tokens.push(tokenOf(await exchange.credential(one)))
    expect(tokens).toEqual(['ya29.8', 'ya29.8', 'ya29.16'])
  })
})

test('an ID token is for the audience of the request, and lives the hour that Google gives it', async () => {
  const exchange = opened({ role: { gcp_token: 'id' } })
  expect(await exchange.outcome(ask)).toBe('EXCHANGE_WIDER')
  const credential = await exchange.credential({ ...ask, role: { gcp_token: 'id', provider_ttl: '1h' } })
  expect(jose.decodeJwt(tokenOf(credential))).toMatchObject({ aud: 'https://api.example.com', email: ACCOUNT })
})

describe('a credential access boundary', () => {
  const bucket = '//storage.googleapis.com/projects/_/buckets/reports'
  const expression = "resource.name.startsWith('projects/_/buckets/reports/objects/task-1/')"
  const role = {
    boundary: { rules: [{ availableResource: bucket, expression }] },
    permissions: { read: ['inRole:roles/storage.objectViewer'] },
  }

  test('narrows the token to the bucket, the role and the condition', async () => {
    const credential = await opened({ role }).credential(ask)
    const token = tokenOf(credential)
    expect(google.reads(token, 'reports', 'task-1/a')).toBe(true)
    expect(google.reads(token, 'reports', 'task-2/a')).toBe(false)
    expect(google.reads(token, 'payroll', 'task-1/a')).toBe(false)
    // the life was left out: it is that of the source
    expect(credential.expiresAt).toBe(in300())
  })

  test('without the role, nothing is read', async () => {
    const other = { ...role, permissions: { read: ['inRole:roles/storage.objectCreator'] } }
    expect(google.reads(tokenOf(await opened({ role: other }).credential(ask)), 'reports', 'task-1/a')).toBe(false)
  })
})

test('Google’s own client gets the same from this server', async () => {
  const source = new OAuth2Client()
  const { fields } = await opened().credential(ask)
  source.setCredentials({ access_token: (fields['token'] as Secret).reveal() })
  const client = new Impersonated({
    sourceClient: source,
    targetPrincipal: ACCOUNT,
    targetScopes: [READ_ONLY],
    lifetime: 300,
    endpoint: google.url,
  })
  const { token } = await client.getAccessToken()
  expect(token).toMatch(/^ya29\./)
  expect(client.credentials.expiry_date).toBeGreaterThan(Date.now())
})

test('and so does the client that is made from the proto', async () => {
  const authClient = new OAuth2Client()
  const { fields } = await opened().credential(ask)
  authClient.setCredentials({ access_token: (fields['token'] as Secret).reveal() })
  const { hostname, port } = new URL(google.url)
  const where = { apiEndpoint: hostname, port: Number(port), protocol: 'http', fallback: 'rest' } as const
  const client = new IAMCredentialsClient({ ...where, authClient: authClient as never })
  const asked = { name: `projects/-/serviceAccounts/${ACCOUNT}`, scope: [READ_ONLY], lifetime: { seconds: 300 } }
  const [{ accessToken }] = await client.generateAccessToken(asked)
  expect(accessToken).toMatch(/^ya29\./)
  await client.close()
})
