import { expect, test } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { issuers } from '../../engine/issuers/index.ts'
import { KEYS } from '../../mounts/secrets/integrations.ts'

function namesTransitKey(name: string, field: unknown): boolean {
  try {
    parseFields({ [name]: field } as Parameters<typeof parseFields>[0], { [name]: 'no such form' })
    return false
  } catch (error) {
    return String(error).includes('the name of a transit key')
  }
}

test('whoever writes a setting that names a key in transit is asked for the right to sign with it, whatever the issuer', () => {
  const fields = Object.values(issuers).flatMap(({ integration }) => Object.entries(integration?.settings ?? {}))
  const named = fields.filter(([name, field]) => namesTransitKey(name, field)).map(([name]) => name)
  expect([...new Set(named)].toSorted()).toEqual(KEYS.toSorted())
})
