import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { attackers, promises } from './promises.ts'
import { expectTried } from './tried.ts'

const page = (name: string) => readFileSync(join(import.meta.dirname, '..', name), 'utf8').replaceAll("'", '’')

test.each([...Object.entries(promises), ...Object.entries(attackers)])('%s', (_, tried) => expectTried(tried))

describe('each is in the table, and no other', () => {
  test('of what SECURITY.md promises', () => {
    const [, section = ''] = page('SECURITY.md').split('## What Assay promises\n')
    const told = [...(section.split('\n## ')[0] ?? '').matchAll(/^- (.*)$/gm)].map(([, line = '']) => line)
    expect(told.length).toBe(Object.keys(promises).length)
    for (const name of Object.keys(promises))
      expect(
        told.filter(line => line.startsWith(name)),
        name,
      ).toHaveLength(1)
  })

  test('of who attacks, in the threat model', () => {
    const [, section = ''] = page('docs/threat-model.md').split('## Who attacks, and what stands in the way\n')
    const told = [...(section.split('\n## ')[0] ?? '').matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell).slice(1)
    expect(told).toEqual(Object.keys(attackers))
  })
})
