import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { run } from '../harness/process.ts'

const clean = { success: true, numPassedTests: 7, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [] }
const rows: [string, object, string, number][] = [
  ['all passed', {}, '7 passed, 0 failed', 0],
  ['one failed', { success: false, numFailedTests: 1 }, '7 passed, 1 failed', 1],
  ['skipped ones are told', { numPendingTests: 2, numTodoTests: 1 }, '7 passed, 0 failed, 3 skipped', 0],
  [
    'a file that does not load',
    { success: false, testResults: [{ status: 'failed', assertionResults: [] }] },
    '7 passed, 1 failed',
    1,
  ],
  ['an error outside of tests', { success: false }, '7 passed, 1 failed', 1],
  ['no tests at all', { numPassedTests: 0 }, '0 passed, 0 failed', 1],
]

test.each(rows)('%s', async (_, report, line, code) => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-count-'))
  const file = join(folder, 'report.json')
  await writeFile(file, JSON.stringify({ ...clean, ...report }))
  const ran = await run(process.execPath, [join(import.meta.dirname, '../../scripts/lib/count.ts'), file])
  await rm(folder, { recursive: true })
  expect(ran).toMatchObject({ stdout: `${line}\n`, code })
})
