import { spawnSync } from 'node:child_process'
import { constants } from 'node:fs'
import { appendFile, mkdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { genesis, link } from '../../engine/audit/chain.ts'
import { hashed, plain, verifyAudit } from '../../engine/audit/index.ts'
import { membersOf, systemMembers } from '../../engine/audit/record.ts'
import { BrokerError } from '../../engine/errors.ts'
import { until } from '../harness/process.ts'
import { type FaultyDisk, faultyDisk, filesOf, folder, full, opened, record } from './audit_disk.ts'

const linesOf = async (file: string) =>
  (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })

/** A disk whose syncs wait until they are let go. */
function gated(): { disk: FaultyDisk; hold: () => void; release: () => void } {
  const disk = faultyDisk()
  let gate = Promise.withResolvers<void>()
  const hold = () => {
    gate = Promise.withResolvers<void>()
    disk.fault = operation => (operation === 'sync' ? gate.promise : undefined)
  }
  const release = () => {
    disk.fault = () => undefined
    gate.resolve()
  }
  return { disk, hold, release }
}

describe('a new log', () => {
  test('is a file of its owner only, and begins with a record that says so', async () => {
    const { file, audit } = await opened()
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await linesOf(file)).toMatchObject([
      { index: 0, prev: genesis.hash, type: 'system', event: 'file-opened', why: 'start' },
    ])
    expect(audit.head().index).toBe(0)
    expect(audit.healthy()).toBe(true)
  })

  test('makes the name of its file durable', async () => {
    const disk = faultyDisk()
    await opened({ disk })
    const operations = disk.calls.map(call => call.operation)
    expect(operations.slice(operations.indexOf('write'))).toEqual(['write', 'sync', 'size', 'rename', 'syncNames'])
  })

  test('wants a key of 32 bytes', async () => {
    const { Secret } = await import('../../engine/secret.ts')
    await expect(opened({ key: new Secret<Uint8Array>(Buffer.alloc(16)) })).rejects.toThrow('32 bytes')
  })

  for (const [what, make] of [
    ['a FIFO that nobody reads', (path: string) => void spawnSync('mkfifo', [path])],
    ['a folder', (path: string) => mkdir(path)],
    ['a link to a device', (path: string) => void spawnSync('ln', ['-s', '/dev/full', path])],
  ] as const)
    test(`is refused at once where there is ${what}`, async () => {
      const file = join(await folder(), 'audit.jsonl')
      await make(file)
      await expect(opened({ file })).rejects.toEqual(unavailable)
    })

  test('is refused where there is no folder', async () => {
    await expect(opened({ file: join(await folder(), 'absent', 'audit.jsonl') })).rejects.toEqual(unavailable)
  })
})

describe('a log that is open', () => {
  test('is opened by nobody else, under whatever name of its folder, until it is closed', async () => {
    const { audit, file } = await opened()
    const link = `${await folder()}/link`
    await symlink(dirname(file), link)
    for (const path of [file, `${link}/audit.jsonl`])
      await expect(opened({ file: path })).rejects.toThrow(`the audit log ${path} is written by another process`)
    await (await opened({ file: `${file}.other` })).audit.close()
    expect(await linesOf(file)).toHaveLength(1)
    await audit.close()
    await opened({ file })
  })

  test('is held by a file beside it that only its owner may open, and that says so when it is no lock', async () => {
    const { audit, file } = await opened()
    const lock = join(dirname(file), '.audit.jsonl.lock')
    expect(await stat(lock)).toMatchObject({ size: 0, mode: constants.S_IFREG | 0o600 })
    await audit.close()
    await writeFile(lock, 'something else, and more of it than a page of a database has'.repeat(100))
    await expect(opened({ file })).rejects.toThrow(`${lock} cannot be locked: file is not a database`)
  })

  test('is free again when it was closed without its last records, and when it could not be opened', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk, lazyMs: 60_000 })
    disk.fault = full
    audit.appendLazy(record('lost'))
    await expect(audit.close()).rejects.toEqual(unavailable)
    await expect(opened({ file, disk })).rejects.toThrow('ENOSPC')
    await opened({ file })
  })
})

describe('append', () => {
  test('ends when the record is durable, not before', async () => {
    const { disk, hold, release } = gated()
    const { audit, file } = await opened({ disk })
    hold()
    let ended = false
    const appended = audit.append(record('t1')).then(head => {
      ended = true
      return head
    })
    await until('the record to be written', async () => disk.calls.at(-1)?.operation === 'sync')
    expect(await readFile(file, 'utf8')).toContain('"txn":"t1"')
    expect(ended).toBe(false)
    release()
    expect(await appended).toEqual({ index: 1, hash: (await linesOf(file))[1]?.['hash'] })
  })

  test('is one write and one sync, and what arrives meanwhile goes together into the next', async () => {
    const { disk, hold, release } = gated()
    const { audit, file } = await opened({ disk })
    hold()
    const before = disk.calls.length
    const first = audit.append(record('first'))
    await until('the first sync', async () => disk.calls.at(-1)?.operation === 'sync')
    const others = Array.from({ length: 100 }, (_, number) => audit.append(record(`t${number}`)))
    release()
    await Promise.all([first, ...others])
    expect(disk.calls.slice(before).map(call => call.operation)).toEqual(['write', 'sync', 'write', 'sync'])
    expect((await linesOf(file)).slice(2).map(line => line['txn'])).toEqual(others.map((_, number) => `t${number}`))
  })

  test('tells of each group what it was and how long it took', async () => {
    const syncs: unknown[] = []
    const { audit } = await opened({ onSync: sync => syncs.push(sync) })
    await Promise.all([audit.append(record('a')), audit.append(record('b'))])
    expect(syncs).toEqual([
      { records: 2, bytes: expect.any(Number), tookMs: expect.any(Number), waitedMs: [expect.any(Number), expect.any(Number)] },
    ])
  })

  test('refuses a record with unmarked text, and goes on', async () => {
    const { audit } = await opened()
    await expect(audit.append({ ...record('bad'), fields: { a: 'text' as never } })).rejects.toThrow(TypeError)
    expect((await audit.append(record('good'))).index).toBe(1)
  })

  test('is unavailable when too many wait; lazy records, whose intents were let in, still find room', async () => {
    const { disk, hold, release } = gated()
    const { audit } = await opened({ disk, queueLimit: 3 })
    hold()
    const first = audit.append(record('first'))
    await until('the first sync', async () => disk.calls.at(-1)?.operation === 'sync')
    const waiting = [1, 2, 3].map(number => audit.append(record(`t${number}`)))
    await expect(audit.append(record('t4'))).rejects.toEqual(unavailable)
    for (const number of [1, 2, 3]) audit.appendLazy(record(`o${number}`))
    expect(() => audit.appendLazy(record('o4'))).toThrow(BrokerError)
    release()
    await Promise.all([first, ...waiting])
  })

  test('keeps values that are hashed out of the file', async () => {
    const { audit, file } = await opened()
    await audit.append({ ...record('t'), fields: { token: hashed('hvs.canary'), role: plain('deploy') } })
    const text = await readFile(file, 'utf8')
    expect(text).toContain(audit.hash('hvs.canary'))
    expect(text).not.toContain('canary')
  })
})

describe('appendLazy', () => {
  test('goes with the next group, in order', async () => {
    const { audit, file } = await opened({ lazyMs: 60_000 })
    audit.appendLazy(record('lazy'))
    await audit.append(record('strict'))
    expect((await linesOf(file)).map(line => line['txn'])).toEqual([undefined, 'lazy', 'strict'])
  })

  test('waits no longer than it may', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk, lazyMs: 30 })
    const before = disk.calls.length
    const started = performance.now()
    audit.appendLazy(record('a'))
    audit.appendLazy(record('b'))
    await until('the records', async () => audit.head().index === 2)
    expect(performance.now() - started).toBeGreaterThan(25)
    expect(disk.calls.slice(before).map(call => call.operation)).toEqual(['write', 'sync'])
    expect(await linesOf(file)).toHaveLength(3)
  })

  test('is never lost by a close', async () => {
    const { audit, file } = await opened({ lazyMs: 60_000 })
    for (let number = 0; number < 3000; number++) audit.appendLazy(record(`t${number}`))
    await audit.close()
    expect(await linesOf(file)).toHaveLength(3001)
    expect(() => audit.appendLazy(record('late'))).toThrow('closed')
    await expect(audit.append(record('late'))).rejects.toEqual(unavailable)
    await expect(audit.reopen()).rejects.toEqual(unavailable)
    expect(audit.healthy()).toBe(false)
  })
})

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
    expect(await verifyAudit([`${file}-b`, `${file}.c`, `${file}-a`, file])).toMatchObject({ ok: true, records: 4 })
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
