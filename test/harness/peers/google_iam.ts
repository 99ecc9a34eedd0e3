import { randomBytes } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import definition from '@google-cloud/iam-credentials/build/protos/protos.json' with { type: 'json' }
import * as jose from 'jose'
import { listening } from '../listening.ts'

/** IAM Service Account Credentials as its published proto has it (routes, fields, JSON forms), a Security Token Service, and a bucket that keeps to
 *  access boundaries. What it permits is its own: it says nothing of how Google decides. */
export type GoogleIam = AsyncDisposable & {
  readonly url: string
  /** Whether a token reads an object. */
  readonly reads: (token: string, bucket: string, object: string) => boolean
}

export type GoogleIamOptions = {
  /** whose JWTs the workload identity provider takes */
  readonly trusts: { readonly issuer: string; readonly jwk: jose.JWK; readonly subject: string; readonly provider: string }
  /** service accounts that may be impersonated */
  readonly accounts: readonly string[]
}

type Boundary = {
  readonly availableResource: string
  readonly availablePermissions: readonly string[]
  readonly availabilityCondition?: { readonly expression: string }
}
type Issued = { readonly boundary?: readonly Boundary[]; readonly account?: string }

export async function startGoogleIam(options: GoogleIamOptions): Promise<GoogleIam> {
  const { privateKey } = await jose.generateKeyPair('RS256')
  const google: Google = { ...options, tokens: new Map(), privateKey }
  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const sent = { url: incoming.url ?? '', headers: incoming.headers, body: await text(incoming) }
    const { status, body } = await (sent.url === '/v1/token' ? sts(google, sent) : iam(google, sent))
    outgoing.writeHead(status, { 'content-type': 'application/json; charset=UTF-8' }).end(JSON.stringify(body))
  }
  const { port, ...ends } = await listening(createServer((incoming, outgoing) => void serve(incoming, outgoing)))
  return {
    url: `http://127.0.0.1:${port}`,
    reads: (token, bucket, object) => mayRead(google.tokens.get(token), bucket, object),
    ...ends,
  }
}

/** What it knows: whom it trusts, which tokens it gave, and the key that it signs with. */
type Google = GoogleIamOptions & { readonly tokens: Map<string, Issued>; readonly privateKey: jose.CryptoKey }

function issue({ tokens }: Google, about: Issued): string {
  const token = `ya29.${randomBytes(24).toString('base64url')}`
  tokens.set(token, about)
  return token
}

/** RFC 8693, as the Security Token Service has it. */
async function sts(google: Google, { body }: Sent): Promise<Answer> {
  const asked = Object.fromEntries(new URLSearchParams(body)) as Record<string, string>
  const { subject_token = '', subject_token_type, grant_type, requested_token_type, audience } = asked
  const shape = grant_type === 'urn:ietf:params:oauth:grant-type:token-exchange' && requested_token_type === ACCESS_TOKEN
  if (!shape) return oauthError('invalid_request')
  if (subject_token_type === ACCESS_TOKEN) return downscope(google, subject_token, asked['options'] ?? '')
  const { trusts } = google
  const checks = { issuer: trusts.issuer, subject: trusts.subject, audience: `https:${trusts.provider}`, algorithms: ['ES256'] }
  const good = await jose.jwtVerify(subject_token, await jose.importJWK(trusts.jwk, 'ES256'), checks).catch(() => undefined)
  if (!good || audience !== trusts.provider) return oauthError('invalid_grant')
  return {
    status: 200,
    body: { access_token: issue(google, {}), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: 3599 },
  }
}

function downscope(google: Google, subject: string, raw: string): Answer {
  const boundary = boundaryIn(raw)
  if (!google.tokens.has(subject) || !boundary) return oauthError('invalid_request')
  // as Google: the life of a token of a service account is left out
  return {
    status: 200,
    body: { access_token: issue(google, { boundary }), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer' },
  }
}

async function iam(google: Google, { url, headers, body }: Sent): Promise<Answer> {
  const found = routeOf(url)
  if (!found) return failed(404, 'NOT_FOUND')
  if (!google.tokens.has(bearerIn(headers))) return failed(401, 'UNAUTHENTICATED')
  const asked = read(found.request, body)
  if (!asked) return failed(400, 'INVALID_ARGUMENT')
  const account = found.name.split('/').at(-1) ?? ''
  if (!google.accounts.includes(account)) return failed(403, 'PERMISSION_DENIED')
  return found.method === 'GenerateIdToken' ? idToken(google, account, asked) : accessToken(google, account, asked)
}

function accessToken(google: Google, account: string, { scope, lifetime = '3600s' }: Fields): Answer {
  const seconds = Number(/^(\d+)s$/.exec(String(lifetime))?.[1])
  if (!Array.isArray(scope) || scope.length === 0 || !(seconds > 0 && seconds <= 3600)) return failed(400, 'INVALID_ARGUMENT')
  const expireTime = new Date(Math.floor(Date.now() / 1000 + seconds) * 1000).toISOString().replace('.000', '')
  return { status: 200, body: { accessToken: issue(google, { account }), expireTime } }
}

async function idToken({ privateKey }: Google, account: string, { audience, includeEmail }: Fields): Promise<Answer> {
  const claims = { azp: '1', ...(includeEmail ? { email: account, email_verified: true } : {}) }
  const jwt = new jose.SignJWT(claims).setProtectedHeader({ alg: 'RS256' }).setIssuer('https://accounts.google.com').setIssuedAt()
  return { status: 200, body: { token: await jwt.setAudience(String(audience)).setExpirationTime('1h').sign(privateKey) } }
}

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
type Sent = { readonly url: string; readonly headers: IncomingHttpHeaders; readonly body: string }
type Answer = { readonly status: number; readonly body: object }
type Fields = Readonly<Record<string, unknown>>

const oauthError = (error: string): Answer => ({ status: 400, body: { error } })
const failed = (code: number, status: string): Answer => ({ status: code, body: { error: { code, status, message: status } } })
const bearerIn = ({ authorization = '' }: IncomingHttpHeaders) => authorization.replace(/^Bearer /, '')

const service = definition.nested.google.nested.iam.nested.credentials.nested.v1.nested
type Messages = Readonly<
  Record<string, { readonly fields?: Readonly<Record<string, { readonly rule?: string; readonly type: string }>> }>
>

/** By the rule `google.api.http` of the proto: a path in which a star stands for one segment. */
function routeOf(url: string): { method: string; name: string; request: string } | undefined {
  for (const [method, { requestType, options }] of Object.entries(service.IAMCredentials.methods)) {
    const template = options['(google.api.http).post']
    const pattern = template.replace(/\{name=([^}]*)\}/, (_, name: string) => `(${name.replaceAll('*', '[^/]+')})`)
    const name = new RegExp(`^${pattern}$`).exec(decodeURIComponent(url.split('?', 1)[0] ?? ''))?.[1]
    if (name !== undefined) return { method, name, request: requestType }
  }
  return undefined
}

/** Fields that the message does not have are refused, as Google does. */
function read(message: string, body: string): Fields | undefined {
  const fields = (service as unknown as Messages)[message]?.fields ?? {}
  const sent = JSON.parse(body) as Fields
  const known = new Map(
    Object.entries(fields).map(([name, field]) => [name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), field]),
  )
  const good = Object.entries(sent).every(
    ([name, value]) => known.has(name) && Array.isArray(value) === (known.get(name)?.rule === 'repeated'),
  )
  return good ? sent : undefined
}

function boundaryIn(raw: string): readonly Boundary[] | undefined {
  try {
    const read = JSON.parse(decodeURIComponent(raw)) as { accessBoundary: { accessBoundaryRules: Boundary[] } }
    const rules = read.accessBoundary.accessBoundaryRules
    const good = rules.every(
      one => one.availableResource.startsWith('//storage.googleapis.com/') && one.availablePermissions.length > 0,
    )
    return rules.length > 0 && rules.length <= 10 && good ? rules : undefined
  } catch {
    return undefined
  }
}

/** Of conditions it knows `resource.name.startsWith('...')`. */
function mayRead(issued: Issued | undefined, bucket: string, object: string): boolean {
  if (!issued?.boundary) return issued !== undefined
  return issued.boundary.some(({ availableResource, availablePermissions, availabilityCondition }) => {
    const prefix = /^resource\.name\.startsWith\('([^']*)'\)$/.exec(
      availabilityCondition?.expression ?? "resource.name.startsWith('')",
    )?.[1]
    const name = `projects/_/buckets/${bucket}/objects/${object}`
    const role = availablePermissions.includes('inRole:roles/storage.objectViewer')
    return (
      role &&
      availableResource === `//storage.googleapis.com/projects/_/buckets/${bucket}` &&
      prefix !== undefined &&
      name.startsWith(prefix)
    )
  })
}
