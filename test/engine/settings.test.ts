import { afterAll, beforeAll, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { makeCa, named } from '../attestation/certificates.ts'
import { configure, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { anchorPem } from '../fakes/machine.ts'

let broker: TestBroker
beforeAll(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await broker.sys('POST', 'sys/mounts/bare', { type: 'broker' })
  await broker.ask('update', 'broker/integration/there', { type: 'static' })
  await broker.ask('update', 'broker/integration/acme', { type: 'static', org: 'acme', tasks: 'release' })
  await broker.ask('update', 'broker/orchestrator/planner', PLANNER)
})
afterAll(() => broker[Symbol.asyncDispose]())

const ROLE = { plugins: 'a', actions: 'deploy', audiences: 'b' }
const digest = 'ab'.repeat(32)
const sha256 = (pcrs: unknown) => ({ pcrs: { sha256: pcrs } })
const banks = 'sha256, sha384'

const availableResource = '//storage.googleapis.com/projects/_/buckets/reports'
const CONSENTED = { ...ROLE, issuer: 'oauth2_consent', integration: 'x', delivery: 'sealed', destinations: 'https://api.example' }
const GOOGLE = {
  ...ROLE,
  issuer: 'gcp',
  integration: 'google',
  service_account: 'agents@acme.iam.gserviceaccount.com',
  permissions: { deploy: ['inRole:roles/storage.objectViewer'] },
}

const PLANNER = { issuer: 'https://o.example', audience: 'b', orgs: 'acme', jwks_url: 'https://o.example/jwks' }
const OAUTH = { type: 'oauth2', settings: { grant: 'client_credentials' } }

const refused: readonly (readonly [string, object, string])[] = [
  ['auth/tpm-quote/config', { enrollment: 'all' }, 'enrollment: wanted one of any, listed, token'],
  ['auth/tpm-quote/config', { ek_types: 'rsa-1024' }, 'ek_types: wanted one of rsa-2048, p-256, p-384'],
  ['auth/tpm-quote/config', { ek_types: [] }, 'ek_types: wanted at least one kind'],
  ['auth/tpm-quote/config', { hierarchies: [] }, 'hierarchies: wanted at least one'],
  ['auth/tpm-quote/config', { hierarchies: 'platform' }, 'hierarchies: wanted one of endorsement, ek, owner'],
  ['auth/tpm-quote/config', { challenge_ttl: 0 }, 'challenge_ttl: wanted 1 to 60 seconds'],
  ['auth/tpm-quote/config', { challenge_ttl: '61s' }, 'challenge_ttl: wanted 1 to 60 seconds'],
  ['auth/tpm-quote/config', { allow_software_tpms: 'maybe' }, 'allow_software_tpms: wanted true or false'],
  ['auth/tpm-quote/ca/x', {}, 'missing certificate: Trust anchors: one or more certificates in PEM.'],
  ['auth/tpm-quote/ca/x', { certificate: '' }, 'certificate: wanted at least one certificate in PEM'],
  ['auth/tpm-quote/ca/x', { certificate: 'x' }, 'certificate: wanted at least one certificate in PEM'],
  [
    'auth/tpm-quote/ca/x',
    { certificate: `${anchorPem()}${anchorPem().replace('MII', 'AAA')}` },
    'certificate: number 2 of the bundle cannot be read',
  ],
  ['auth/tpm-quote/reference/x', {}, `pcrs: wanted values under one of the banks ${banks}`],
  ['auth/tpm-quote/reference/x', { pcrs: {} }, `pcrs: wanted values under one of the banks ${banks}`],
  ['auth/tpm-quote/reference/x', { pcrs: { sha1: { 0: 'ab'.repeat(20) } } }, `pcrs: wanted one of the banks ${banks}`],
  ['auth/tpm-quote/reference/x', sha256('x'), 'pcrs: wanted an object of PCRs under sha256'],
  ['auth/tpm-quote/reference/x', sha256(null), 'pcrs: wanted an object of PCRs under sha256'],
  ['auth/tpm-quote/reference/x', sha256({}), 'pcrs: wanted at least one PCR under sha256'],
  ...['16', '23', '24', '-1', '01', '1.0', 'x', ''].map(
    pcr =>
      [
        'auth/tpm-quote/reference/x',
        sha256({ [pcr]: digest }),
        'pcrs: wanted PCRs 0 to 22, not 16: software can reset 16 and 23',
      ] as const,
  ),
  ...[[], '', 7, null, digest.slice(2), `${digest}00`, [digest, 'x'], [[digest]], `0x${digest.slice(2)}`].map(
    value => ['auth/tpm-quote/reference/x', sha256({ 0: value }), 'pcrs: wanted digests of 32 bytes in hex for PCR 0'] as const,
  ),
  ['auth/tpm-quote/role/x', { references: [] }, 'references: wanted at least one set of reference values'],
  ['auth/tpm-quote/role/x', {}, 'references: wanted at least one set of reference values'],
  ['auth/tpm-quote/role/x', { references: 'good,none' }, 'references: there is no set of the name at place 2: write it first'],
  ['auth/tpm-quote/role/x', { references: 'good', bind_key: 'no' }, 'bind_key: wanted one of optional, required'],
  [
    'auth/tpm-quote/role/x',
    { references: 'good', token_type: 'x' },
    'token_type: wanted one of default, service, batch, default-service, default-batch',
  ],
  [
    'broker/config',
    { issuer: 'assay.example' },
    'issuer: wanted an http or https URL without query and without a slash at the end',
  ],
  ['broker/config', { issuer: 'https://assay.example/' }, 'issuer: wanted an http or https URL'],
  ['broker/config', { issuer: 'https://assay.example?x' }, 'issuer: wanted an http or https URL'],
  ['broker/config', { issuer: 'https://assay.example#x' }, 'issuer: wanted an http or https URL'],
  ['broker/config', { issuer: 'ftp://assay.example' }, 'issuer: wanted an http or https URL'],
  ['broker/policy/x', {}, 'missing policy: Cedar policies'],
  ['broker/policy/x', { policy: 'permit (principal, action, resource)' }, 'policy: line 1, column'],
  ['broker/policy/x', { policy: 'permit (principal, action == Action::"fly", resource);' }, 'policy: line 1, column'],
  [
    'bare/policy/x',
    { policy: 'permit (principal, action, resource);' },
    'write the actions into config first: policies are checked against them',
  ],
  ['broker/role/x', { ...ROLE, issuer: 'aws' }, 'issuer: wanted one of jwt'],
  ['broker/role/x', { ...ROLE, plugins: [] }, 'plugins: wanted at least one'],
  ['broker/role/x', { ...ROLE, actions: [] }, 'actions: wanted at least one'],
  ['broker/role/x', { ...ROLE, audiences: [] }, 'audiences: wanted at least one'],
  ['broker/role/x', { ...ROLE, actions: 'deploy,fly' }, 'actions: the one at place 2 is not among the actions in config'],
  ['bare/role/x', ROLE, 'actions: the one at place 1 is not among the actions in config'],
  ...['a b', 'a"b', 'a\\b', 'a\tb'].map(
    scope =>
      [
        'broker/role/x',
        { ...ROLE, scopes: [scope] },
        'scopes: wanted scope tokens without space, quote and backslash (RFC 6749, 3.3)',
      ] as const,
  ),
  ['broker/role/x', { ...ROLE, max_ttl: 0 }, 'ttl: wanted at most max_ttl, which is 0 seconds, and that at least one'],
  ['broker/role/x', { ...ROLE, ttl: '2h' }, 'ttl: wanted at most max_ttl, which is 3600 seconds, and that at least one'],
  ['broker/role/x', { ...ROLE, max_ttl: '61m' }, 'max_ttl: wanted at most 3600 seconds'],
  ['broker/role/x', { ...CONSENTED, attestation: 'request' }, 'attestation: wanted login: a person is asked'],
  ...[null, 7, 'x', { expression: 'true' }].map(
    rule => ['broker/role/x', { ...GOOGLE, boundary: { rules: [rule] } }, 'boundary: wanted rules, at most 10, each'] as const,
  ),
  ...[
    { rules: [{ availableResource, availabilityCondition: { expression: 'false' } }] },
    { rules: [{ availableResource, availablePermissions: ['inRole:roles/storage.objectViewer'] }] },
    { rules: [{ availableResource }], expression: 'false' },
  ].map(
    boundary =>
      [
        'broker/role/x',
        { ...GOOGLE, boundary },
        'boundary: wanted rules of availableResource and expression, and nothing else',
      ] as const,
  ),
  ...['https://idp.example:84433/token', 'https://[idp/token', 'https://idp.example:x/token', 'http://idp.example/token', ''].map(
    token_url =>
      [
        'broker/integration/x',
        { ...OAUTH, settings: { ...OAUTH.settings, token_url } },
        'token_url: wanted an https URL without user, query and fragment',
      ] as const,
  ),
  ...['2027-13-01T00:00:00Z', '2027-01-01T25:00:00Z', 'tomorrow'].flatMap(expires_at =>
    [
      ['broker/integration/x', { type: 'static', expires_at }],
      ['broker/integration/there/grant/e', { expires_at }],
    ].map(([path, data]) => [path as string, data as object, 'expires_at: wanted a time such as'] as const),
  ),
  ['broker/integration/x', { type: 'static', tasks: 'release' }, 'tasks: wanted org too'],
  ['broker/integration/acme', { org: '' }, 'tasks: wanted org too'],
  ['broker/orchestrator/x', PLANNER, 'issuer: the orchestrator planner has it'],
  ['broker/role/x', { ...ROLE, attestation: 'never' }, 'attestation: wanted one of login, request'],
]

test.each(refused)('%s %j is refused: %s', async (path, data, sentence) => {
  const before = broker.vault.state.kv.size
  const error = await broker.ask('update', path, data).then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  )
  expect(error).toBeInstanceOf(BrokerError)
  expect(error).toMatchObject({ code: 'bad_request', message: expect.stringContaining(sentence) as string })
  expect(broker.vault.state.kv.size).toBe(before)
})

test('keys that cannot be published are not: with one of them there would be no JWKS at all', async () => {
  await expect(broker.ask('update', 'broker/config', { rsa_keys: 'assay-nowhere' })).rejects.toThrow(
    'the transit key assay-nowhere does not exist',
  )
  await expect(broker.ask('read', 'broker/.well-known/jwks.json')).resolves.toBeDefined()
})

const taken: readonly (readonly [string, object])[] = [
  ['auth/tpm-quote/config', { challenge_ttl: 1 }],
  ['auth/tpm-quote/config', { challenge_ttl: '1m' }],
  ['auth/tpm-quote/ca/y', { certificate: `# a root\n${anchorPem()}\n\n${anchorPem(makeCa(named('Other')))}` }],
  [
    'auth/tpm-quote/reference/y',
    { pcrs: { sha256: { 0: digest, 22: [digest, digest.toUpperCase()] }, sha384: { 7: 'ab'.repeat(48) } } },
  ],
  ['auth/tpm-quote/reference/y', { pcrs: JSON.stringify({ sha256: { 0: digest } }) }],
  ['auth/tpm-quote/tpm/sha256-ab', { labels: 'a,b', disabled: true }],
  ['broker/config', { issuer: 'http://127.0.0.1:8210/v1/broker' }],
  ['broker/config', { issuer: '' }],
  ['broker/role/y', { ...GOOGLE, boundary: { rules: [{ availableResource, expression: 'true' }, { availableResource }] } }],
  ['broker/orchestrator/planner', { orgs: 'acme,umbrella' }],
  ['bare/orchestrator/planner', PLANNER],
  ['broker/orchestrator/other', { ...PLANNER, issuer: `${PLANNER.issuer}/` }],
  ['broker/role/z', { ...ROLE, ttl: 1, max_ttl: 3600, scopes: 'a:b,c/d' }],
]
test.each(taken)('%s %j is taken', async (path, data) => {
  await expect(broker.ask('update', path, data)).resolves.toMatchObject({ reply: undefined })
})
