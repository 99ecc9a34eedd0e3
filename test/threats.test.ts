import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { threats } from './threats.ts'

test.each(Object.entries(threats))('%s', (_, tried) => {
  expect(tried.length).toBeGreaterThan(0)
  for (const one of tried) {
    const [file, ...words] = 'absent' in one ? one.shown : one
    const text = readFileSync(join(import.meta.dirname, file), 'utf8')
    expect(words.length).toBeGreaterThan(0)
    for (const word of words) expect(text).toContain(word)
  }
})

const list = join(import.meta.dirname, '../../shared/reference/threats.md')
if (!existsSync(list)) console.error('the list of threats is not there: its rows are not compared')

test.skipIf(!existsSync(list))('each is a row of the list', () => {
  const rows = readFileSync(list, 'utf8')
    .split('\n')
    .map(line => line.replace(/^\| (?:\*\*)?/, ''))
  for (const name of Object.keys(threats)) expect(rows.some(row => row.startsWith(name))).toBe(true)
})
