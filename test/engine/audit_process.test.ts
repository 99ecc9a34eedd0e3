import { copyFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { verifyAudit } from '../../engine/audit/index.ts'
import { run, start, until } from '../harness/process.ts'
import { filesOf, folder, opened } from './audit_disk.ts'

describe('a process', () => {
  const child = join(import.meta.dirname, 'audit_child.ts')

  test('under a limit of the file size: short write and EFBIG, for real', async () => {
    const file = join(await folder(), 'audit.jsonl')
    // room for about ten records; each file after it has as much
    const ran = await run('prlimit', ['--fsize=4000', '--', process.execPath, child, file, '100', '100'])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    const told = ran.stdout.trim().split('\n')
    const durable = told.filter(line => !line.startsWith('refused')).map(Number)
    expect(told).toContain('refused unavailable')
    expect(durable.length).toBeGreaterThan(50)
    const files = await filesOf(file)
    expect(files.length).toBeGreaterThan(5)
    const records = durable.length + files.length
    expect(await verifyAudit(files)).toMatchObject({ ok: true, records, first: 0 })
  })

  test('keeps others out until it is killed: what it was told to be durable is there, and the next one goes on', async () => {
    const file = join(await folder(), 'audit.jsonl')
    for (let life = 1; life <= 5; life++) {
      await using running = await start(process.execPath, [child, file, '1000000', String(life * 200)])
      await running.line(/^\d+$/)
      await until('some records', async () => (await stat(file)).size > life * 60_000)
      await expect(opened({ file })).rejects.toThrow('is written by another process')
      await running.stop('SIGKILL')
      const durable = running.output().split('\n').slice(1, -1).map(Number)
      const copy = `${file}-copy`
      await copyFile(file, copy)
      const { audit } = await opened({ file: copy })
      expect(audit.head().index).toBeGreaterThan(Math.max(...durable))
      await audit.close()
      expect(await verifyAudit(copy)).toMatchObject({ ok: true })
      await rm(copy)
    }
  })
})
