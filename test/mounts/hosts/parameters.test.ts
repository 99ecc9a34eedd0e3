import { describe, expect, test } from 'vitest'
import { BODY_BYTES } from '../../../mounts/hosts/body.ts'
import { parametersAtVault, parametersIn, parametersOf } from '../../../mounts/hosts/parameters.ts'

const FORM = 'application/x-www-form-urlencoded'
const read = (sent: string) => parametersAtVault('application/json', Buffer.from(sent))
const long = `"${'a'.repeat(5000)}"`

describe('a body on one of the own paths of Vault', () => {
  test('has its numbers as they were spelled', () => {
    expect(read('{"to":1e2,"from":1.0,"options":{"version":2}}')).toEqual({ to: '1e2', from: '1.0', options: { version: '2' } })
  })

  test('is read when it is long', () => {
    expect(read(`{"to":"123","description":${long}}`)).toMatchObject({ to: '123' })
  })

  test.each([
    ['itself', `{"to":123,"description":${long}}`],
    ['in a member', `{"options":{"version":2},"description":${long}}`],
    ['in a list', `{"to":["a",{"b":1}],"description":${long}}`],
    ['so many that they would keep everybody waiting', `{"to":[${'1,'.repeat(500_000)}1]}`],
    ['so deep that nothing can look there', `{"to":${'['.repeat(500_000)}1${']'.repeat(500_000)}}`],
  ])('is not certain when it is long and has a number %s', (_, sent) => {
    expect(read(sent)).toBeUndefined()
  })
})

describe('a body', () => {
  const NO_JSON = 'the body is no valid JSON'
  const NO_OBJECT = 'the body is no JSON object'
  const NO_FORM = 'error parsing form data'
  const table: readonly (readonly [type: string | undefined, sent: string, said: object | string])[] = [
    [undefined, '', {}],
    [FORM, ' \r\n\t', {}],
    ['application/json', 'null', {}],
    ['application/json', '{"a":"b"}', { a: 'b' }],
    [undefined, ' {"a":"b"}', { a: 'b' }],
    ['text/plain', '{"a":"b"}', { a: 'b' }],
    [FORM, '{"a":"b"}', { a: 'b' }],
    [FORM, '\n\t {"a":"b"}', { a: 'b' }],
    [FORM, '[1]', NO_OBJECT],
    ['application/json', '[]', NO_OBJECT],
    ['application/json', '"a"', NO_OBJECT],
    ['application/json', '1', NO_OBJECT],
    ['application/json', '{"a":', NO_JSON],
    ['application/json', 'a=b', NO_JSON],
    [undefined, 'a=b', NO_JSON],
    ['text/plain', 'a=b', NO_JSON],
    [FORM, 'a=b', { a: 'b' }],
    [`${FORM.toUpperCase()}; charset=utf-8`, 'a=b', { a: 'b' }],
    [FORM, 'a=b&c=%20d+e&a=f', { a: 'b,f', c: ' d e' }],
    [FORM, 'a=b;c=d', NO_FORM],
    [FORM, 'a=%zz', NO_FORM],
  ]
  const body = (type: string | undefined, sent: string) => {
    try {
      return parametersOf(type, Buffer.from(sent))
    } catch (error) {
      return (error as Error).message
    }
  }
  test.each(table)('of type %s, %j', (type, sent, said) => {
    expect(body(type, sent)).toEqual(said)
    expect(parametersAtVault(type, Buffer.from(sent))).toEqual(typeof said === 'string' ? undefined : said)
  })

  test('that is large is JSON, whatever its type says', () => {
    const form = `a=${'b'.repeat(BODY_BYTES - 2)}`
    expect(body(FORM, form)).toEqual({ a: form.slice(2) })
    expect(body(FORM, `${form}b`)).toBe('the body is too large: only JSON with long strings in it may be')
    expect(body(FORM, `a="${'b'.repeat(BODY_BYTES)}"`)).toBe(NO_JSON)
  })
})

describe('it is not certain what Vault reads', () => {
  test.each([
    ['of what is no UTF-8', Buffer.from('{"to":"\xff"}', 'latin1')],
    ['where JSON begins later than it looks', Buffer.from(`${' '.repeat(512)}{}`)],
    ['of a number in what is long', Buffer.from(`{"a":1,"b":"${'b'.repeat(4097 - 14)}"}`)],
  ])('%s', (_, sent) => expect(parametersAtVault('application/json', sent)).toBeUndefined())

  test('and just before that it is', () => {
    expect(read('{"to":"\xff"}')).toEqual({ to: '\xff' })
    expect(read(`${' '.repeat(511)}{}`)).toEqual({})
    expect(read(`{"a":1,"b":"${'b'.repeat(4096 - 14)}"}`)).toMatchObject({ a: '1' })
  })
})

test('a name that comes more than once in a query has a list', () => {
  expect(parametersIn(new URLSearchParams('a=1&b=2&a=3&c'))).toEqual({ a: ['1', '3'], b: '2', c: '' })
})

test('a form that has one name as often as it may holds no more in memory than was sent', () => {
  const values = Array.from({ length: 9_999 }, () => 'x'.repeat(100))
  const sent = Buffer.from(values.map(value => `a=${value}`).join('&'))
  expect(sent.length).toBeLessThan(BODY_BYTES)
  for (const reader of [parametersOf, parametersAtVault]) expect(reader(FORM, sent)).toEqual({ a: values.join(',') })
})
