import { appendFile, copyFile, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { genesis, link } from '../../engine/audit/chain.ts'
import { type Audit, inOrder, plain, verifyAudit } from '../../engine/audit/index.ts'
import { membersOf, systemMembers } from '../../engine/audit/record.ts'
import { until } from '../harness/process.ts'
import { faultyDisk, filesOf, folder, linesOf, opened, record, unavailable } from './audit_disk.ts'

// Whatever becomes of its files, before a start, at a rotation and in between: what is written next goes on with their chain.

describe('a restart', () => {
  test('goes on in the same file', async () => {
    const { audit, file } = await opened()
    await audit.append(record('before'))
    await audit.close()
    const again = await opened({ file })
    await again.audit.append(record('after'))
    expect((await linesOf(file)).map(line => line['txn'] ?? line['event'])).toEqual(['file-opened', 'before', 'started', 'after'])
    expect(await verifyAudit(file)).toMatchObject({ ok: true, records: 4 })
    expect(again.problems).toEqual([])
  })

  for (const [what, torn] of [
    ['half a record', '{"index":2,"prev":"00'],
    ['a record without its newline', link({ index: 1, hash: '0'.repeat(64) }, '"type":"intent"').line.trimEnd()],
    ['three bytes', '{"i'],
    ['zeros', '\0'.repeat(40_000)],
  ] as const)
    test(`cuts off a torn end (${what}) and tells so`, async () => {
      const { audit, file } = await opened()
      await audit.append(record('before'))
      await audit.close()
      await appendFile(file, torn)
      const { problems, audit: again } = await opened({ file })
      expect(problems).toEqual([{ kind: 'torn', detail: expect.stringContaining(`${torn.length} bytes`) }])
      expect((await again.append(record('after'))).index).toBe(3)
      expect((await linesOf(file))[2]).toMatchObject({ event: 'started', torn_bytes: torn.length })
      expect(await verifyAudit(file)).toMatchObject({ ok: true, records: 4 })
    })

  test('begins anew when the crash left not one record', async () => {
    const file = join(await folder(), 'audit.jsonl')
    await writeFile(file, '{"index":0,"prev":"000')
    const { problems } = await opened({ file })
    expect(problems).toMatchObject([{ kind: 'torn' }])
    expect(await verifyAudit(file)).toMatchObject({ ok: true, records: 1, first: 0 })
  })

  test('after a crash while a file was begun goes on after the file before', async () => {
    const { audit, file } = await opened()
    const head = await audit.append(record('before'))
    await audit.close()
    await rename(file, `${file}.1`)
    for (const half of [false, true]) {
      const { line } = link(head, systemMembers('file-opened', 0, { why: 'rotated' }))
      await writeFile(`${file}.unfinished`, half ? line.slice(0, 30) : line)
      await rm(file, { force: true })
      await (await opened({ file })).audit.close()
      expect(await verifyAudit([`${file}.1`, file])).toMatchObject({ ok: true, records: 3 })
    }
  })

  test('without its file goes on after the newest that was moved aside, whatever its name', async () => {
    const { audit, file } = await opened()
    await rename(file, `${file}-b`)
    await audit.reopen()
    await rename(file, `${file}.c`)
    await audit.reopen()
    await rename(file, `${file}-a`)
    await audit.close()
    await writeFile(`${file}.d`, 'notes of an operator\n')
    await (await opened({ file })).audit.close()
    const files = [`${file}-b`, `${file}.c`, `${file}-a`, file]
    expect(await verifyAudit(files)).toMatchObject({ ok: true, records: 4 })
    await writeFile(`${file}.e`, '')
    expect(await inOrder([...files, `${file}.e`].toSorted())).toEqual([...files, `${file}.e`])
    const notes = [file, `${file}.d`, `${file}-b`]
    expect(await inOrder(notes)).toEqual(notes)
  })

  test('refuses a broken chain and names the first bad record, or begins a new one when told', async () => {
    const { audit, file } = await opened()
    for (const txn of ['t1', 't2', 't3']) await audit.append(record(txn))
    await audit.close()
    const broken = (await readFile(file, 'utf8')).replace('"txn":"t2"', '"txn":"tX"')
    await writeFile(file, broken)
    await expect(opened({ file })).rejects.toThrow(/line 3, where record 2 was expected/)
    expect(await readFile(file, 'utf8')).toBe(broken)
    const { problems } = await opened({ file, broken: 'begin' })
    expect(problems).toMatchObject([{ kind: 'broken', detail: expect.stringContaining('line 3') }])
    expect(await verifyAudit(file)).toMatchObject({ ok: true, records: 1, first: 0 })
    expect(await readFile(`${file}.broken-000000000000`, 'utf8')).toBe(broken)
  })

  test('keeps every broken chain', async () => {
    const file = join(await folder(), 'audit.jsonl')
    for (const text of ['one\n', 'two\n', 'three\n']) {
      await writeFile(file, text)
      await (await opened({ file, broken: 'begin' })).audit.close()
    }
    const names = ['', '.1', '.2'].map(more => `${file}.broken-000000000000${more}`)
    expect(await Promise.all(names.map(name => readFile(name, 'utf8')))).toEqual(['one\n', 'two\n', 'three\n'])
  })

  test('refuses a file that was never a log, and leaves it as it is', async () => {
    for (const text of ['listener = "tcp"', 'listener = "tcp"\n', '{"a":1}\n{"b":2}\nrest']) {
      const file = join(await folder(), 'audit.jsonl')
      await writeFile(file, text)
      await expect(opened({ file })).rejects.toEqual(unavailable)
      expect(await readFile(file, 'utf8')).toBe(text)
    }
  })

  test('of a large file verifies the end, and names the first bad record of all', async () => {
    const { file, lines } = await large()
    const { audit } = await opened({ file })
    expect(audit.head().index).toBe(lines.length)
    await audit.close()
    await truncate(file, Buffer.byteLength(lines.slice(0, -100).join('')))
    await appendFile(file, lines.slice(-99).join(''))
    await expect(opened({ file })).rejects.toThrow(`line ${lines.length - 99}, where record ${lines.length - 100} was expected`)
  })
})

/** A log of more than the 16 MiB that are verified whole at start. */
async function large(): Promise<{ file: string; lines: readonly string[] }> {
  const file = join(await folder(), 'audit.jsonl')
  const members = membersOf({ ...record('t'), fields: { long: plain('x'.repeat(8000)) } }, 0, String)
  const lines: string[] = []
  let head = genesis
  for (let number = 0; number < 2200; number++) {
    const next = link(head, number === 0 ? systemMembers('file-opened', 0, { why: 'start' }) : members)
    lines.push(next.line)
    head = next.head
  }
  await writeFile(file, lines.join(''))
  return { file, lines }
}

describe('rotation', () => {
  test('loses none of 100 000 records, and the files are one chain', async () => {
    const { audit, file } = await opened()
    let next = 0
    const writer = async () => {
      while (next < 100_000) await audit.append(record(`t${next++}`))
    }
    const rotate = async () => {
      for (let number = 1; number <= 5; number++) {
        await until('some records', async () => next >= number * 15_000)
        await rename(file, `${file}.${number}`)
        await audit.reopen()
      }
    }
    await Promise.all([rotate(), ...Array.from({ length: 256 }, writer)])
    const files = await filesOf(file)
    expect(files).toHaveLength(6)
    // 100 000 records, and one that begins each file
    expect(await verifyAudit(files)).toMatchObject({ ok: true, records: 100_006, first: 0 })
    const found = new Set((await Promise.all(files.map(linesOf))).flat().map(line => line['txn']))
    expect(found.size).toBe(100_001)
  })

  test('goes on in a file that was made for it', async () => {
    const { audit, file } = await opened()
    await rename(file, `${file}.1`)
    await writeFile(file, '')
    await audit.reopen()
    await audit.append(record('after'))
    expect(await verifyAudit([`${file}.1`, file])).toMatchObject({ ok: true, records: 3 })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })

  test('does nothing when the file was not renamed', async () => {
    const { audit, file } = await opened()
    await audit.reopen()
    expect(await linesOf(file)).toHaveLength(1)
  })

  test('that fails leaves the log in the old file', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    await rename(file, `${file}.1`)
    disk.fault = operation => {
      if (operation === 'open') throw new Error('EMFILE: too many open files')
    }
    await expect(audit.reopen()).rejects.toEqual(unavailable)
    expect(audit.healthy()).toBe(true)
    await audit.append(record('still'))
    disk.fault = () => undefined
    await audit.reopen()
    await audit.append(record('after'))
    expect((await linesOf(`${file}.1`)).map(line => line['txn'])).toEqual([undefined, 'still'])
    expect(await verifyAudit([`${file}.1`, file])).toMatchObject({ ok: true, records: 4 })
  })

  test('moves aside what somebody else put in its place', async () => {
    const { audit, file } = await opened()
    await rename(file, `${file}.1`)
    await writeFile(file, 'something else')
    await audit.reopen()
    expect(await verifyAudit([`${file}.1`, file])).toMatchObject({ ok: true, records: 2 })
    const aside = `${file}.broken-000000000001`
    expect(await readFile(aside, 'utf8')).toBe('something else')
  })
})

describe('what somebody takes away beneath it', () => {
  const healthy = (audit: Audit) => until('the log to recover', async () => audit.healthy())

  test('is not written to any more: the file was removed', async () => {
    const { audit, file, problems } = await opened()
    await audit.append(record('before'))
    await rm(file)
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    await audit.append(record('after'))
    expect((await linesOf(file)).map(line => line['txn'] ?? line['why'])).toEqual(['failed', 'after'])
    expect(problems).toEqual([{ kind: 'lost', detail: `${file}: its file was removed` }])
    // two records are missing, and a chain shows that
    expect(await verifyAudit([file])).toMatchObject({ ok: true, first: 2 })
  })

  test('nor is a file that was emptied: copied before, it is a whole chain with what follows', async () => {
    const { audit, file, problems } = await opened()
    await audit.append(record('before'))
    await copyFile(file, `${file}.0`)
    await truncate(file)
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    await audit.append(record('after'))
    expect(problems.map(({ kind }) => kind)).toEqual(['lost', 'sealed'])
    expect((await stat(`${file}.sealed-000000000002`)).size).toBe(0)
    expect(await verifyAudit([`${file}.0`, file])).toMatchObject({ ok: true, first: 0, records: 4 })
  })

  test('nor is one that was cut short: what is left of it stays', async () => {
    const { audit, file } = await opened()
    const { size } = await stat(file)
    await audit.append(record('gone'))
    await truncate(file, size)
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    const sealed = `${file}.sealed-000000000002`
    expect(await verifyAudit([sealed])).toMatchObject({ ok: true, first: 0, records: 1 })
    expect(await verifyAudit([sealed, file])).toMatchObject({ ok: false })
  })
})
