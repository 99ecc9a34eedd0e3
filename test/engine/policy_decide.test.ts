import { afterAll, describe, expect, test } from 'vitest'
import { Instance } from '../../engine/policy/cedar.ts'
import { type Compiled, compile, decide, explain, outcomes, type PolicyRequest, warm } from '../../engine/policy/index.ts'
import { actions, requestWith, sample, samples } from './policy_world.ts'

const one = (text: string) => compile([{ name: 'one', text }], actions)
const permitAll = 'permit (principal, action, resource);'
// Validation cannot see this one coming: the product does not fit into 64 bits.
const overflow = 'forbid (principal, action, resource) when { context.ttl_seconds * 9223372036854775807 > 1 };'

describe('every outcome', () => {
  const seen = new Set<string>()
  const rows: [string, Compiled, PolicyRequest, object][] = [
    [
      'ALLOWED',
      compile(samples, actions),
      requestWith(),
      { reasons: ['deploy#1'], errors: [], explanation: 'permitted by deploy#1 (ci-deploy: agents of the ci role deploy)' },
    ],
    [
      'POLICY_DENIED',
      compile(samples, actions),
      requestWith({ plugin: 'other' }),
      { reasons: [], errors: [], explanation: outcomes.POLICY_DENIED },
    ],
    [
      'POLICY_FORBIDDEN',
      compile(samples, actions),
      requestWith({ principal: { labels: ['quarantine'] }, context: { key_bound: false } }),
      {
        reasons: ['guard#1', 'guard#2'],
        explanation:
          'forbidden by guard#1 (key-bound: a credential to deploy must be bound to a key), guard#2 (quarantine: the machine is in quarantine)',
      },
    ],
    [
      'POLICY_ERROR',
      one(`${permitAll} ${overflow}`),
      requestWith(),
      {
        reasons: ['one#1'],
        errors: [expect.stringContaining('one#2: integer overflow')],
        explanation: `${outcomes.POLICY_ERROR}: one#2`,
      },
    ],
    ['NO_POLICY', compile([], actions), requestWith(), { reasons: [], errors: [], explanation: outcomes.NO_POLICY }],
  ]
  for (const [code, compiled, request, rest] of rows)
    test(code, () => {
      seen.add(code)
      expect(decide(compiled, request)).toEqual({ errors: [], ...rest, code, allowed: code === 'ALLOWED' })
    })
  afterAll(() => expect([...seen].sort()).toEqual(Object.keys(outcomes).sort()))
})

describe('an error denies, whatever the others say', () => {
  test('a forbid that fails, where its neighbour permits', () => {
    expect(decide(one(permitAll), requestWith())).toMatchObject({ code: 'ALLOWED' })
    expect(
      decide(
        compile(
          [
            { name: 'a', text: permitAll },
            { name: 'b', text: overflow },
          ],
          actions,
        ),
        requestWith(),
      ),
    ).toMatchObject({ allowed: false, code: 'POLICY_ERROR' })
  })

  test('a permit that fails, where another permits', () =>
    expect(decide(one(`${permitAll} ${overflow.replace('forbid', 'permit')}`), requestWith())).toMatchObject({
      allowed: false,
      code: 'POLICY_ERROR',
    }))

  test('a failure that the request does not reach is no failure', () =>
    expect(decide(one(`${permitAll} ${overflow}`), requestWith({ context: { ttl_seconds: 0 } }))).toMatchObject({
      code: 'ALLOWED',
    }))

  test('an action that left the vocabulary breaks the whole set', () => {
    const compiled = compile(samples, ['deploy', 'read'])
    expect(compiled.problems).toEqual(['for policy `read#1`, unrecognized action `Action::"list"`'])
    expect(decide(compiled, requestWith())).toMatchObject({ allowed: false, code: 'POLICY_ERROR', errors: compiled.problems })
  })

  test('a text that was stored unchecked breaks the whole set', () => {
    const compiled = compile([sample('deploy'), { name: 'bad', text: 'permit (principal, action, resource)\nwhen' }], actions)
    expect(compiled.problems).toEqual(['policy bad, line 2: unexpected end of input'])
    expect(decide(compiled, requestWith())).toMatchObject({ allowed: false, code: 'POLICY_ERROR' })
  })

  test('an evaluation that overflows the stack denies once, and the next request is decided as ever', () => {
    const good = one(permitAll)
    const text = `permit (principal, action, resource) when { ${'context.key_bound && '.repeat(4_000)}true };`
    const deep = new Map([['deep#1', { policy: 'deep#1', text, effect: 'permit' as const }]])
    const answer = decide({ ...good, version: 'deep', statements: deep }, requestWith())
    expect(answer).toMatchObject({ allowed: false, code: 'POLICY_ERROR', errors: [expect.stringContaining('cedar stopped')] })
    expect(decide(good, requestWith({ plugin: 'after the stop' }))).toMatchObject({ code: 'ALLOWED' })
  })
})

describe('the most that is accepted can be evaluated', () => {
  const texts: Record<string, string> = {
    'a chain': `${'context.key_bound && '.repeat(100)}true`,
    sums: `${'1 + '.repeat(98)}1 == 99`,
    'brackets and a chain': `${'('.repeat(31)}${'context.key_bound && '.repeat(98)}true${')'.repeat(31)}`,
    comparisons: `${'(false != '.repeat(31)}true${')'.repeat(31)}`,
    conditionals: `${'if !context.key_bound then false else '.repeat(97)}true`,
    'a path of has': `!(context has attestation.${'a.'.repeat(90)}a)`,
  }
  for (const [what, expression] of Object.entries(texts))
    test(what, () => {
      const compiled = one(`permit (principal, action, resource) when { ${expression} };`)
      expect(compiled.problems).toEqual([])
      expect(decide(compiled, requestWith())).toMatchObject({ code: 'ALLOWED' })
    })
})

describe('an instance of Cedar', () => {
  const deep = `permit (principal, action, resource) when { ${'('.repeat(9_000)}true${')'.repeat(9_000)} };`

  test('that stopped is replaced by a new one', () => {
    const instance = new Instance()
    const parse = (text: string) => instance.attempt(cedar => cedar.checkParsePolicySet({ staticPolicies: text }).type)
    expect(parse(permitAll)).toEqual({ ok: true, value: 'success' })
    expect(parse(deep)).toMatchObject({ ok: false })
    expect(parse(permitAll)).toEqual({ ok: true, value: 'success' })
  })

  test('that cannot be loaded is a failed attempt, tried again at the next', () => {
    let loads = 0
    const instance = new Instance(() => {
      loads++
      throw new Error('no such file')
    })
    expect([1, 2].map(() => instance.attempt(() => 1))).toEqual(
      Array(2).fill({ ok: false, detail: 'cedar stopped: no such file' }),
    )
    expect(loads).toBe(2)
  })
})

describe('requests that do not conform', () => {
  const compiled = one(permitAll)
  const long = 'x'.repeat(1025)
  const rows: [string, unknown, string][] = [
    ['nothing', null, 'principal.tpm_id is not text'],
    ['a number for a request', 7, 'principal.tpm_id is not text'],
    ['a long id', requestWith({ principal: { tpm_id: long } }), 'principal.tpm_id is longer than 1024 characters'],
    ['a long plugin', requestWith({ plugin: long }), 'plugin is longer than 1024 characters'],
    ['a long action', requestWith({ action: long }), 'action is longer than 1024 characters'],
    ['half a character', requestWith({ plugin: '\ud800' }), 'plugin is not well-formed Unicode'],
    ['a long scope', requestWith({ context: { scope: ['a', long] } }), 'context.scope is longer than 1024 characters'],
    [
      'many scopes',
      requestWith({ context: { scope: Array.from({ length: 257 }, String) } }),
      'context.scope has more than 256 members',
    ],
    ['half a second', requestWith({ context: { ttl_seconds: 0.5 } }), 'context.ttl_seconds is not a whole number from 0'],
    [
      'time that runs backwards',
      requestWith({ context: { ttl_seconds: -1 } }),
      'context.ttl_seconds is not a whole number from 0',
    ],
    [
      'no age',
      requestWith({ context: { attestation: { fresh: true, age_seconds: Number.NaN } } }),
      'context.attestation.age_seconds is not a whole number from 0',
    ],
    [
      'an age that no number can be made of',
      requestWith({ context: { attestation: { fresh: true, age_seconds: { toString: null } as never } } }),
      'context.attestation.age_seconds is not a whole number from 0',
    ],
    [
      'an entity for a scope',
      { ...requestWith(), context: { ...requestWith().context, scope: [{ __entity: { type: 'Agent', id: 'x' } }] } },
      'context.scope is not text',
    ],
    ['a missing attribute', { ...requestWith(), context: {} }, 'context.role is not text'],
  ]
  for (const [what, request, error] of rows)
    test(`${what} is denied as an error`, () =>
      expect(decide(compiled, request as PolicyRequest)).toMatchObject({ allowed: false, code: 'POLICY_ERROR', errors: [error] }))

  test('an action outside the vocabulary is a plain denial: the caller chose it', () =>
    expect(decide(compiled, requestWith({ action: 'nuke' }))).toMatchObject({
      allowed: false,
      code: 'POLICY_DENIED',
      reasons: [],
    }))

  test('no explanation quotes the request', () => {
    const canary = 'canary-7f3a'
    const request = requestWith({ principal: { role: canary }, plugin: canary, context: { audience: canary } })
    for (const policies of [samples, [], [{ name: 'all', text: permitAll }]])
      expect(decide(compile(policies, actions), request).explanation).not.toContain(canary)
  })
})

describe('compiling', () => {
  test('the version depends on content, not on order', () => {
    const version = compile(samples, actions).version
    expect(version).toMatch(/^sha256-[0-9a-f]{64}$/)
    expect(compile(samples.toReversed(), actions.toReversed()).version).toBe(version)
    expect(compile(samples, [...actions, 'write']).version).not.toBe(version)
    expect(compile(samples.slice(1), actions).version).not.toBe(version)
  })

  test('one name for two policies is our own mistake', () =>
    expect(() => compile([sample('read'), sample('read')], actions)).toThrow('two policies have one name'))

  test('more sets than there are places for all decide, each by its own policies', () => {
    const sets = Array.from({ length: 40 }, (_, index) =>
      one(`permit (principal, action, resource == Plugin::"plugin-${index}");`),
    )
    const permitted = sets.map(set => sets.map((_, index) => decide(set, requestWith({ plugin: `plugin-${index}` })).allowed))
    expect(permitted).toEqual(sets.map((_, row) => sets.map((__, column) => row === column)))
  })

  test('warming up is possible any number of times', async () => {
    await Promise.all([warm(), warm()])
    expect(decide(one(permitAll), requestWith())).toMatchObject({ code: 'ALLOWED' })
  })
})

describe('the age of the attestation', () => {
  const compiled = one('permit (principal, action, resource) when { context.attestation.age_seconds <= 300 };')
  const aged = (age_seconds: number) =>
    decide(compiled, requestWith({ context: { attestation: { fresh: false, age_seconds } } })).allowed

  test('is exact at limits in whole tens', () =>
    expect([0, 291, 299, 300, 301, 310].map(aged)).toEqual([true, true, true, true, false, false]))
})

describe('explaining', () => {
  test('names both sides, and neither those that failed nor those that are silent', () => {
    const policies = [...samples, { name: 'wide', text: permitAll }, { name: 'wild', text: overflow }]
    const compiled = compile(policies, actions)
    const request = requestWith({ context: { key_bound: false, attestation: { fresh: false, age_seconds: 31 } } })
    expect(explain(compiled, request)).toMatchObject({
      permits: ['deploy#1', 'wide#1'],
      forbids: ['guard#1'],
      request: { action: { type: 'Action', id: 'deploy' }, context: { attestation: { fresh: false, age_seconds: 40 } } },
    })
  })

  test('has little to say about a request that was refused, and about policies that are broken', () => {
    const nobody = { permits: [], forbids: [] }
    expect(explain(one(permitAll), requestWith({ action: 'nuke' }))).toEqual({ ...nobody, request: null })
    expect(explain(compile(samples, ['deploy']), requestWith())).toMatchObject(nobody)
    expect(explain(compile([], actions), requestWith())).toMatchObject(nobody)
  })
})
