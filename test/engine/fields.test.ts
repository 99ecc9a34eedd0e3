import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import {
  bytes,
  duration,
  type Field,
  flag,
  hex,
  integer,
  list,
  map,
  parseBool,
  parseFields,
  required,
  sensitive,
  text,
} from '../../engine/fields.ts'
import { Secret } from '../../engine/secret.ts'

const read = (field: Field<unknown>, value: unknown): unknown => parseFields({ it: field }, { it: value }).values.it
const refused = (field: Field<unknown>, value: unknown): string => {
  try {
    read(field, value)
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'bad_request') return error.message
    throw error
  }
  return 'not refused'
}

/** An object with as many levels as that. */
const nested = (levels: number) => JSON.parse(`${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`) as object

const kinds = {
  text: text('Any text.'),
  choice: text('One of two.', { choices: ['one', 'two'] }),
  formed: text('Letters.', { form: [/^[a-z]+$/, 'lower-case letters'] }),
  bytes: bytes('Bytes.', { max: 64 }),
  hex: hex('Bytes.', { max: 64 }),
  duration: duration('How long.'),
  integer: integer('How many.', { fallback: 0 }),
  flag: flag('Whether.', { fallback: false }),
  list: list('Several.'),
  choices: list('Several of two.', { choices: ['one', 'two'] }),
  map: map('Members.'),
  sensitive: sensitive(text('A secret.')),
}

describe('what a client sends is read as what it means', () => {
  const cases: readonly (readonly [keyof typeof kinds, unknown, unknown])[] = [
    ['text', 'as it is ', 'as it is '],
    ['text', 12, '12'],
    ['text', Number.MAX_SAFE_INTEGER, '9007199254740991'],
    ['text', true, 'true'],
    ['choice', 'two', 'two'],
    ['formed', 'abc', 'abc'],
    ['bytes', 'AAH+/w==', Buffer.of(0, 1, 254, 255)],
    ['bytes', 'AAH-_w', Buffer.of(0, 1, 254, 255)],
    ['bytes', '  AAH+/w==\n', Buffer.of(0, 1, 254, 255)],
    ['bytes', '', Buffer.alloc(0)],
    ['hex', '00fEFf', Buffer.of(0, 254, 255)],
    ['integer', 12, 12],
    ['integer', '-12', -12],
    ['flag', true, true],
    ['flag', 'T', true],
    ['flag', '0', false],
    ['flag', 0, false],
    ['list', ['b', 'a', ' b '], ['b', 'a']],
    ['list', 'b, a,,b', ['b', 'a']],
    ['list', '', []],
    ['list', 7, ['7']],
    ['choices', 'two,one', ['two', 'one']],
    ['map', { a: 1, b: { c: [2] } }, { a: 1, b: { c: [2] } }],
    ['map', nested(32), nested(32)],
    ['map', '{"a": 1}', { a: 1 }],
    ['map', 'a=1, b=2=3', { a: '1', b: '2=3' }],
    ['map', ['a=1', 'b='], { a: '1', b: '' }],
  ]
  test.each(cases)('%s: %j', (kind, sent, meant) => expect(read(kinds[kind], sent)).toEqual(meant))

  test('a member named __proto__ is a member like any other, and changes nothing', () => {
    const values = read(kinds.map, JSON.parse('{"__proto__": {"admin": true}, "a": 1}')) as Record<string, unknown>
    expect(values['admin']).toBeUndefined()
    expect(Object.keys(values)).toEqual(['a'])
    expect(Object.getPrototypeOf(read(kinds.map, '__proto__=1'))).toBe(Object.prototype)
  })
})

describe('a duration is what Vault makes of it', () => {
  // Vault's own word on these is asked for in test/live/engine_durations.test.ts
  const cases: readonly (readonly [unknown, number])[] = [
    [900, 900],
    ['900', 900],
    ['15m', 900],
    ['1h30m', 5400],
    ['1.5h', 5400],
    ['.5h', 1800],
    ['5.h', 18_000],
    ['0.7h', 2520],
    ['+5s', 5],
    ['1d', 86_400],
    ['1000d', 86_400_000],
    ['1500ms', 1],
    ['999ms', 0],
    ['1ms500us', 0],
    ['5µs', 0],
    ['00', 0],
    ['', 0],
    ['1m1m', 120],
  ]
  test.each(cases)('%j is %d s', (sent, seconds) => expect(read(kinds.duration, sent)).toBe(seconds))
  const bad = ['-5s', '1.5d', '1d12h', '1w', '1y', '90.5', ' 15m', '15m ', '1H', '1e3', '0x10', '1_000', 'm', '9999999999', '٣s']
  test.each([...bad, true, ['5'], { s: 5 }, 90.5, Number.NaN])('%j is refused', sent =>
    expect(refused(kinds.duration, sent)).toMatch(/^it: wanted/),
  )

  test('whole and fractional parts are exact to the second', () => {
    fc.assert(
      fc.property(fc.nat(2000), fc.nat(999), (hours, thousandths) => {
        const sent = `${hours}.${String(thousandths).padStart(3, '0')}h`
        expect(read(kinds.duration, sent)).toBe(Math.floor((hours * 3_600_000 + thousandths * 3600) / 1000))
      }),
    )
  })
})

const COMMAS = 'wanted a JSON object or key=value pairs: commas part them, and a value that has one is for JSON'

describe('what is not a value of its kind is refused with what was wanted', () => {
  const cases: readonly (readonly [keyof typeof kinds, unknown, string])[] = [
    ['text', { a: 1 }, 'wanted a string'],
    ['text', ['a'], 'wanted a string'],
    ['text', JSON.parse('9007199254740993'), 'wanted so long a number as a string'],
    ['list', [JSON.parse('-12345678901234567890')], 'wanted so long a number as a string'],
    ['text', 'a'.repeat(4097), 'wanted at most 4096 characters'],
    ['text', 'a\ud800', 'wanted well-formed Unicode'],
    ['choice', 'three', 'wanted one of one, two'],
    ['choice', 'One', 'wanted one of one, two'],
    ['formed', 'ABC', 'wanted lower-case letters'],
    ['bytes', 'AA AA', 'wanted base64'],
    ['bytes', 'AAAA\0', 'wanted base64'],
    ['bytes', 'ＡＡＡＡ', 'wanted base64'],
    ['bytes', Buffer.alloc(65).toString('base64'), 'wanted at most 64 bytes'],
    ['bytes', 'A'.repeat(200), 'wanted at most 92 characters'],
    ['hex', '', 'wanted bytes in hex'],
    ['hex', 'abc', 'wanted bytes in hex'],
    ['hex', '0xab', 'wanted bytes in hex'],
    ['hex', 'ab'.repeat(65), 'wanted at most 128 characters'],
    ['integer', '1.5', 'wanted a whole number'],
    ['integer', '1e3', 'wanted a whole number'],
    ['integer', '9'.repeat(16), 'wanted a whole number'],
    ['flag', 'yes', 'wanted true or false'],
    ['flag', 2, 'wanted true or false'],
    ['list', [['a']], 'wanted a string'],
    ['list', Array.from({ length: 1001 }, String), 'wanted at most 1000 items'],
    ['choices', 'one,three', 'wanted one of one, two'],
    ['map', 7, 'wanted a JSON object or key=value pairs'],
    ['map', nested(33), 'wanted members that are nested at most 32 deep'],
    ['map', JSON.stringify(nested(33)), 'wanted members that are nested at most 32 deep'],
    ['map', '[1]', COMMAS],
    ['map', '{"a"', 'wanted a JSON object or key=value pairs'],
    ['map', 'a', COMMAS],
    ['map', 'a=b,c', COMMAS],
    ['map', 'a=b,a=c', 'wanted each name once: a list is for JSON'],
    ['map', ['a=b', 'a=c'], 'wanted each name once: a list is for JSON'],
    ['map', '=1', COMMAS],
    ['sensitive', { a: 1 }, 'wanted a string'],
  ]
  test.each(cases)('%s: %j', (kind, sent, wanted) => expect(refused(kinds[kind], sent)).toBe(`it: ${wanted}`))
})

test('members that are nested deeper than anybody can walk are refused as others are', () =>
  expect(refused(kinds.map, nested(100_000))).toBe('it: wanted members that are nested at most 32 deep'))

describe('parseFields', () => {
  const fields = { name: required(text('Name of the role.')), ttl: duration('Life.', { fallback: 900 }), note: text('Note.') }

  test('fills in what was left out and tells it from what was sent', () => {
    const { values, given, unknown } = parseFields(fields, { name: 'ci', colour: 'red', list: 'true' })
    expect(values).toEqual({ name: 'ci', ttl: 900, note: undefined })
    expect(given).toEqual({ name: 'ci' })
    expect(unknown).toEqual(['colour', 'list'])
  })

  test('null is nothing, as in Vault', () => {
    expect(parseFields(fields, { name: 'ci', ttl: null }).given).toEqual({ name: 'ci' })
    expect(() => parseFields(fields, { name: null })).toThrow('missing name: Name of the role.')
  })

  test('takes nothing from what an object inherits', () => {
    expect(() => parseFields(fields, Object.create({ name: 'ci' }) as Record<string, unknown>)).toThrow('missing name')
  })

  test('a sensitive value cannot be printed from there on', () => {
    const { values } = parseFields({ token: sensitive(text('Token.')) }, { token: 'hvs.canary' })
    expect(values.token).toBeInstanceOf(Secret)
    expect(values.token?.reveal()).toBe('hvs.canary')
    expect(`${String(values.token)} ${inspect(values)} ${JSON.stringify(values)}`).not.toContain('canary')
  })
})

test("booleans of a query are read as Go's strconv.ParseBool reads them", () => {
  expect(['1', 't', 'T', 'TRUE', 'true', 'True'].map(parseBool)).toEqual(Array(6).fill(true))
  expect(['0', 'f', 'F', 'FALSE', 'false', 'False'].map(parseBool)).toEqual(Array(6).fill(false))
  expect(['', 'yes', 'tRUE', '2'].map(parseBool)).toEqual(Array(4).fill(undefined))
})

describe('whatever is sent', () => {
  // long enough, and of no word that a sentence could hold by itself
  const marker = 'Zx9'
  const marked = fc.string({ unit: 'binary' }).map(value => `${marker}${value}`)
  const anything = fc.oneof(
    fc.anything({ withBigInt: false, withDate: true, maxDepth: 3 }),
    fc.jsonValue(),
    marked,
    fc.array(marked),
    fc.dictionary(fc.string(), marked),
  )

  test.each(Object.entries(kinds))('%s: a value of its kind, or one sentence that holds nothing of it', (_, field) => {
    fc.assert(
      fc.property(anything, sent => {
        try {
          read(field, sent)
        } catch (error) {
          expect(error).toBeInstanceOf(BrokerError)
          expect((error as BrokerError).code).toBe('bad_request')
          expect(inspect(error)).not.toContain(marker)
        }
      }),
      { numRuns: 500 },
    )
  })
})
