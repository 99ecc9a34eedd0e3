import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { rows } from '../../engine/metrics.ts'
import { rows as rowsOfProxy } from '../../proxy/metrics.ts'

// The page for operators tells of every metric, with its labels, and of none that is not there.

const page = await readFile(join(import.meta.dirname, '../../docs/operations.md'), 'utf8')
const table = page.match(/<!-- metrics: .*?-->(.*)<!-- end of metrics -->/s)?.[1] ?? ''

test('every metric is told to operators, and no other', () => {
  const told = [...table.matchAll(/`assay_(\w+)(?:\{([\w,]+)\})?`/g)].map(([, name = '', labels = '']) => `${name}{${labels}}`)
  const made = [rows, rowsOfProxy].flatMap(of => Object.values(of).map(({ name, labels }) => `${name}{${labels.join(',')}}`))
  expect(told.toSorted()).toEqual([...new Set(made)].toSorted())
})
