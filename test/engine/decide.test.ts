import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { type Agent, type Ask, decide } from '../../engine/issue/decide.ts'
import { CEILING_SECONDS, type RoleRecord, roleFields } from '../../engine/issue/settings.ts'
import { compile } from '../../engine/policy/index.ts'
import { NO_CONTEXT } from '../../engine/tasks/bindings.ts'

const role: RoleRecord = {
  ...parseFields(roleFields, { plugins: 'kubernetes', actions: 'deploy', audiences: 'https://api.example.com' }).values,
  scopes: ['apps:read', 'apps:write'],
  // as `within` fills it in
  ttl: 900,
}
const agent: Agent = {
  tpmId: `sha256-${'ab'.repeat(32)}`,
  mount: 'auth/tpm-quote/',
  role: 'builder',
  entityId: 'entity',
  maker: 'id:49465800',
  firmwareVersion: '1',
  state: { reference: '', referenceVersion: 0, secureBoot: false, bootLog: false, ima: false },
  keyThumbprint: 'thumbprint',
  x5tS256: '',
  keyCertified: false,
  tokenTtlSeconds: 3600,
  attestationAgeSeconds: 10,
  attestationLeftSeconds: Number.POSITIVE_INFINITY,
  workLeftSeconds: Number.POSITIVE_INFINITY,
  labels: [],
  task: NO_CONTEXT,
  fresh: false,
}
const ask: Ask = { plugin: undefined, action: undefined, scope: ['apps:read'], audience: undefined, ttlSeconds: undefined }
const all = compile([{ name: 'all', text: 'permit (principal, action, resource);' }], ['deploy', 'delete'])

type Change = {
  readonly role?: Partial<RoleRecord>
  readonly agent?: Partial<Agent>
  readonly ask?: Partial<Ask>
  readonly policies?: string
}
function decided({ role: other, agent: who, ask: what, policies }: Change) {
  const compiled =
    policies === undefined ? all : compile(policies === '' ? [] : [{ name: 'p', text: policies }], ['deploy', 'delete'])
  return decide('deploy', { ...role, ...other }, compiled, { ...agent, ...who }, { ...ask, ...what })
}
const code = (change: Change) => {
  const verdict = decided(change)
  return verdict.ok ? 'OK' : verdict.code
}

const cases: readonly (readonly [string, string, Change])[] = [
  ['OK', 'what the role leaves no choice about may be left out', {}],
  ['OK', 'what is asked for', { ask: { plugin: 'kubernetes', action: 'deploy', audience: 'https://api.example.com' } }],
  ['OK', 'the whole ceiling', { ask: { scope: ['apps:write', 'apps:read'] } }],
  ['OK', 'no scope, where the role has none', { role: { scopes: [] }, ask: { scope: [] } }],
  ['OK', 'the login role is among those', { role: { login_roles: ['other', 'builder'] } }],
  ['ROLE', 'the role is for other logins', { role: { login_roles: ['other'] } }],
  ['OK', 'the login role of this mount is', { role: { login_roles: ['auth/tpm-quote/builder'] } }],
  ['ROLE', 'the role of this name at another mount is', { role: { login_roles: ['auth/lab/builder'] } }],
  ['ROLE', 'login roles are compared letter by letter', { role: { login_roles: ['Builder'] } }],
  ['PLUGIN', 'a plugin that the role does not serve', { ask: { plugin: 'payroll' } }],
  ['PLUGIN', 'no plugin, where the role serves two', { role: { plugins: ['kubernetes', 'payroll'] } }],
  ['PLUGIN', 'a plugin without a name', { ask: { plugin: '' } }],
  ['ACTION', 'an action that the role does not serve', { ask: { action: 'delete' } }],
  ['ACTION', 'no action, where the role serves two', { role: { actions: ['deploy', 'delete'] } }],
  ['SCOPE', 'a scope above the ceiling', { ask: { scope: ['apps:read', 'apps:admin'] } }],
  ['SCOPE', 'a scope that begins like one', { ask: { scope: ['apps:readall'] } }],
  ['SCOPE', 'no scope, where the role has some', { ask: { scope: [] } }],
  ['SCOPE', 'a scope, where the role has none', { role: { scopes: [] } }],
  ['AUDIENCE_CEILING', 'another audience', { ask: { audience: 'https://api.example.com/' } }],
  ['AUDIENCE_CEILING', 'an empty audience', { ask: { audience: '' } }],
  ['PLUGIN', 'an empty list of plugins', { role: { plugins: [] } }],
  ['ACTION', 'an empty list of actions', { role: { actions: [] } }],
  ['AUDIENCE_CEILING', 'an empty list of audiences', { role: { audiences: [] } }],
  ['KEY_NOT_BOUND', 'no key was bound', { agent: { keyThumbprint: '' } }],
  ['OK', 'no key was bound, and the role wants none', { role: { bind_key: 'optional' }, agent: { keyThumbprint: '' } }],
  ['KEY_NOT_CERTIFIED', 'the key was named by its thumbprint alone', { role: { bind_key: 'certified' } }],
  ['OK', 'the key was certified', { role: { bind_key: 'certified' }, agent: { keyCertified: true } }],
  [
    'KEY_NOT_BOUND',
    'no key was bound, and a certified one is wanted',
    { role: { bind_key: 'certified' }, agent: { keyThumbprint: '' } },
  ],
  ['ATTESTATION_STALE', 'the quote is too old', { role: { max_attestation_age: 9 } }],
  ['OK', 'the quote is just young enough', { role: { max_attestation_age: 11 } }],
  ['TTL', 'nothing is left of the age that the quote may have', { role: { max_attestation_age: 10 } }],
  ['TASK_REQUIRED', 'nobody knows for whom', { role: { task: 'required' } }],
  ['TASK_REQUIRED', 'nobody knows for what', { role: { task: 'required' }, agent: { task: { ...NO_CONTEXT, org: 'acme' } } }],
  ['OK', 'it is known for what', { role: { task: 'required' }, agent: { task: { ...NO_CONTEXT, org: 'acme', task: 't' } } }],
  ['CERTIFICATE_NOT_BOUND', 'a sealed token, without a certificate', { role: { delivery: 'sealed' } }],
  ['OK', 'a sealed token, with a certificate', { role: { delivery: 'sealed' }, agent: { x5tS256: 'certificate' } }],
  ['QUOTE_REQUIRED', 'the quote at login is not enough', { role: { attestation: 'request' } }],
  ['OK', 'the request brings a quote', { role: { attestation: 'request' }, agent: { fresh: true } }],
  ['TTL', 'nothing is asked for', { ask: { ttlSeconds: 0 } }],
  ['TTL', 'the token ends now', { agent: { tokenTtlSeconds: 0.9 } }],
  ['TTL', 'the token has ended', { agent: { tokenTtlSeconds: -5 } }],
  ['NO_POLICY', 'there is no policy', { policies: '' }],
  ['POLICY_DENIED', 'no policy permits it', { policies: 'permit (principal, action == Action::"delete", resource);' }],
  [
    'POLICY_FORBIDDEN',
    'a policy forbids it, though another permits',
    { policies: 'permit (principal, action, resource); forbid (principal, action, resource) when { context.key_bound };' },
  ],
  [
    'POLICY_DENIED',
    'a policy permits only who has a key bound',
    {
      policies: 'permit (principal, action, resource) when { context.key_bound };',
      role: { bind_key: 'optional' },
      agent: { keyThumbprint: '' },
    },
  ],
  [
    'POLICY_ERROR',
    'a policy cannot be evaluated',
    { policies: 'permit (principal, action, resource) when { context.nothing };' },
  ],
  ['POLICY_ERROR', 'a policy cannot be read', { policies: 'permit (everything);' }],
]
test.each(cases)('%s: %s', (expected, _, change) => expect(code(change)).toBe(expected))

test.each([
  ['no organisation and no task is known', NO_CONTEXT],
  ['no task is known', { ...NO_CONTEXT, org: 'acme' }],
])('who has no task is told: %s', (detail, task) =>
  expect(decided({ role: { task: 'required' }, agent: { task } })).toEqual({ ok: false, code: 'TASK_REQUIRED', detail }),
)

describe('the life of what is granted', () => {
  const ttl = (change: Change) => {
    const verdict = decided(change)
    return verdict.ok ? verdict.value.ttlSeconds : verdict.code
  }
  const infinite = { tokenTtlSeconds: Number.POSITIVE_INFINITY }

  test.each([
    [900, {}],
    [60, { ask: { ttlSeconds: 60 } }],
    [1800, { ask: { ttlSeconds: 7200 }, role: { max_ttl: 1800 } }],
    [120, { agent: { tokenTtlSeconds: 120.9 } }],
    [CEILING_SECONDS, { ask: { ttlSeconds: 86_400 }, role: { max_ttl: 86_400 }, agent: infinite }],
    [900, { agent: infinite }],
    ['TTL', { ask: { ttlSeconds: Number.NaN } }],
    [70, { agent: { attestationLeftSeconds: 70.9 } }],
    [80, { agent: { attestationLeftSeconds: 90, workLeftSeconds: 80 } }],
    [1, { agent: { workLeftSeconds: 1 } }],
    ['TTL', { agent: { workLeftSeconds: 0.9 } }],
    [5, { role: { max_attestation_age: 15 }, agent: { workLeftSeconds: 80 } }],
  ] as const)('is %s for %j', (expected, change) => expect(ttl(change)).toBe(expected))
})

test.each([
  [Number.POSITIVE_INFINITY, {}],
  [50, { agent: { attestationLeftSeconds: 50, workLeftSeconds: 60 } }],
  [5, { role: { max_attestation_age: 15 }, agent: { attestationLeftSeconds: 50 } }],
])('what follows on it lives %d s at most, for %j', (leftSeconds, change: Change) => {
  expect(decided(change)).toMatchObject({ ok: true, value: { leftSeconds } })
})

test('what is granted is never wider than the role, the request, the life of the token and an hour', () => {
  const all = ['a', 'b', 'c']
  const name = fc.constantFrom(...all)
  const names = fc.subarray(all, { minLength: 2 })
  const seconds = fc.oneof(fc.integer({ min: -10, max: 10_000 }), fc.double({ min: 0, max: 10_000 }), fc.constant(Infinity))
  const asked = fc.record({
    plugin: fc.option(name, { nil: undefined }),
    action: fc.option(name, { nil: undefined }),
    audience: fc.option(name, { nil: undefined }),
    scope: fc.subarray(all, { maxLength: 2 }),
    ttlSeconds: fc.option(seconds, { nil: undefined }),
  })
  const roles = fc.record({
    plugins: names,
    actions: names,
    audiences: names,
    scopes: fc.subarray(all, { minLength: 2 }),
    login_roles: fc.constantFrom([], ['a', 'b'], all),
    ttl: fc.integer({ min: 1, max: 5000 }),
    max_ttl: fc.integer({ min: 1, max: 90_000 }),
    attestation: fc.constantFrom('login', 'request'),
    bind_key: fc.constantFrom('optional', 'required'),
  })
  const agents = fc.record({
    role: name,
    tokenTtlSeconds: seconds,
    fresh: fc.boolean(),
    keyThumbprint: fc.constantFrom('', 'key'),
  })
  const anything = compile([{ name: 'all', text: 'permit (principal, action, resource);' }], all)
  let granted = 0
  fc.assert(
    fc.property(roles, agents, asked, (of, who, what) => {
      const verdict = decide('r', { ...role, ...of }, anything, { ...agent, ...who }, what)
      if (!verdict.ok) return
      granted += 1
      const { plugin, action, scope, audience, ttlSeconds, keyThumbprint } = verdict.value
      expect(of.plugins).toContain(plugin)
      expect(of.actions).toContain(action)
      expect(of.audiences).toContain(audience)
      expect([what.plugin ?? plugin, what.action ?? action, what.audience ?? audience]).toEqual([plugin, action, audience])
      expect(scope).toEqual(what.scope.toSorted())
      for (const one of scope) expect(of.scopes).toContain(one)
      expect(Number.isInteger(ttlSeconds)).toBe(true)
      expect(ttlSeconds).toBeGreaterThanOrEqual(1)
      for (const bound of [of.max_ttl, 3600, who.tokenTtlSeconds, what.ttlSeconds ?? of.ttl])
        expect(ttlSeconds).toBeLessThanOrEqual(bound)
      expect(keyThumbprint).toBe(who.keyThumbprint)
      if (of.bind_key === 'required') expect(keyThumbprint).not.toBe('')
      if (of.attestation === 'request') expect(who.fresh).toBe(true)
      if (of.login_roles.length > 0) expect(of.login_roles).toContain(who.role)
    }),
    // of a hundred about four are granted: so few as fifty never are
    { numRuns: 5000 },
  )
  expect(granted).toBeGreaterThan(50)
})
