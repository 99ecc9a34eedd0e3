import { expect, test } from 'vitest'
import { parseFields } from '../../../engine/fields.ts'
import { issuers, transitKeysIn } from '../../../engine/issuers/index.ts'

const settings = Object.values(issuers).flatMap(({ integration }) => Object.entries(integration?.settings ?? {}))

/** By what a setting says to a text that is the name of nothing. */
function wantsTransitKey([name, field]: (typeof settings)[number]): boolean {
  try {
    parseFields({ [name]: field }, { [name]: 'no such form' })
    return false
  } catch (error) {
    return String(error).includes('the name of a transit key')
  }
}

test('every setting that names a key in transit is known for it, whatever the issuer', () => {
  const wanting = [...new Set(settings.filter(wantsTransitKey).map(([name]) => name))]
  expect(wanting.toSorted()).toEqual(['key', 'signing_key'])
  const all = Object.fromEntries(settings.map(([name]) => [name, `assay-${name}`]))
  expect(transitKeysIn(all).toSorted()).toEqual(['assay-key', 'assay-signing_key'])
})

test.each([[''], ['other'], ['assay-'], ['assay-a/b'], [7], [['assay-a']]])('what is no name of one is none: %j', key => {
  expect(transitKeysIn({ key })).toEqual([])
})
