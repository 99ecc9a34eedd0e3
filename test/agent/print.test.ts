import { expect, test } from 'vitest'
import { aloneOf, jsonOf, tableOf } from '../../agent/print.ts'

/** What a terminal obeys, or shows otherwise than it is: a sequence in seven bits and in eight, an override of the direction, a tag. */
const ODD = 'a\u001b[31mb\u009b32mc\u202ed\u{e0041}e'
const OBEYED = /[^\P{C}\n]/u

test.each([
  ['a text', ODD],
  ['a list of texts', ['plain', ODD]],
  ['an object', { at: ODD }],
])('%s that others wrote is nothing that a terminal obeys, in a table, alone and as JSON', (_, value) => {
  for (const text of [tableOf([['scope', value]]), jsonOf({ scope: value })]) expect(text).not.toMatch(OBEYED)
  expect(aloneOf(value)).not.toMatch(/[^\P{Cc}\n]/u)
})

test('who parses a document reads what was said', () => {
  const said = { [ODD]: [ODD, { at: ODD }], plain: 'ä \u{1f600} "\\' }
  expect(JSON.parse(jsonOf(said))).toEqual(said)
  expect(jsonOf({ plain: 'ä', list: [1] })).toBe(JSON.stringify({ plain: 'ä', list: [1] }, null, 2))
})
