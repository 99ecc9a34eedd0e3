import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decider } from '../../engine/policy/cedar.ts'
import { checkPolicy, compile, decide, explain, outcomes, type PolicyRequest, schemaFor } from '../../engine/policy/index.ts'
import { admit } from '../../engine/policy/request.ts'
import { textsOf } from '../../engine/policy/statements.ts'
import { actions, requestWith, samples } from './policy_world.ts'

// What an attacker would put into an id: quotes, escapes, Cedar and JSON syntax, neighbours of the real names, any code unit.
const crafted = fc.constantFrom(
  'known"',
  '"known"',
  'known\\',
  '\\u{6b}nown',
  'Agent::"known"',
  '"; permit(principal, action, resource); //',
  '{"__entity":{"type":"Agent","id":"known"}}',
  'known\u0000',
  'known\n',
  ' known',
  'KNOWN',
  'k\u0131nown',
  'known#1',
  '__proto__',
  'constructor',
  'known","Plugin":"ci',
  '*',
  '',
  'x'.repeat(10_000),
)
const anyText = fc.oneof(crafted, fc.string({ unit: 'binary', maxLength: 60 }), fc.string({ unit: 'grapheme', maxLength: 60 }))
const known = fc.constant('known')

describe('ids', () => {
  const compiled = compile(
    [{ name: 'only', text: 'permit (principal == Agent::"known", action == Action::"deploy", resource == Plugin::"known");' }],
    actions,
  )

  test('permit only where each is exactly what the policy names', () => {
    const ids = fc.record({
      tpm: fc.oneof(known, anyText),
      action: fc.oneof(fc.constant('deploy'), anyText),
      plugin: fc.oneof(known, anyText),
      other: anyText,
    })
    fc.assert(
      fc.property(ids, ({ tpm, action, plugin, other }) => {
        const request = requestWith({
          principal: { tpm_id: tpm, entity_id: other },
          action,
          plugin,
          context: { audience: other, scope: [other] },
        })
        const exact = tpm === 'known' && action === 'deploy' && plugin === 'known' && other.isWellFormed() && other.length <= 1024
        const { allowed, reasons } = decide(compiled, request)
        expect({ allowed, reasons }).toEqual(exact ? { allowed: true, reasons: ['only#1'] } : { allowed: false, reasons: [] })
      }),
      { numRuns: 500 },
    )
  })

  test('of policies come back as they are', () =>
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), name => {
        expect(
          decide(compile([{ name, text: 'permit (principal, action, resource);' }], actions), requestWith()).reasons,
        ).toEqual([`${name}#1`])
      }),
      { numRuns: 50 },
    ))
})

// Few values, so that requests repeat and both kinds of answers occur.
const text = (...values: string[]) => fc.constantFrom(...values)
const requests: fc.Arbitrary<PolicyRequest> = fc
  .record({
    role: text('ci', 'other', 'ci","x'),
    maker: text('IBM', 'IFX'),
    firmware: text('7.62.1', '7.85'),
    labels: fc.subarray(['reader', 'quarantine', 'reader"']),
    action: text(...actions),
    plugin: text('deployer', 'other'),
    scope: fc.shuffledSubarray(['repo:read', 'repo:list', 'repo:write']),
    ttl: fc.constantFrom(0, 900, 901),
    bound: fc.boolean(),
    fresh: fc.boolean(),
    age: fc.nat(400),
  })
  .map(({ role, maker, firmware, labels, action, plugin, scope, ttl, bound, fresh, age }) =>
    requestWith({
      principal: { role, manufacturer: maker, firmware_version: firmware, labels },
      action,
      plugin,
      context: { scope, ttl_seconds: ttl, key_bound: bound, attestation: { fresh, age_seconds: age } },
    }),
  )

describe('decisions', () => {
  const compiled = compile(samples, actions)
  const schema = schemaFor(actions)

  /** Cedar itself, without anything of ours: text in, answer out, checked against the schema. */
  function cedarSays(call: object) {
    const policies = { staticPolicies: textsOf(compiled.statements.values()) }
    const asked = decider.attempt(cedar =>
      cedar.isAuthorized({ ...(call as Parameters<typeof cedar.isAuthorized>[0]), policies, schema, validateRequest: true }),
    )
    return asked.ok && asked.value.type === 'success' ? asked.value.response : undefined
  }

  test('are those of Cedar, when asked again too', () =>
    fc.assert(
      fc.property(requests, request => {
        const admitted = admit(request, compiled)
        const answer = admitted.ok ? cedarSays(admitted.call) : undefined
        const decided = decide(compiled, request)
        expect(decided.allowed).toBe(answer?.decision === 'allow')
        expect(decided.reasons.toSorted()).toEqual(answer?.diagnostics.reason.toSorted())
        expect(decide(compiled, structuredClone(request))).toEqual(decided)
      }),
      { numRuns: 300 },
    ))

  test('do not depend on the order of sets', () =>
    fc.assert(
      fc.property(requests, request => {
        const turned = {
          ...request,
          context: { ...request.context, scope: [...request.context.scope.toReversed(), ...request.context.scope] },
        }
        expect(decide(compiled, turned)).toEqual(decide(compiled, request))
        expect(JSON.stringify(admit(turned, compiled))).toBe(JSON.stringify(admit(request, compiled)))
      }),
      { numRuns: 100 },
    ))

  test('cannot be changed by whoever receives them', () => {
    const decided = decide(compiled, requestWith())
    expect([decided, decided.reasons, decided.errors].every(Object.isFrozen)).toBe(true)
  })

  test('never throw and never permit for values of any type; what we admit, the schema admits', () => {
    const anything = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(undefined, Number.NaN, 1e300, 2 ** 53, -0, 'ci'))
    const mixed = fc.record({
      path: fc.constantFrom('principal', 'context', 'attestation', 'top'),
      name: fc.nat(20),
      value: anything,
    })
    fc.assert(
      fc.property(requests, fc.array(mixed, { minLength: 1, maxLength: 3 }), (request, changes) => {
        const changed = changes.reduce(change, structuredClone(request) as PolicyRequest)
        const admitted = admit(changed, compiled)
        const decided = decide(compiled, changed)
        if (admitted.ok) expect(cedarSays(admitted.call)).toBeDefined()
        else expect(decided).toMatchObject({ allowed: false, reasons: [] })
        expect(Object.keys(outcomes)).toContain(decided.code)
        expect(explain(compiled, changed).request).toEqual(admitted.ok ? admitted.call : null)
      }),
      { numRuns: 300 },
    )
  })
})

type Change = { readonly path: string; readonly name: number; readonly value: unknown }

function change(request: PolicyRequest, { path, name, value }: Change): PolicyRequest {
  const targets: Record<string, unknown> = {
    top: request,
    principal: request.principal,
    context: request.context,
    attestation: request.context?.attestation,
  }
  const target = targets[path]
  if (typeof target !== 'object' || target === null) return request
  const names = Object.keys(target)
  Object.assign(target, { [names[name % names.length] ?? 'x']: value })
  return request
}

describe('policy texts', () => {
  const pieces = fc.array(
    fc.constantFrom(
      'permit',
      'forbid',
      '(principal',
      ', action',
      ', resource)',
      ' when { ',
      ' unless {',
      '}',
      ';',
      '"',
      '\\',
      '//',
      '\n',
      '\r',
      '?principal',
      '(',
      ')',
      '[',
      'context',
      '.role',
      ' == ',
      '1',
      ' && ',
      '@id("a")',
      '\u{1f600}',
      '\u0000',
    ),
    { maxLength: 40 },
  )
  // a policy with a piece or two somewhere in it, which is one still now and then
  const changed = fc
    .tuple(fc.constantFrom(...samples.map(({ text }) => text)), fc.nat(), pieces)
    .map(([text, at, put]) => text.slice(0, at % text.length) + put.slice(0, 2).join('') + text.slice(at % text.length))
  test('of any kind are accepted or refused with a place, never thrown at', () => {
    const outcomes = new Set<boolean>()
    fc.assert(
      fc.property(
        fc.oneof(
          pieces.map(list => list.join('')),
          anyText,
          changed,
        ),
        given => {
          const checked = checkPolicy('p', given, actions)
          outcomes.add(checked.ok)
          if (checked.ok) expect(checked.statements.length).toBeGreaterThan(0)
          const lines = given.split('\n')
          for (const { line, column, message } of checked.ok ? [] : checked.errors) {
            expect(message).not.toBe('')
            expect(line).toBeLessThanOrEqual(lines.length)
            expect(column - 1).toBeLessThanOrEqual(Array.from(lines[line - 1] ?? '').length)
          }
        },
      ),
      { numRuns: 500 },
    )
    expect(outcomes.size).toBe(2)
  })
})
