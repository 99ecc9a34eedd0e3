import { generateKeyPairSync } from 'node:crypto'
import { type Asked, TPM_ID } from '../../fakes/exchange.ts'
import type { Answer, ProviderAsked } from '../../fakes/provider.ts'
/** In every secret of these integrations: letters alone, as codes of errors are. */
export const CANARY = 'CanaryInEverySecret'

export const soon = (seconds = 900) => new Date(Date.now() + seconds * 1000).toISOString()
const ROLE_ARN = 'arn:aws:iam::123456789012:role/agents'

export function assumed({
  arn = `arn:aws:sts::123456789012:assumed-role/agents/assay-${TPM_ID.slice(7, 39)}`,
  end = soon(),
  token = 'token',
} = {}): string {
  const credentials = `<AccessKeyId>ASIAEXAMPLE000000000</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>${token}</SessionToken><Expiration>${end}</Expiration>`
  const result = `<Credentials>${credentials}</Credentials><AssumedRoleUser><Arn>${arn}</Arn><AssumedRoleId>A:b</AssumedRoleId></AssumedRoleUser>`
  return `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>${result}</AssumeRoleResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>`
}
const xml = (status: number, text: string): Answer => ({ status, headers: { 'content-type': 'text/xml' }, text })

export type Case = readonly [string, Answer, string]
/** One provider as an integration of its issuer has it: what it answers when all is well, and what must not be taken from it. */
export type ProviderRow = {
  readonly type: string
  /** what of the issuer it is, where there are several */
  readonly which?: string
  readonly settings: (url: string, side: string, ca: string) => object
  /** the provider is asked over TLS only */
  readonly tls?: true
  readonly secrets: Readonly<Record<string, string>>
  readonly role?: object
  /** what a person left here */
  readonly consented?: Readonly<Record<string, string>>
  readonly asked?: Asked
  readonly good: Answer
  /** what a second host of the provider answers, and what the first does beside the request that fails */
  readonly side?: Answer
  readonly beside?: (asked: ProviderAsked) => Answer | undefined
  readonly cases: readonly Case[]
  /** the request that ends what it gave */
  readonly revocation?: (asked: ProviderAsked) => boolean
}

const token = (changes: object = {}) => ({
  access_token: 'upstream',
  token_type: 'Bearer',
  expires_in: 600,
  scope: 'a',
  ...changes,
})
const ok = (body: object, status = 200): Answer => ({ status, body })
/** A token that can be read; of its signature nobody here knows anything. */
const jwt = (claims: object, signature = 'c2lnbmF0dXJl') =>
  [{ alg: 'RS256' }, claims].map(one => `${Buffer.from(JSON.stringify(one)).toString('base64url')}.`).join('') + signature
const jwtToken = (claims: object) => ok(token({ access_token: jwt(claims, 'upstream') }))
const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds

/** The same object with a member that no recursion ends. */
const deep = (json: string) => `${json.slice(0, -1)},"deep":${'['.repeat(2 ** 15)}${']'.repeat(2 ** 15)}}`

const LONGER = 'a longer life than was asked for'
const LONGEST = 'a life of a hundred million years'
const LATER = 'a JWT that ends later than its life is said to be'
const oauth: readonly Case[] = [
  ['a success that is 201', ok(token(), 201), 'EXCHANGE_UNUSABLE'],
  ['a success that is 202', ok(token(), 202), 'EXCHANGE_UNUSABLE'],
  ['a success that is 205', { status: 205, text: '' }, 'EXCHANGE_UNUSABLE'],
  ['a token that no header holds', ok(token({ access_token: 'a'.repeat(32_769) })), 'EXCHANGE_UNUSABLE'],
  ['a JWT whose scope is no text', jwtToken({ scope: [{ toString: 1 }] }), 'EXCHANGE_WIDER'],
  ['an empty body', { status: 200, text: '' }, 'EXCHANGE_UNUSABLE'],
  ['no JSON', { status: 200, text: '<html>' }, 'EXCHANGE_UNUSABLE'],
  ['a list', { status: 200, text: '[]' }, 'EXCHANGE_UNUSABLE'],
  ['null', { status: 200, text: 'null' }, 'EXCHANGE_UNUSABLE'],
  ['a null token', ok(token({ access_token: null })), 'EXCHANGE_UNUSABLE'],
  ['an empty token', ok(token({ access_token: '' })), 'EXCHANGE_UNUSABLE'],
  ['a token that is a number', ok(token({ access_token: 7 })), 'EXCHANGE_UNUSABLE'],
  ['a token with a header behind it', ok(token({ access_token: 'a\r\nX-Admin: 1' })), 'EXCHANGE_UNUSABLE'],
  ['a token of no type', ok(token({ token_type: undefined })), 'EXCHANGE_UNUSABLE'],
  ['a token whose type is no text', ok(token({ token_type: { toString: 1 } })), 'EXCHANGE_UNUSABLE'],
  ['a token of another type', ok(token({ token_type: 'mac' })), 'EXCHANGE_UNUSABLE'],
  ['a life of text', ok(token({ expires_in: '600' })), 'EXCHANGE_UNUSABLE'],
  ['no life', ok(token({ expires_in: undefined })), 'EXCHANGE_UNUSABLE'],
  ['a life of null', ok(token({ expires_in: null })), 'EXCHANGE_UNUSABLE'],
  ['half a second', ok(token({ expires_in: 0.5 })), 'EXCHANGE_UNUSABLE'],
  ['a life that has ended', ok(token({ expires_in: -1 })), 'EXCHANGE_UNUSABLE'],
  [
    'a life without end',
    { status: 200, text: JSON.stringify(token({ expires_in: 1 })).replace(':1,', ':1e400,') },
    'EXCHANGE_UNUSABLE',
  ],
  [LONGER, ok(token({ expires_in: 3600 })), 'EXCHANGE_WIDER'],
  [LONGEST, ok(token({ expires_in: 2 ** 52 })), 'EXCHANGE_WIDER'],
  ['a wider scope', ok(token({ scope: 'a b' })), 'EXCHANGE_WIDER'],
  [LATER, jwtToken({ scope: 'a', exp: inSeconds(86_400) }), 'EXCHANGE_WIDER'],
  ['a JWT of a wider scope', jwtToken({ scope: 'a b', exp: inSeconds(600) }), 'EXCHANGE_WIDER'],
  ['a JWT of a wider scp', jwtToken({ scp: ['a', 'b'], exp: inSeconds(600) }), 'EXCHANGE_WIDER'],
  ['a scope that is no text', ok(token({ scope: ['a'] })), 'EXCHANGE_UNUSABLE'],
  ['a refusal', ok({ error: 'invalid_client', error_description: CANARY }, 401), 'EXCHANGE_REFUSED'],
  ['a refusal that repeats what was sent', ok({ error: CANARY }, 400), 'EXCHANGE_REFUSED'],
  ['what is said to be no JSON', { status: 200, body: token(), headers: { 'content-type': 'text/html' } }, 'EXCHANGE_UNUSABLE'],
  ['a redirect', { status: 307, headers: { location: 'http://127.0.0.1:1/' } }, 'EXCHANGE_UNUSABLE'],
]

/** Where no library of the provider reads the answer first. */
const plain: readonly Case[] = [
  ['a refresh token that no form holds', ok(token({ refresh_token: 'a'.repeat(32_769) })), 'EXCHANGE_UNUSABLE'],
  ['lists in lists', { status: 200, text: deep(JSON.stringify(token({ id_token: 'a.b.c' }))) }, 'EXCHANGE_UNUSABLE'],
]

/** without those that are no fault where a lease or a seal ends what is longer */
const bounded = oauth.filter(([name]) => ![LONGER, LONGEST, LATER].includes(name))

/** An ID token, of which the claims are read and the signature is for whom it is for. */
const idToken = (changes: object = {}) => {
  return { token: jwt({ aud: 'https://api.example.com', email: ACCOUNT, exp: inSeconds(900), ...changes }) }
}
const ACCOUNT = 'sa@project.iam.gserviceaccount.com'
const { privateKey } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
})
const ofGoogle = token({ scope: undefined, issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' })

const installation = (changes: object = {}) => ({
  token: 'ghs_upstream',
  expires_at: soon(3600),
  permissions: { contents: 'read', metadata: 'read' },
  repository_selection: 'selected',
  repositories: [{ name: 'app' }],
  ...changes,
})

export const providers: readonly ProviderRow[] = [
  {
    type: 'oauth2',
    settings: url => ({ token_url: `${url}/token`, grant: 'client_credentials', client_id: 'assay' }),
    secrets: { client_secret: CANARY },
    asked: { grant: { scope: ['a'] } },
    good: ok(token()),
    cases: [...oauth, ...plain, ['a kind of token that is no text', ok(token({ issued_token_type: 7 })), 'EXCHANGE_UNUSABLE']],
  },
  {
    type: 'oauth2',
    which: 'what can be revoked',
    settings: url => ({
      token_url: `${url}/token`,
      revocation_url: `${url}/revoke`,
      grant: 'client_credentials',
      client_id: 'assay',
    }),
    secrets: { client_secret: CANARY },
    asked: { grant: { scope: ['a'] } },
    beside: ({ url }) => (url === '/revoke' ? { status: 200 } : undefined),
    revocation: ({ url, body }) => url === '/revoke' && (new URLSearchParams(body).get('token') ?? '').endsWith('upstream'),
    good: ok(token()),
    cases: bounded,
  },
  {
    type: 'oauth2',
    which: 'an audience that is told',
    settings: url => ({ token_url: `${url}/token`, grant: 'client_credentials', client_id: 'assay' }),
    secrets: { client_secret: CANARY },
    role: { target: 'resource' },
    asked: { grant: { scope: ['a'] } },
    good: jwtToken({ aud: ['https://api.example.com'], scope: 'a', exp: inSeconds(600) }),
    cases: [
      ['a JWT for another audience', jwtToken({ aud: 'https://other.example.com' }), 'EXCHANGE_WIDER'],
      ['a JWT for one more', jwtToken({ aud: ['https://api.example.com', 'https://other.example.com'] }), 'EXCHANGE_WIDER'],
      ['a JWT for nobody in particular', jwtToken({ scope: 'a' }), 'OK'],
    ],
  },
  {
    type: 'azure',
    settings: (url, _, ca) => ({ authority: url, tenant_id: 'tenant', client_id: 'app', auth: 'secret', ca }),
    tls: true,
    secrets: { client_secret: CANARY },
    asked: { grant: { scope: ['a'] } },
    good: ok(token()),
    cases: oauth,
  },
  {
    type: 'gcp',
    settings: (url, side) => ({ provider: '//iam.googleapis.com/p', sts_url: `${side}/sts`, iam_url: url }),
    secrets: {},
    role: { service_account: 'sa@project.iam.gserviceaccount.com' },
    asked: { grant: { scope: ['a'] } },
    side: ok(token({ scope: undefined, issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' })),
    good: ok({ accessToken: 'ya29.upstream', expireTime: soon() }),
    cases: [
      ['a success that is 201', ok({ accessToken: 'ya29', expireTime: soon() }, 201), 'EXCHANGE_UNUSABLE'],
      ['an empty body', { status: 200, text: '' }, 'EXCHANGE_UNUSABLE'],
      ['a null token', ok({ accessToken: null, expireTime: soon() }), 'EXCHANGE_UNUSABLE'],
      ['no end', ok({ accessToken: 'ya29' }), 'EXCHANGE_UNUSABLE'],
      ['an end that is a number', ok({ accessToken: 'ya29', expireTime: 7 }), 'EXCHANGE_UNUSABLE'],
      ['an end after all days', ok({ accessToken: 'ya29', expireTime: '9999-12-31T23:59:59Z' }), 'EXCHANGE_WIDER'],
      ['a token with a line break', ok({ accessToken: 'ya29\n', expireTime: soon() }), 'EXCHANGE_UNUSABLE'],
      ['an end in the past', ok({ accessToken: 'ya29', expireTime: soon(-60) }), 'EXCHANGE_UNUSABLE'],
      ['a longer life than was asked for', ok({ accessToken: 'ya29', expireTime: soon(3600) }), 'EXCHANGE_WIDER'],
      ['a refusal', ok({ error: { status: 'PERMISSION_DENIED', message: CANARY } }, 403), 'EXCHANGE_REFUSED'],
      ['a refusal that is no text', ok({ error: { status: { toString: 1 } } }, 403), 'EXCHANGE_REFUSED'],
      ['a redirect', { status: 307, headers: { location: 'http://127.0.0.1:1/' } }, 'EXCHANGE_UNUSABLE'],
    ],
  },
  {
    type: 'gcp',
    which: 'an ID token',
    settings: (url, side) => ({ provider: '//iam.googleapis.com/p', sts_url: `${side}/sts`, iam_url: url }),
    secrets: {},
    role: { service_account: ACCOUNT, gcp_token: 'id' },
    side: ok(ofGoogle),
    good: ok(idToken()),
    cases: [
      ['a success that is 201', ok(idToken(), 201), 'EXCHANGE_UNUSABLE'],
      ['an empty body', { status: 200, text: '' }, 'EXCHANGE_UNUSABLE'],
      ['a null token', ok({ token: null }), 'EXCHANGE_UNUSABLE'],
      ['a token that is no JWT', ok({ token: 'ya29.x' }), 'EXCHANGE_UNUSABLE'],
      ['no end', ok(idToken({ exp: undefined })), 'EXCHANGE_UNUSABLE'],
      ['an end of text', ok(idToken({ exp: '9999999999' })), 'EXCHANGE_UNUSABLE'],
      ['an end in the past', ok(idToken({ exp: 1 })), 'EXCHANGE_UNUSABLE'],
      ['a longer life than was asked for', ok(idToken({ exp: inSeconds(7200) })), 'EXCHANGE_WIDER'],
      ['another audience', ok(idToken({ aud: 'https://other.example.com' })), 'EXCHANGE_WIDER'],
      ['another account', ok(idToken({ email: 'admin@project.iam.gserviceaccount.com' })), 'EXCHANGE_WIDER'],
    ],
  },
  {
    type: 'gcp',
    which: 'an access boundary',
    settings: (url, side) => ({ auth: 'key', token_url: `${side}/token`, sts_url: `${url}/sts`, iam_url: side }),
    secrets: { key: JSON.stringify({ client_email: ACCOUNT, private_key_id: CANARY, private_key: privateKey }) },
    role: {
      service_account: ACCOUNT,
      boundary: { rules: [{ availableResource: '//storage.googleapis.com/projects/_/buckets/reports' }] },
      permissions: { read: ['inRole:roles/storage.objectViewer'] },
    },
    asked: { grant: { scope: ['a'] } },
    // the wide token, which is not to be handed out, and how it is come by
    side: ok({ ...ofGoogle, accessToken: 'ya29.wide', expireTime: soon() }),
    good: ok(ofGoogle),
    cases: [
      ['a success that is 201', ok(ofGoogle, 201), 'EXCHANGE_UNUSABLE'],
      ['an empty body', { status: 200, text: '' }, 'EXCHANGE_UNUSABLE'],
      ['a null token', ok({ ...ofGoogle, access_token: null }), 'EXCHANGE_UNUSABLE'],
      ['the wide token again', ok({ ...ofGoogle, access_token: 'ya29.wide' }), 'EXCHANGE_WIDER'],
      ['a refusal', ok({ error: 'invalid_request', error_description: CANARY }, 400), 'EXCHANGE_REFUSED'],
    ],
  },
  {
    type: 'oauth2_consent',
    settings: url => ({
      issuer: url,
      discovery: 'none',
      authorization_url: `${url}/authorize`,
      token_url: `${url}/token`,
      client_id: 'assay',
      client_auth: 'client_secret_post',
    }),
    secrets: { client_secret: CANARY },
    consented: { refresh_token: `${CANARY}-of-a-person` },
    role: { delivery: 'sealed', destinations: 'https://api.example.com' },
    asked: { grant: { scope: ['a'] } },
    good: ok(token()),
    // what is sealed ends with the grant, whatever is in it
    cases: [...bounded, ...plain],
  },
  {
    type: 'github_app',
    settings: url => ({ api_url: url, app_id: '12', installation_id: '34', key: 'assay-rsa' }),
    secrets: {},
    role: { repositories: 'app', permissions: { read: ['contents:read'] } },
    beside: ({ method }) => (method === 'DELETE' ? { status: 204 } : undefined),
    revocation: ({ method, headers }) => method === 'DELETE' && headers.authorization === 'Bearer ghs_upstream',
    good: ok(installation(), 201),
    cases: [
      ['a success that is 200', ok(installation()), 'EXCHANGE_UNUSABLE'],
      ['an empty body', { status: 201, text: '' }, 'EXCHANGE_UNUSABLE'],
      ['a null token', ok(installation({ token: null }), 201), 'EXCHANGE_UNUSABLE'],
      ['no end', ok(installation({ expires_at: undefined }), 201), 'EXCHANGE_UNUSABLE'],
      ['an end in the past', ok(installation({ expires_at: soon(-60) }), 201), 'EXCHANGE_UNUSABLE'],
      ['more of a permission', ok(installation({ permissions: { contents: 'write' } }), 201), 'EXCHANGE_WIDER'],
      ['another permission', ok(installation({ permissions: { contents: 'read', issues: 'read' } }), 201), 'EXCHANGE_WIDER'],
      ['permissions that are no text', ok(installation({ permissions: { contents: { toString: 1 } } }), 201), 'EXCHANGE_WIDER'],
      ['permissions that are a list', ok(installation({ permissions: ['contents:read'] }), 201), 'EXCHANGE_WIDER'],
      ['repositories that are no objects', ok(installation({ repositories: ['app', null] }), 201), 'EXCHANGE_WIDER'],
      ['no permissions', ok(installation({ permissions: undefined }), 201), 'EXCHANGE_WIDER'],
      ['all repositories', ok(installation({ repository_selection: 'all' }), 201), 'EXCHANGE_WIDER'],
      ['another repository', ok(installation({ repositories: [{ name: 'app' }, { name: 'payroll' }] }), 201), 'EXCHANGE_WIDER'],
      ['no list of repositories', ok(installation({ repositories: undefined }), 201), 'EXCHANGE_WIDER'],
      ['a refusal', ok({ message: CANARY }, 422), 'EXCHANGE_REFUSED'],
    ],
  },
  {
    type: 'aws_sts',
    settings: url => ({ region: 'eu-central-1', endpoint: url, auth: 'access_key' }),
    secrets: { access_key_id: 'AKIAEXAMPLE000000000', secret_access_key: CANARY },
    role: { role_arn: ROLE_ARN, permissions: { read: ['s3:GetObject arn:aws:s3:::bucket/*'] } },
    good: xml(200, assumed()),
    cases: [
      ['a success that is 201', xml(201, assumed()), 'EXCHANGE_UNUSABLE'],
      ['an empty body', xml(200, ''), 'EXCHANGE_UNUSABLE'],
      ['no XML', xml(200, '{"a":1}'), 'EXCHANGE_UNUSABLE'],
      ['a type of document', xml(200, `<!doctype a>${assumed()}`), 'EXCHANGE_UNUSABLE'],
      ['an empty token', xml(200, assumed({ token: '' })), 'EXCHANGE_UNUSABLE'],
      ['a token with a line break', xml(200, assumed({ token: 'a&#10;b' })), 'EXCHANGE_UNUSABLE'],
      ['a token that no header holds', xml(200, assumed({ token: 'a'.repeat(32_769) })), 'EXCHANGE_UNUSABLE'],
      ['an end in the past', xml(200, assumed({ end: soon(-60) })), 'EXCHANGE_UNUSABLE'],
      ['a longer life than was asked for', xml(200, assumed({ end: soon(7200) })), 'EXCHANGE_UNUSABLE'],
      ['two keys', xml(200, assumed().replace(/<AccessKeyId>.*?<.AccessKeyId>/, '$&$&')), 'EXCHANGE_UNUSABLE'],
      ['two ends', xml(200, assumed().replace(/<Expiration>.*?<.Expiration>/, '$&$&')), 'EXCHANGE_UNUSABLE'],
      [
        'another source identity',
        xml(200, assumed().replace('</AssumeRoleResult>', '<SourceIdentity>root</SourceIdentity>$&')),
        'EXCHANGE_WIDER',
      ],
      [
        'a refusal that repeats what was sent',
        xml(403, `<ErrorResponse><Error><Code>${CANARY}</Code></Error></ErrorResponse>`),
        'EXCHANGE_REFUSED',
      ],
      ['a request too many', xml(400, '<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>'), 'unavailable'],
      [
        'a session policy that is too large once it is packed',
        xml(400, '<ErrorResponse><Error><Code>PackedPolicyTooLarge</Code></Error></ErrorResponse>'),
        'EXCHANGE_REFUSED',
      ],
      ['no date', xml(200, assumed({ end: 'tomorrow' })), 'EXCHANGE_UNUSABLE'],
      ['another role', xml(200, assumed({ arn: 'arn:aws:sts::123456789012:assumed-role/admin/x' })), 'EXCHANGE_WIDER'],
      ['another account', xml(200, assumed().replace('sts::123456789012', 'sts::999999999999')), 'EXCHANGE_WIDER'],
      [
        'a refusal',
        xml(403, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>${CANARY}</Message></Error></ErrorResponse>`),
        'EXCHANGE_REFUSED',
      ],
    ],
  },
]
