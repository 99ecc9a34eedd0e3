import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { casesIn } from '../../scripts/vectors/folder.ts'

// Cases in the form of the published sets for the rows of their list of attacks that have no file there. Where the list only
// says that something is refused, so does the case.

const scratch = mkdtempSync(join(tmpdir(), 'rows-'))
afterAll(() => rmSync(scratch, { recursive: true }))
const at = new Date('2026-06-01T00:00:00Z')

/** Values of PCRs by bank and index, in hexadecimal. */
export type Table = Readonly<Record<string, Readonly<Record<string, string>>>>

export type Row = {
  readonly id: string
  readonly expected: string
  readonly record: object
  readonly files?: Readonly<Record<string, Buffer>>
}

/** Writes the rows as a set and runs it. */
export function runRows(title: string, rows: readonly Row[]): void {
  const folder = join(scratch, title.replaceAll(' ', '-'))
  mkdirSync(folder)
  for (const { files = {} } of rows) for (const [file, bytes] of Object.entries(files)) writeFileSync(join(folder, file), bytes)
  const cases = rows.map(({ id, expected, record }) => ({
    id,
    ...(/^[A-Z]/.test(expected) ? { expected_code: expected } : { expected }),
    ...record,
  }))
  writeFileSync(join(folder, 'cases.json'), JSON.stringify({ cases }))
  describe(title, () => {
    const found = casesIn(folder, at)
    test('every row is a case', () => expect([found.cases.length, found.unknown]).toEqual([rows.length, []]))
    test.each(found.cases)('$id: $expected.says', async ({ expected, judge }) => {
      const got = await judge()
      expect([got, expected.holds(got)]).toEqual([got, true])
    })
  })
}
