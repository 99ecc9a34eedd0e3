import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { besides, threats } from './threats.ts'
import { expectTried } from './tried.ts'

test.each([...Object.entries(threats), ...Object.entries(besides)])('%s', (_, tried) => expectTried(tried))

const list = join(import.meta.dirname, '../../shared/reference/threats.md')
if (!existsSync(list)) console.error('the list of threats is not there: its rows are not compared')

/** Tables that are here whole. Two more are of lessons: of servers, and of verifiers; what in them is of tokens and of proxies is here, too. */
const WHOLE = ['3. Adversaries', '4. Hazards', '8. Lessons: JOSE, Node, HTTP']

describe.skipIf(!existsSync(list))('of the list', () => {
  const sections = existsSync(list) ? readFileSync(list, 'utf8').split(/^## /m) : []
  /** without the heads of the tables */
  const rowsOf = (section: string) =>
    section
      .split('\n')
      .filter(line => line.startsWith('| '))
      .slice(1)
      .map(line => line.replace(/^\| (?:\*\*)?/, ''))

  test('each is a row', () => {
    const rows = sections.flatMap(rowsOf)
    for (const name of Object.keys(threats))
      expect(
        rows.filter(row => row.startsWith(name)),
        name,
      ).toHaveLength(1)
  })

  test.each(WHOLE)('%s has no row more', title => {
    const rows = rowsOf(sections.find(section => section.startsWith(title)) ?? '')
    expect(rows.length).toBeGreaterThan(0)
    expect(rows.filter(row => !Object.keys(threats).some(name => row.startsWith(name)))).toEqual([])
  })
})
