import { spawnSync } from 'node:child_process'
import { constants } from 'node:fs'
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { genesis } from '../../engine/audit/chain.ts'
import { hashed, plain } from '../../engine/audit/index.ts'
import { BrokerError } from '../../engine/errors.ts'
import { until } from '../harness/process.ts'
import { type FaultyDisk, faultyDisk, folder, full, linesOf, opened, record, unavailable } from './audit_disk.ts'

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
    expect(operations.slice(operations.indexOf('write'))).toEqual(['write', 'state', 'sync', 'size', 'rename', 'syncNames'])
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
    expect(disk.calls.slice(before).map(call => call.operation)).toEqual(['write', 'state', 'sync', 'write', 'state', 'sync'])
    expect((await linesOf(file)).slice(2).map(line => line['txn'])).toEqual(others.map((_, number) => `t${number}`))
  })

  test('tells of each group what it was and how long it took', async () => {
    const syncs: unknown[] = []
    const { audit } = await opened({ onSync: sync => syncs.push(sync) })
    audit.appendLazy(record('nobody waits for it'))
    await Promise.all([audit.append(record('a')), audit.append(record('b'))])
    expect(syncs).toEqual([{ records: 3, tookMs: expect.any(Number), waitedMs: [expect.any(Number), expect.any(Number)] }])
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
    expect(disk.calls.slice(before).map(call => call.operation)).toEqual(['write', 'state', 'sync'])
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
