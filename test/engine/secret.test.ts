import { format, inspect } from 'node:util'
import { expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'

const secret = new Secret('hvs.canary')
const bytes = new Secret<Uint8Array>(Buffer.from('canary'))

test('a secret is revealed in one way', () => {
  expect(secret.reveal()).toBe('hvs.canary')
  expect(Buffer.from(bytes.reveal()).toString()).toBe('canary')
})

const ways: readonly (readonly [string, (value: Secret<unknown>) => unknown])[] = [
  ['String', value => String(value)],
  ['JSON', value => JSON.stringify(value)],
  ['JSON of what holds it', value => JSON.stringify({ deep: [{ value }] })],
  ['inspect', value => inspect(value)],
  ['inspect, all of it', value => inspect({ value }, { showHidden: true, depth: null, getters: true, customInspect: true })],
  ['inspect without its custom way', value => inspect(value, { customInspect: false, showHidden: true })],
  ['format', value => format('%s %o %O %j', value, value, value, value)],
  ['its members', value => JSON.stringify([Object.entries(value), Object.getOwnPropertyNames(value)])],
  ['an error that holds it', value => inspect(new Error('an error', { cause: value }))],
  ['a message', value => new Error(`it was ${String(value)}`).message],
]
test.each(ways)('%s does not reveal it', (_, print) => {
  for (const value of [secret, bytes]) {
    const text = String(print(value))
    expect(text).not.toContain('canary')
    expect(text).not.toContain(Buffer.from('canary').toString('hex'))
    expect(text).not.toContain('63 61 6e')
  }
})

test('it prints as what it is', () => {
  expect([String(secret), JSON.stringify({ secret }), inspect(secret)]).toEqual(['[secret]', '{"secret":"[secret]"}', '[secret]'])
})
