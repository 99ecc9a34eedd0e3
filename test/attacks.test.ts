import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { attacks } from './attacks.ts'
import { expectTried } from './tried.ts'

describe('every attack of the list is tried', () => {
  test('row by row', () => {
    expect(Object.keys(attacks).map(Number)).toEqual(Array.from({ length: 173 }, (_, row) => row + 1))
  })

  test.each(Object.entries(attacks))('%s', (_, tried) => expectTried(tried))
})

const list = join(import.meta.dirname, '../../shared/reference/attestation.md')
if (!existsSync(list)) console.error('the list of attacks is not there: its rows are not counted')

test.skipIf(!existsSync(list))('the list has no row more', () => {
  const rows = readFileSync(list, 'utf8').matchAll(/^\| (\d+) \| /gm)
  expect(Math.max(...[...rows].map(([, number]) => Number(number)))).toBe(Object.keys(attacks).length)
})
