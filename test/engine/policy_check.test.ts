import { describe, expect, test } from 'vitest'
import { checkPolicy, model, schemaFor } from '../../engine/policy/index.ts'
import { actions, samples } from './policy_world.ts'

const check = (text: string) => checkPolicy('p', text, actions)
const when = (expression: string) => `permit (principal, action, resource) when { ${expression} };`

/** The first thing found: message, place, help. */
function first(text: string) {
  const checked = check(text)
  return checked.ok ? 'accepted' : checked.errors[0]
}

describe('the samples', () => {
  for (const { name, text } of samples)
    test(`${name} is accepted without a warning`, () =>
      expect(checkPolicy(name, text, actions)).toMatchObject({ ok: true, warnings: [] }))

  test('statements have names, effects and notes', () => {
    const checked = check(samples.map(({ text }) => text).join('\n'))
    expect(checked.ok && checked.statements.map(({ policy, effect, id, reason }) => [policy, effect, id, reason])).toEqual([
      ['p#1', 'permit', 'ci-deploy', 'agents of the ci role deploy'],
      ['p#2', 'forbid', 'key-bound', 'a credential to deploy must be bound to a key'],
      ['p#3', 'forbid', 'quarantine', 'the machine is in quarantine'],
      ['p#4', 'forbid', 'firmware', 'this firmware has a known flaw'],
      ['p#5', 'permit', 'read', undefined],
    ])
  })

  test('statements are numbered in the order of the text, beyond ten too', () => {
    const checked = check(Array.from({ length: 13 }, (_, index) => `@id("${index + 1}") ${when('context.key_bound')}`).join('\n'))
    expect(checked.ok && checked.statements.map(({ policy, id }) => `${policy}=${id}`)).toEqual(
      Array.from({ length: 13 }, (_, index) => `p#${index + 1}=${index + 1}`),
    )
  })
})

describe('errors have a place', () => {
  const rows: [string, string, { line: number; column: number; message: string; help?: string }][] = [
    [
      'syntax',
      'permit (principal, action, resource)\nwhen { context.role = "x" };',
      { line: 2, column: 8, message: "'=' is not a valid operator in Cedar", help: "try using '==' instead" },
    ],
    [
      'an unknown action',
      'permit (\n  principal,\n  action == Action::"deplyo",\n  resource\n);',
      { line: 3, column: 13, message: 'unrecognized action `Action::"deplyo"`', help: 'did you mean `Action::"deploy"`?' },
    ],
    [
      'an unknown type',
      'permit (principal == Agnt::"x", action, resource);',
      { line: 1, column: 22, message: 'unrecognized entity type `Agnt`', help: 'did you mean `Agent`?' },
    ],
    [
      'an unknown attribute of the agent',
      when('principal.rol == "x"'),
      { line: 1, column: 45, message: 'attribute `rol` on entity type `Agent` not found', help: 'did you mean `role`?' },
    ],
    [
      'an unknown attribute of the request, once for all actions',
      `${when('context.key_bound')}\r\n\t${when('context.ttl == 1')}`,
      { line: 2, column: 46, message: 'attribute `ttl` in context not found' },
    ],
    [
      'a wrong type',
      when('context.ttl_seconds < "5"'),
      { line: 1, column: 67, message: 'unexpected type: expected Long but saw String' },
    ],
    [
      'behind characters of several bytes',
      '// h\u00e9llo \u{1f600}\npermit (principal, action, resource) when { "\u{1f600}\u00e9" == principal.rol };',
      { line: 2, column: 53, message: 'attribute `rol` on entity type `Agent` not found' },
    ],
    ['an end too early', 'permit (principal, action, resource)', { line: 1, column: 37, message: 'unexpected end of input' }],
    [
      'a template',
      'permit (\n  principal == ?principal, action, resource);',
      {
        line: 2,
        column: 16,
        message: 'templates are not accepted, and ?principal makes this one',
        help: 'name the agent or the plugin itself',
      },
    ],
  ]
  for (const [what, text, finding] of rows) test(what, () => expect(first(text)).toMatchObject(finding))

  test('the line is shown with carets under the place', () =>
    expect(first('permit (principal,\n\taction == Action::"deplyo", resource);')).toMatchObject({
      excerpt: '2 |  action == Action::"deplyo", resource);\n               ^^^^^^^^^^^^^^^^',
    }))

  test('a long line is cut around the place, and control characters are not shown', () => {
    const found = first(when(`"\u001b[31m\u202e" == context.role || ${'context.key_bound || '.repeat(40)}context.nothing`))
    expect(found).toMatchObject({ excerpt: expect.stringMatching(/^1 \| .{1,121}\n {64}\^{15}$/) })
    expect(first(when('"\u001b[31m\u202e" == principal.rol'))).toMatchObject({
      excerpt: expect.stringContaining('"\ufffd[31m\ufffd"'),
    })
  })

  test('each place is told once, in order, and at most 20 of them', () => {
    const checked = check(Array.from({ length: 30 }, () => when('context.nothing')).join('\n'))
    expect(!checked.ok && checked.errors.map(({ line }) => line)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
  })

  test('words in strings and comments are not taken for templates or brackets', () =>
    expect(
      check(`// ?principal ${'('.repeat(99)}\n${when(`context.role == "?resource // \\" ${'['.repeat(99)}"`)}`),
    ).toMatchObject({ ok: true }))
})

describe('warnings', () => {
  const rows: [string, string, RegExp][] = [
    ['always false', when('1 == 2'), /policy is impossible/],
    ['no action fits', 'permit (principal in Plugin::"x", action, resource);', /applicable action/],
    ['text that runs backwards', when('context.role == "\u202eabc"'), /BIDI control characters/],
    ['look-alike letters', when('context.role == "p\u0430ypal"'), /mixed scripts/],
  ]
  for (const [what, text, warning] of rows)
    test(what, () => {
      const checked = check(text)
      expect(checked.ok && checked.warnings.map(({ line, message }) => `${line} ${message}`).join()).toMatch(warning)
    })
})

describe('limits', () => {
  const padded = (bytes: number) => when('context.key_bound').padEnd(bytes, ' ')
  const nested = (depth: number) => when(`${'('.repeat(depth)}context.key_bound${')'.repeat(depth)}`)
  const statements = (count: number) => when('context.key_bound').repeat(count)
  const chain = (count: number) => when('context.key_bound && '.repeat(count).concat('true'))
  const note = (length: number) => `@reason("${'x'.repeat(length)}") ${when('context.key_bound')}`
  const rows: [string, (size: number) => string, number, number, string][] = [
    ['bytes', padded, 65536, 65537, 'a policy text has at most 64 KiB'],
    ['brackets', nested, 31, 32, 'brackets are nested more than 32 deep'],
    ['statements', statements, 100, 101, 'a policy has at most 100 statements'],
    ['operators', chain, 100, 101, 'an expression chains more than 100 operators; a set with contains says the same in one'],
    ['notes', note, 200, 201, '@id and @reason have at most 200 characters'],
  ]
  for (const [what, text, most, tooMany, message] of rows)
    test(`${what}: ${most} accepted, ${tooMany} refused`, () => {
      expect(first(text(most))).toBe('accepted')
      expect(first(text(tooMany))).toMatchObject({ message })
    })

  test('a limit names the statement it is about', () =>
    expect(first(`${when('context.key_bound')}\n${chain(101)}`)).toMatchObject({ line: 2, column: 1 }))

  for (const empty of ['', ' \n\t', '// nothing here', '// one\n// two\r\n'])
    test(`no statement in ${JSON.stringify(empty)}`, () =>
      expect(first(empty)).toMatchObject({ message: 'the policy text is empty', line: 1, column: 1 }))

  test('half a character is refused', () =>
    expect(first(when('context.role == "\ud800"'))).toMatchObject({ message: 'the policy text is not well-formed Unicode' }))
})

describe('texts that would overflow the stack are refused, and the next text is checked as ever', () => {
  const deep: Record<string, string> = {
    brackets: when(`${'('.repeat(30_000)}true${')'.repeat(30_000)}`),
    sets: when(`${'['.repeat(30_000)}true${']'.repeat(30_000)}`),
    records: when(`${'{a:'.repeat(15_000)}1${'}'.repeat(15_000)} == 1`),
    'a chain': when(`${'context.key_bound||'.repeat(3_000)}true`),
    sums: when(`${'1+'.repeat(30_000)}1 == 1`),
    conditionals: when(`${'if context.key_bound then true else '.repeat(1_700)}true`),
    attributes: when(`context${'.a'.repeat(30_000)}`),
    'a path of has': when(`context has ${'a.'.repeat(30_000)}a`),
    clauses: `permit (principal, action, resource) ${'when { context.key_bound } '.repeat(2_000)};`,
    'an unfinished string': `"${'\\"'.repeat(32_000)}`,
  }
  for (const [what, text] of Object.entries(deep))
    test(what, () => {
      expect(check(text)).toMatchObject({ ok: false })
      expect(check(when('context.key_bound'))).toMatchObject({ ok: true })
    })
})

describe('the schema', () => {
  test('names and explains every attribute', () => {
    const schema = schemaFor(actions)
    for (const attributes of Object.values(model))
      for (const [name, { type, means }] of Object.entries(attributes))
        expect(schema).toContain(`  // ${means}\n  ${name}: ${type},\n`)
  })

  test('does not depend on order or repetition', () => expect(schemaFor(['b', 'a', 'b'])).toBe(schemaFor(['a', 'b'])))

  test('without actions it permits nothing to be named', () =>
    expect(checkPolicy('p', 'permit (principal, action == Action::"deploy", resource);', [])).toMatchObject({ ok: false }))

  for (const action of ['github.contents.read', 's3:GetObject', 'a/b', '1', 'x'.repeat(128)])
    test(`takes ${action.slice(0, 20)}`, () =>
      expect(checkPolicy('p', `permit (principal, action == Action::"${action}", resource);`, [action])).toMatchObject({
        ok: true,
        warnings: [],
      }))

  for (const action of ['', ' ', 'a"b', 'a\\b', 'a b', 'a\nb', '-a', '\u00e9', 'x'.repeat(129)])
    test(`refuses ${JSON.stringify(action.slice(0, 20))}`, () =>
      expect(() => schemaFor([action])).toThrow('an action is 1 to 128 letters'))

  test('takes 256 actions and no more', () => {
    const many = Array.from({ length: 257 }, (_, index) => `action-${index}`)
    expect(checkPolicy('p', when('context.key_bound'), many.slice(1))).toMatchObject({ ok: true })
    expect(() => schemaFor(many)).toThrow('a mount has at most 256 actions')
  })
})
