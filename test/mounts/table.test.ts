import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tpmQuote } from '../../mounts/auth/tables.ts'
import { helpOf, mountHelp } from '../../mounts/help.ts'
import { brokerPaths } from '../../mounts/secrets/tables.ts'
import { match, type Path, path } from '../../mounts/table.ts'
import { openTestBroker, type TestBroker } from '../fakes/broker.ts'

let broker: TestBroker
beforeAll(async () => {
  broker = await openTestBroker()
})
afterAll(() => broker[Symbol.asyncDispose]())

const types = ['tpm-quote', 'broker'] as const
const tables = { 'tpm-quote': () => tpmQuote(broker.broker), broker: () => brokerPaths(broker.broker) }
const split = (text: string) => text.split('/')
const isParam = (part: string) => part.startsWith(':')

/** Whether some path fits both patterns. */
function overlap(one: string, other: string): boolean {
  const [a, b] = [split(one), split(other)]
  return a.length === b.length && a.every((part, index) => part === b[index] || isParam(part) || isParam(b[index] ?? ''))
}

describe.each(types)('the table of %s', type => {
  const rowsOf = tables[type]

  test('has no two rows that match one path', () => {
    const patterns = rowsOf().map(row => row.pattern)
    const pairs = patterns.flatMap((one, index) => patterns.slice(index + 1).map(other => [one, other] as const))
    expect(pairs.filter(([one, other]) => overlap(one, other))).toEqual([])
  })

  test('finds at most one row for any segments, and that row takes what its parameters name', () => {
    const rows = rowsOf()
    const words = [...new Set(rows.flatMap(row => split(row.pattern)))]
    const segment = fc.oneof(
      fc.constantFrom(...words),
      fc.string({ minLength: 1, maxLength: 20 }).filter(text => !text.includes('/')),
    )
    fc.assert(
      fc.property(fc.array(segment, { maxLength: 4 }), segments => {
        const found = rows.map(row => match([row], segments)).filter(one => one !== undefined)
        expect(found.length).toBeLessThanOrEqual(1)
        const [one] = found
        if (!one) return
        const filled = split(one.row.pattern).map(part => (isParam(part) ? one.params[part.slice(1)] : part))
        expect(filled).toEqual(segments)
      }),
      { numRuns: 500 },
    )
  })

  test('names a field for each parameter of a path, which has to be there', () => {
    for (const row of rowsOf())
      for (const part of split(row.pattern).filter(isParam))
        expect(row.fields[part.slice(1)]).toMatchObject({ kind: 'string', required: true })
  })

  test('says in sentences what each path, field and operation is', () => {
    for (const row of rowsOf()) {
      const fields = Object.values(row.fields).map(field => field.description)
      const operations = Object.values(row.operations).map(operation => operation.summary)
      expect(operations.length).toBeGreaterThan(0)
      for (const text of [row.help.synopsis, row.help.description, ...fields, ...operations])
        expect(text, `${row.pattern}: ${text}`).toMatch(/^[A-Z`].*[.)]$/s)
    }
  })

  test('has names that Vault would have', () => {
    for (const row of rowsOf()) {
      for (const part of split(row.pattern)) expect(part).toMatch(/^(:?[a-z][a-z_-]*|\.well-known|[a-z-]+\.json)$/)
      for (const name of Object.keys(row.fields)) expect(name).toMatch(/^[a-z][a-z0-9_]*$/)
    }
  })

  test('helps with every row: what it is, its parameters and operations', () => {
    const rows = rowsOf()
    const { help } = mountHelp('A title.', rows, type)
    for (const row of rows) {
      expect(help).toContain(`    ${row.pattern}\n        ${row.help.synopsis}`)
      const text = helpOf(row, type).help
      for (const part of [row.help.synopsis, row.help.description, ...Object.keys(row.operations)]) expect(text).toContain(part)
      for (const [name, { kind, required, description }] of Object.entries(row.fields))
        expect(text).toContain(`    ${name} (${kind}${required ? ', required' : ''})\n        ${description}`)
    }
  })
})

test('help says what a parameter may be and what it is when nothing is said, once', () => {
  const rows = [...tables['tpm-quote'](), ...tables.broker()]
  const help = rows.map(row => helpOf(row, 'broker').help).join('')
  for (const said of [
    'Who may enrol: .*One of any, listed, token, approved. Default: listed.',
    '`login`: the quote at login counts. `request`: every request brings a quote of its own. Default: login.',
    'How long before its end warnings begin. Default: 604800 s.',
    'Until it is cleared.* Default: true.',
    'Kinds of endorsement keys that are accepted.* Any of rsa-2048, p-256, p-384. Default: rsa-2048.',
  ])
    expect(help).toMatch(new RegExp(said, 'i'))
  expect(help).not.toMatch(/(?:One|Any) of \.|Default: (?:0 s|0\.|\[|\.|undefined|null)/)
})

test('who needs no token is on this list, and nobody else', () => {
  const open = Object.entries(tables).flatMap(([type, rowsOf]) =>
    rowsOf()
      .filter(row => row.unauthenticated)
      .map(row => `${type}: ${row.pattern} ${Object.keys(row.operations).join()}`),
  )
  expect(open).toEqual([
    'tpm-quote: .well-known/jwks.json read',
    'tpm-quote: enroll update',
    'tpm-quote: enroll/activate update',
    'tpm-quote: challenge update',
    'tpm-quote: login update',
    'tpm-quote: challenge/document update',
    'tpm-quote: login/document update',
    'broker: .well-known/jwks.json read',
    'broker: .well-known/openid-configuration read',
  ])
})

test('who writes records of their own is on this list; the dispatcher writes those of everybody else', () => {
  const own = Object.values(tables).flatMap(rowsOf =>
    rowsOf()
      .filter(row => row.audits === 'itself')
      .map(row => row.pattern),
  )
  expect(own.toSorted()).toEqual(
    [
      '.well-known/jwks.json',
      '.well-known/jwks.json',
      '.well-known/openid-configuration',
      'challenge',
      'challenge/document',
      'consent/:role',
      'consent/:role/poll',
      'creds/:role',
      'enroll',
      'enroll/activate',
      'login',
      'login/document',
    ].toSorted(),
  )
})

describe('match', () => {
  const row = (pattern: string): Path => path({ pattern, help: { synopsis: '', description: '' }, fields: {}, operations: {} })
  const rows = [row('role'), row('role/:name'), row('role/:name/keys')]
  const found = (text: string) => {
    const one = match(rows, split(text))
    return one && [one.row.pattern, one.params]
  }

  test.each([
    ['role', ['role', {}]],
    ['role/ci', ['role/:name', { name: 'ci' }]],
    ['role/:name', ['role/:name', { name: ':name' }]],
    ['role/__proto__', ['role/:name', JSON.parse('{"__proto__": 0}')]],
    ['role/ci/keys', ['role/:name/keys', { name: 'ci' }]],
    ['role/ci/other', undefined],
    ['Role', undefined],
    ['role/', ['role/:name', { name: '' }]],
    ['', undefined],
    [`role/${'a'.repeat(513)}`, undefined],
  ])('%j', (text, expected) => {
    const one = found(text)
    if (text === 'role/__proto__') expect(one?.[0]).toBe('role/:name')
    else expect(one).toEqual(expected)
  })
})
