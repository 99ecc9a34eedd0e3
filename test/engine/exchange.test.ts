import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { permissionsOf } from '../../engine/issue/permissions.ts'
import { type Grant, issuers } from '../../engine/issuers/index.ts'
import { NO_CONTEXT } from '../../engine/tasks/bindings.ts'
import { MOUNT, openTestExchange, type TestExchange } from '../fakes/exchange.ts'
import { type Provider, startProvider } from '../fakes/provider.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { plans, SEALED } from './issuers/plans.ts'
import { exchangeRefusals } from './provocations.ts'

let provider: Provider
let open: TestExchange[] = []
beforeEach(async () => {
  provider = await startProvider()
  provider.answer = () => ({ status: 200, body: TOKEN })
})
afterEach(async () => {
  for (const one of open) await one[Symbol.asyncDispose]()
  open = []
  await provider[Symbol.asyncDispose]()
})

const TOKEN = { access_token: 'upstream', token_type: 'Bearer', expires_in: 600 }
const SCOPED = { grant: { scope: ['a'] } }

function opened(options: Partial<Parameters<typeof openTestExchange>[0]> = {}): TestExchange {
  const settings = { token_url: `${provider.url}/token`, grant: 'client_credentials', client_id: 'assay' }
  const one = openTestExchange({ type: 'oauth2', settings, secrets: { client_secret: 'secret' }, ...options })
  open.push(one)
  return one
}
const github = (role: object = {}) =>
  opened({
    type: 'github_app',
    settings: { api_url: provider.url, app_id: '1', installation_id: '2', key: 'assay-rsa', ceiling: 'contents:read' },
    role: { repositories: 'app', permissions: { read: ['contents:read'] }, ...role },
  })

describe('every refusal of exchanges is provoked', () => {
  const provocations: Readonly<Record<(typeof exchangeRefusals)[number], () => Promise<string>>> = {
    PERMISSIONS: async () => github({ permissions: { read: ['contents:write', 'issues:read'] } }).outcome(),
    INTEGRATION: async () => outcomeOf(opened().exchange.prepare(MOUNT, recordOf('oauth2'), 'read', undefined)),
    DELIVERY: async () => opened({ type: 'static', settings: {}, secrets: { api_key: 'k' } }).outcome(),
    PARAMETERS: async () => opened({ role: { dpop: 'required' } }).outcome(SCOPED),
    EXCHANGE_REFUSED: async () => {
      provider.answer = () => ({ status: 400, body: { error: 'invalid_client' } })
      return opened().outcome(SCOPED)
    },
    EXCHANGE_UNUSABLE: async () => {
      provider.answer = () => ({ status: 201, body: TOKEN })
      return opened().outcome(SCOPED)
    },
    EXCHANGE_WIDER: async () => {
      provider.answer = () => ({ status: 200, body: { ...TOKEN, scope: 'a b' } })
      return opened().outcome(SCOPED)
    },
  }
  test.each(Object.entries(provocations))('%s', async (code, provoke) => expect(await provoke()).toBe(code))
  test('each once', () => expect(Object.keys(provocations).toSorted()).toEqual([...exchangeRefusals].toSorted()))
})

const outcomeOf = (verdict: { ok: true } | { ok: false; code: string }) => (verdict.ok ? 'OK' : verdict.code)
const recordOf = (issuer: string) => ({ issuer, permissions: {}, delivery: 'direct', integration: 'acme' }) as never

describe('a credential that may be given again', () => {
  const shared = { role: { reuse: true } }

  test('is asked for once by 64 who ask at once', async () => {
    const one = opened(shared)
    const all = await Promise.all(Array.from({ length: 64 }, () => one.issue(SCOPED)))
    expect(all.filter(verdict => verdict.ok)).toHaveLength(64)
    expect(all.filter(verdict => verdict.ok && !verdict.value.reused)).toHaveLength(1)
    expect(provider.asked).toHaveLength(1)
  })

  test('is not, where the role does not say so', async () => {
    const one = opened()
    await Promise.all(Array.from({ length: 8 }, () => one.issue(SCOPED)))
    expect(provider.asked).toHaveLength(8)
  })

  /** All of a grant but which request it answers, and when: a member that is new has to be here. */
  const differing: Omit<Grant, 'txn' | 'jti' | 'issuedAt' | 'ttlSeconds'> = {
    scope: ['b'],
    tpmId: 'sha256-other',
    plugin: 'other',
    action: 'write',
    audience: 'https://other.example',
    permissions: ['x'],
    parameters: { x: '1' },
    task: { ...NO_CONTEXT, org: 'o' },
    keyThumbprint: 'other',
    x5tS256: 'other',
  }
  const others: readonly (readonly [string, Parameters<TestExchange['issue']>[0]])[] = [
    ...Object.entries(differing).map(([name, other]) => [`another ${name}`, { grant: { scope: ['a'], [name]: other } }] as const),
    ...['org', 'task', 'session', 'user', 'txn'].map(
      name => [`another ${name} of the task`, { grant: { scope: ['a'], task: { ...NO_CONTEXT, [name]: 'x' } } }] as const,
    ),
    ...['policyVersion', 'reasons', 'login', 'role', 'entityId'].map(
      name => [`another ${name} behind the decision`, { grant: { scope: ['a'] }, decidedBy: { [name]: 'x' } }] as const,
    ),
    ['another role', { grant: { scope: ['a'] }, role: { ttl: 60 } }],
  ]
  test.each(others)('is not given for %s', async (_, asked) => {
    const one = opened(shared)
    await one.credential(SCOPED)
    await one.credential(SCOPED)
    expect(provider.asked).toHaveLength(1)
    await one.credential(asked)
    expect(provider.asked).toHaveLength(2)
  })

  test('is not given for a shorter life than it has', async () => {
    const one = opened(shared)
    await one.credential(SCOPED)
    expect(await one.outcome({ grant: { scope: ['a'], ttlSeconds: 300 } })).toBe('EXCHANGE_WIDER')
    expect(provider.asked).toHaveLength(2)
    await one.credential({ grant: { scope: ['a'], ttlSeconds: 700 } })
    expect(provider.asked).toHaveLength(2)
  })

  test.each([
    ['the role puts up with it', { provider_ttl: '1h' }],
    ['it is delivered sealed', SEALED],
  ])('is given where the provider decides how long it lives, and %s', async (_, role) => {
    provider.answer = () => ({ status: 200, body: { ...TOKEN, expires_in: 3600 } })
    const one = opened({ role: { reuse: true, ...role } })
    const all = await Promise.all(Array.from({ length: 64 }, () => one.issue(SCOPED)))
    expect(all.filter(verdict => verdict.ok)).toHaveLength(64)
    expect(await one.outcome({ grant: { scope: ['a'], ttlSeconds: 60 } })).toBe('OK')
    expect(provider.asked).toHaveLength(1)
  })

  test('is waited for together by those whose grants end sooner, too', async () => {
    const one = opened(shared)
    const lives = Array.from({ length: 16 }, (_, index) => ({ grant: { scope: ['a'], ttlSeconds: index % 2 ? 300 : 900 } }))
    const outcomes = await Promise.all(lives.map(one.outcome))
    expect(new Set(outcomes)).toEqual(new Set(['OK', 'EXCHANGE_WIDER']))
    expect(provider.asked).toHaveLength(2)
  })

  test('is not given after the root credential was replaced', async () => {
    const one = opened(shared)
    await one.credential(SCOPED)
    await one.root.replace({ fields: (await one.root.read()).fields }, '1')
    await one.credential(SCOPED)
    expect(provider.asked).toHaveLength(2)
  })

  test('is given until half of its life is over', async () => {
    const one = opened(shared)
    await one.credential(SCOPED)
    one.pass(299_000)
    await one.credential(SCOPED)
    expect(provider.asked).toHaveLength(1)
    one.pass(2_000)
    await one.credential(SCOPED)
    expect(provider.asked).toHaveLength(2)
  })

  test('is forgotten when it was not made: the next asks again', async () => {
    const one = opened(shared)
    provider.answer = () => ({ status: 400, body: { error: 'invalid_client' } })
    expect(await Promise.all([one.outcome(SCOPED), one.outcome(SCOPED)])).toEqual(['EXCHANGE_REFUSED', 'EXCHANGE_REFUSED'])
    provider.answer = () => ({ status: 200, body: TOKEN })
    expect(await one.outcome(SCOPED)).toBe('OK')
  })
})

describe('what came beside what cannot be used', () => {
  const rotated = (body: object = {}) => ({ status: 200, body: { ...TOKEN, scope: 'a', refresh_token: 'next', ...body } })
  const answers = [
    ['a success that is 201', { ...rotated(), status: 201 }, 'EXCHANGE_UNUSABLE'],
    ['a life of text', rotated({ expires_in: '600' }), 'EXCHANGE_UNUSABLE'],
    ['a wider scope', rotated({ scope: 'a b' }), 'EXCHANGE_WIDER'],
  ] as const

  test.each(answers)('%s: the refresh token is kept, as the one before may be worth nothing now', async (_, answer, code) => {
    provider.answer = ({ url }) => (url === '/revoke' ? { status: 200 } : answer)
    const where = { token_url: `${provider.url}/token`, revocation_url: `${provider.url}/revoke` }
    const settings = { ...where, grant: 'refresh_token', client_id: 'assay' }
    const one = opened({ settings, secrets: { client_secret: 'secret', refresh_token: 'first' } })
    expect(await one.outcome(SCOPED)).toBe(code)
    expect((await one.root.read()).fields['refresh_token']?.reveal()).toBe('next')
    expect(provider.asked.map(({ url }) => url)).toEqual(['/token', '/revoke'])
  })

  test.each(answers)('%s: so it is with Entra', async (_, answer, code) => {
    const authority = await newAuthority('Authority of Entra')
    await using entra = await startProvider(await authority.issue('entra'))
    entra.answer = () => answer
    const one = opened({
      type: 'azure',
      settings: { authority: entra.url, tenant_id: 't', client_id: 'c', auth: 'refresh_token', ca: authority.ca },
      secrets: { client_secret: 'secret', refresh_token: 'first' },
    })
    expect(await one.outcome(SCOPED)).toBe(code)
    expect((await one.root.read()).fields['refresh_token']?.reveal()).toBe('next')
  })
})

describe('the ceiling of an integration bounds the scopes of OAuth', () => {
  const within = (ceiling: string, scope: readonly string[]) =>
    opened({
      settings: { token_url: `${provider.url}/token`, grant: 'client_credentials', client_id: 'assay', ceiling },
    }).issue({ grant: { scope } })
  test.each([
    ['a', ['a'], 'OK'],
    ['a:*', ['a:read', 'a:write'], 'OK'],
    ['', ['b'], 'OK'],
    ['a', ['b'], 'SCOPE'],
    ['a', ['a', 'b'], 'SCOPE'],
    ['a', ['a:read'], 'SCOPE'],
    // it would be whatever the server has for the client
    ['a', [], 'SCOPE'],
  ] as const)('%s for %j: %s', async (ceiling, scope, code) => {
    expect(outcomeOf(await within(ceiling, scope))).toBe(code)
    expect(provider.asked).toHaveLength(code === 'OK' ? 1 : 0)
  })
})

describe('permissions', () => {
  const names = fc.constantFrom('a:x', 'a:y', 'b:x', 'b:y', 'c')
  const issuer = { permissions: { form: [/./, ''] as const } }

  test('are those of the action, within the ceiling, and never empty', () => {
    const lists = fc.dictionary(fc.constantFrom('read', 'write'), fc.array(names, { maxLength: 4 }))
    const ceilings = fc.option(fc.array(fc.oneof(names, fc.constantFrom('a:*', '*')), { minLength: 1 }), { nil: undefined })
    fc.assert(
      fc.property(lists, ceilings, (permissions, ceiling) => {
        const verdict = permissionsOf(issuer, { permissions }, 'read', ceiling)
        const wanted = (permissions['read'] ?? []).filter(
          one => !ceiling || ceiling.some(limit => limit === one || (limit.endsWith('*') && one.startsWith(limit.slice(0, -1)))),
        )
        expect(verdict.ok ? verdict.value : []).toEqual(wanted.toSorted())
        expect(verdict.ok).toBe(wanted.length > 0)
      }),
    )
  })

  test('of one action are never those of another', () => {
    expect(permissionsOf(issuer, { permissions: { write: ['a:x'] } }, 'read', undefined).ok).toBe(false)
    expect(permissionsOf(issuer, { permissions: {} }, 'constructor', undefined).ok).toBe(false)
  })
})

test.each([
  ['github_app', { app_id: '1', installation_id: '2', key: 'assay-rsa' }, 'api_url'],
  ['azure', { tenant_id: 't', client_id: 'c', auth: 'secret' }, 'authority'],
  ['gcp', {}, 'iam_url'],
])('a slash at the end of the address of %s counts for nothing', async (type, settings, name) => {
  const role = plans.find(([one]) => one === type)?.[2] ?? {}
  const planned = (url: string) => opened({ type, settings: { ...settings, [name]: url }, role }).plan()
  expect(await planned('https://provider.example/api/')).toEqual(await planned('https://provider.example/api'))
})

test.each(plans)('the plan of %s holds what would be sent, and nothing secret', async (type, settings, role, holds) => {
  const plan = JSON.stringify(await opened({ type, settings, role, secrets: { client_secret: 'CanaRy', key: 'CanaRy' } }).plan())
  expect(plan).toContain(holds)
  expect(plan).not.toContain('CanaRy')
})
test.each([
  [
    'more than STS takes',
    Array.from({ length: 40 }, (_, at) => `s3:GetObject arn:aws:s3:::bucket-${at}/*`),
    {},
    /^PERMISSIONS: /,
  ],
  ['a user that is no tag of AWS', ['s3:GetObject arn:aws:s3:::b/*'], { user: 'a;b' }, /^PARAMETERS: user cannot/],
])('what would be refused is refused when it is planned: %s', async (_, read, task, said) => {
  const role = { role_arn: 'arn:aws:iam::123456789012:role/agents', permissions: { read } }
  const one = opened({ type: 'aws_sts', settings: { region: 'eu-central-1' }, role })
  await expect(one.plan({ grant: { task: { ...NO_CONTEXT, org: 'o', ...task } } })).rejects.toThrow(said)
})
test('every issuer has such a plan', () =>
  expect(plans.map(([type]) => type).toSorted()).toEqual(Object.keys(issuers).toSorted()))
