import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { answers, challengeOf } from '../../engine/stores/azure_challenge.ts'
import { fieldsOf, textOfFields } from '../../engine/stores/payload.ts'
import { StoreFault } from '../../engine/stores/store.ts'

/** What a parser says of hostile text: its value, or a fault that does not repeat the text. */
function outcome<T>(text: string, parse: (text: string) => T): T | StoreFault {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof StoreFault)) throw error
    if (text.length >= 8) expect(error.reason).not.toContain(text)
    return error
  }
}

describe('what a store holds', () => {
  const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/).filter(one => one !== '__proto__')
  const object = fc.dictionary(name, fc.string(), { minKeys: 1, maxKeys: 64 })

  test('comes back as it was written, whatever the values are', () =>
    fc.assert(
      fc.property(object, given => {
        const held = fieldsOf(JSON.stringify(given))
        const text = textOfFields(held).reveal()
        const again = Object.fromEntries(Object.entries(fieldsOf(text)).map(([key, one]) => [key, one.reveal()]))
        expect(again).toEqual({ ...given })
      }),
      { examples: [[{ value: '' }], [{ value: 'a text' }], [{ value: ' {"a":"b"}' }]] },
    ))

  test('is one field when it is no object', () =>
    fc.assert(
      fc.property(
        fc.string({ minLength: 1 }).filter(text => !text.trimStart().startsWith('{')),
        text => {
          expect(fieldsOf(text)['value']?.reveal()).toBe(text)
        },
      ),
    ))

  test('is fields or a fault, never anything else, and a fault does not repeat it', () =>
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map(text => text.slice(0, -1)),
          fc.string().map(text => `{${text}`),
        ),
        text => {
          outcome(text, fieldsOf)
        },
      ),
    ))

  test.each(['', '{}', '{"a":null}', '{"1a":"x"}', `{"${'a'.repeat(65)}":"x"}`, '{"a":"x"', '{"__proto__":"x"}'])(
    '%s is none',
    text => expect(outcome(text, fieldsOf)).toBeInstanceOf(StoreFault),
  )

  test('is 64 fields at most, each with a proper name', () => {
    const many = (count: number) => JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, at) => [`f${at}`, 'x'])))
    expect(Object.keys(fieldsOf(many(64)))).toHaveLength(64)
    for (const text of [many(65), '{"a":"x","1a":"y"}']) expect(outcome(text, fieldsOf)).toBeInstanceOf(StoreFault)
  })

  test('a number, and what is true or not, is its text', () => {
    const read = Object.entries(fieldsOf('{"port":5432,"tls":true}')).map(([name, one]) => [name, one.reveal()])
    expect(read).toEqual([
      ['port', '5432'],
      ['tls', 'true'],
    ])
  })

  // others read it there, too
  test.each<readonly [Record<string, string>, string]>([
    [{ value: 'a text' }, 'a text'],
    [{ value: '' }, '{"value":""}'],
    [{ value: ' {"a":"b"}' }, '{"value":" {\\"a\\":\\"b\\"}"}'],
    [{ value: 'a text', other: 'b' }, '{"value":"a text","other":"b"}'],
    [{ other: 'b' }, '{"other":"b"}'],
  ])('%j is written as %s', (fields, text) => {
    const secrets = Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, new Secret(one)]))
    expect(textOfFields(secrets).reveal()).toBe(text)
  })

  test('a key file within it stays its text', () =>
    expect(fieldsOf('{"key":{"type":"service_account","n":1}}')['key']?.reveal()).toBe('{"type":"service_account","n":1}'))
})

describe('the challenge of a key vault', () => {
  const vault = 'https://acme.vault.azure.net'
  const tenant = '72f988bf-86f1-41af-91ab-2d7cd011db47'
  const said = (resource: string, authority = `https://login.windows.net/${tenant}`) =>
    `Bearer authorization="${authority}", resource="${resource}"`

  test('is answered when it is for the domain of the vault and its tenant', () => {
    const challenge = challengeOf(said('https://vault.azure.net'))
    expect(challenge).toEqual({ authorization: `https://login.windows.net/${tenant}`, resource: 'https://vault.azure.net' })
    expect(answers(challenge, vault, tenant.toUpperCase())).toBeUndefined()
  })

  test('may name the scope in place of the resource', () =>
    expect(
      challengeOf(`Bearer authorization_uri="https://login.windows.net/${tenant}" , scope="https://vault.azure.net/.default"`)
        .resource,
    ).toBe('https://vault.azure.net'))

  test.each([
    'https://azure.net.evil.example',
    'https://ault.azure.net',
    'https://net',
    'https://other.vault.azure.net',
    'http://169.254.169.254',
  ])('is not answered for %s', resource => expect(answers(challengeOf(said(resource)), vault, tenant)).toMatch('another domain'))

  test.each([
    '',
    'Bearer',
    'Basic realm="x"',
    'Bearer authorization=https://login',
    'Bearer resource="https://vault.azure.net"',
    `${said('https://a.example')}, resource="https://b.example"`,
    said('file:///etc'),
    said('https://u:p@vault.azure.net'),
    said('https://vault.azure.net?a=b'),
    said('https://vault.azure.net#a'),
    `${said('https://vault.azure.net')} x`,
    `${said('https://vault.azure.net')}, realm="${'x'.repeat(2048)}"`,
    `Basic realm="x", ${said('https://vault.azure.net')}`,
    `Bearer ${'a="b",'.repeat(1000)}`,
  ])('cannot be read from %s', header => expect(outcome(header, challengeOf)).toBeInstanceOf(StoreFault))

  test('is read or refused, whatever is sent', () =>
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(fc.tuple(fc.string(), fc.string())).map(all => `Bearer ${all.map(([a, b]) => `${a}="${b}"`).join(', ')}`),
        ),
        header => void outcome(header, challengeOf),
      ),
    ))

  test('of any host is answered only when the vault lies in it', () => {
    const { hostname } = new URL(vault)
    // ends of its own name, with and without something before them
    const near = fc
      .tuple(fc.constantFrom('', '.', 'x', 'x.'), fc.nat(hostname.length - 1))
      .map(([before, at]) => `https://${before}${hostname.slice(at)}`)
    const outcomes = new Set<boolean>()
    fc.assert(
      fc.property(fc.oneof(near, fc.webUrl({ validSchemes: ['https'] })), url => {
        const read = outcome(said(url), challengeOf)
        const isAnswered = !(read instanceof StoreFault) && answers(read, vault, tenant) === undefined
        outcomes.add(isAnswered)
        if (isAnswered) expect(`.${hostname}`.endsWith(`.${new URL(read.resource).hostname}`)).toBe(true)
      }),
      { examples: [['https://vault.azure.net']] }, // chance alone finds none in some of the runs
    )
    expect(outcomes.size).toBe(2)
  })
})
