import { readFile, rename, rm, stat } from 'node:fs/promises'
import { setImmediate as immediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Audit, verifyAudit } from '../../engine/audit/index.ts'
import { until } from '../harness/process.ts'
import { eio, type Fault, faultyDisk, filesOf, full, linesOf, type Operation, opened, record, unavailable } from './audit_disk.ts'

const healthy = (audit: Audit) => until('the log to recover', async () => audit.healthy())

/** What the log holds: the txn of every record, over all files of a chain that verifies. */
async function kept(file: string): Promise<unknown[]> {
  const files = await filesOf(file)
  expect(await verifyAudit(files)).toMatchObject({ ok: true, first: 0 })
  return (await Promise.all(files.map(linesOf))).flat().map(line => line['txn'] ?? 'event')
}

/** Lets the operation through so many times, then does this once. */
function once(failing: Operation, fault: Fault): Fault {
  let done = false
  return (operation, bytes) => {
    if (done || operation !== failing) return undefined
    done = true
    return fault(operation, bytes)
  }
}

describe('a disk without space', () => {
  test('refuses at once, keeps what was durable and what is lazy, and recovers by itself', async () => {
    const disk = faultyDisk()
    const told: string[] = []
    const { audit, file, problems } = await opened({ disk, onGood: () => told.push('good') })
    await audit.append(record('before'))
    disk.fault = full
    audit.appendLazy(record('outcome 1'))
    await expect(audit.append(record('refused 1'))).rejects.toEqual(unavailable)
    await expect(audit.append(record('refused 2'))).rejects.toEqual(unavailable)
    audit.appendLazy(record('outcome 2'))
    expect(audit.healthy()).toBe(false)
    await until('several attempts', async () => disk.calls.filter(call => call.operation === 'open').length > 4)
    expect(told).toEqual([])
    disk.fault = () => undefined
    await healthy(audit)
    await audit.append(record('after'))
    expect(await kept(file)).toEqual(['event', 'before', 'event', 'outcome 1', 'outcome 2', 'after'])
    expect(problems.map(problem => problem.kind)).toEqual(['unwritable', 'sealed'])
    expect(problems[0]?.detail).toContain('ENOSPC')
    expect(told).toEqual(['good'])
  })

  test('says why a file was begun, and names the one that was sealed after the record that follows it', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    disk.fault = once('write', full)
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    expect(await filesOf(file)).toEqual([`${file}.sealed-000000000001`, file])
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ index: 1, event: 'file-opened', why: 'failed' })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })

  test('keeps lazy records and writes them when it is back, also when nothing else comes', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    disk.fault = full
    audit.appendLazy(record('outcome 1'))
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    disk.fault = () => undefined
    await until('the outcome to be written', async () => audit.head().index === 2)
    expect(await kept(file)).toEqual(['event', 'event', 'outcome 1'])
  })

  test('at start: the log does not open', async () => {
    const disk = faultyDisk()
    disk.fault = full
    await expect(opened({ disk })).rejects.toEqual(unavailable)
  })

  test('at a close: says that records are lost', async () => {
    const disk = faultyDisk()
    const { audit } = await opened({ disk, lazyMs: 60_000 })
    disk.fault = full
    audit.appendLazy(record('outcome'))
    await expect(audit.close()).rejects.toThrow('without its last records')
  })

  test('until the close: the close writes what waited', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk, retryMs: 60_000 })
    disk.fault = full
    audit.appendLazy(record('outcome'))
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    disk.fault = () => undefined
    await audit.close()
    expect(await kept(file)).toEqual(['event', 'event', 'outcome'])
  })
})

describe('an input/output error', () => {
  test('of fdatasync: the file is never synced again, and holds nothing that was refused', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    await audit.append(record('before'))
    disk.fault = once('sync', eio('sync'))
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    await audit.append(record('after'))
    expect(await kept(file)).toEqual(['event', 'before', 'event', 'after'])
    // the start, `before` and the failed one; nothing later
    expect(disk.calls.filter(call => call.file === 1 && call.operation === 'sync')).toHaveLength(3)
    expect(disk.calls.filter(call => call.file === 1 && call.operation === 'write')).toHaveLength(3)
  })

  test('of the write', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    disk.fault = once('write', eio('write'))
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    await audit.append(record('after'))
    expect(await kept(file)).toEqual(['event', 'event', 'after'])
  })

  for (const taken of [0, 1, 100, 300])
    test(`a write that takes only ${taken} bytes leaves no torn record in the sealed file`, async () => {
      const disk = faultyDisk()
      const { audit, file } = await opened({ disk })
      disk.fault = once('write', () => taken)
      await expect(Promise.all([audit.append(record('refused 1')), audit.append(record('refused 2'))])).rejects.toEqual(
        unavailable,
      )
      await healthy(audit)
      await audit.append(record('after'))
      expect(await kept(file)).toEqual(['event', 'event', 'after'])
    })

  test('while the new file is begun: that one is not used either', async () => {
    for (const failing of [
      'open',
      'write',
      'sync',
      'rename',
      'syncNames',
      'size',
      'state',
      'truncate',
      'moveAside',
      'isAt',
    ] as const) {
      const disk = faultyDisk()
      const { audit, file } = await opened({ disk })
      const first = once('sync', eio('sync'))
      const second = once(failing, eio(failing))
      let failed = false
      disk.fault = (operation, bytes) => {
        if (failed) return second(operation, bytes)
        failed = operation === 'sync'
        return first(operation, bytes)
      }
      await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
      await healthy(audit)
      await audit.append(record('after'))
      expect(
        (await kept(file)).filter(txn => txn !== 'event'),
        failing,
      ).toEqual(['after'])
    }
  })

  test('while the new file is begun, which is renamed in that moment: nothing of it is in the chain', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    let isRenamed = false
    const first = once('sync', eio('sync'))
    disk.fault = async (operation, bytes) => {
      if (operation === 'syncNames' && !isRenamed) {
        await rename(file, `${file}.1`)
        isRenamed = true
        throw new Error('EIO: i/o error, syncNames')
      }
      return first(operation, bytes)
    }
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    await audit.append(record('after'))
    expect((await stat(`${file}.1`)).size).toBe(0)
    await rm(`${file}.1`)
    expect(await kept(file)).toEqual(['event', 'event', 'after'])
  })

  test('of a file that was renamed meanwhile: the file that somebody put there is not sealed', async () => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk })
    await audit.append(record('before'))
    await rename(file, `${file}.1`)
    disk.fault = once('sync', eio('sync'))
    await expect(audit.append(record('refused'))).rejects.toEqual(unavailable)
    await healthy(audit)
    expect(await filesOf(file)).toEqual([`${file}.1`, file])
    expect(await kept(file)).toEqual(['event', 'before', 'event'])
  })
})

describe('a disk that does not answer', () => {
  // the deadline goes by a clock that the test moves, and the disk by its own
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
  afterEach(() => void vi.useRealTimers())
  const DEADLINE_MS = 400
  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

  /** Hangs this operation until it is let go. `late`: it hangs, and the deadline passes. */
  function hanging(operation: Operation) {
    const disk = faultyDisk()
    const gate = Promise.withResolvers<void>()
    const hang = () => {
      disk.fault = asked => (asked === operation ? gate.promise : undefined)
    }
    const hangs = () => until(`${operation} to hang`, async () => disk.calls.at(-1)?.operation === operation)
    const late = async () => {
      await hangs()
      await pass(DEADLINE_MS)
    }
    return { disk, hang, gate, hangs, late }
  }
  const refused = (appended: Promise<unknown>) => expect(appended).rejects.toEqual(unavailable)

  for (const operation of ['write', 'sync'] as const)
    test(`(${operation}): refuses at the deadline, then at once, and goes on in the same file when it answers`, async () => {
      const { disk, hang, hangs, gate } = hanging(operation)
      const { audit, file, problems } = await opened({ disk, deadlineMs: DEADLINE_MS })
      hang()
      let ended = 0
      const both = ['late 1', 'late 2'].map(txn => refused(audit.append(record(txn)).finally(() => (ended += 1))))
      audit.appendLazy(record('outcome 1'))
      await hangs()
      await pass(DEADLINE_MS - 1)
      expect(ended).toBe(0)
      await pass(1)
      await Promise.all(both)
      expect(await Promise.race([audit.append(record('refused')).catch(String), immediate('still waiting')])).toContain(
        'cannot be written',
      )
      audit.appendLazy(record('outcome 2'))
      expect(problems).toEqual([{ kind: 'stalled', detail: expect.stringContaining('400 ms') }])
      gate.resolve()
      await healthy(audit)
      await audit.append(record('after'))
      // what the disk took after all is in the log: it is no intent of an issue, and does no harm
      expect(await kept(file)).toEqual(['event', 'late 1', 'late 2', 'outcome 1', 'outcome 2', 'after'])
    })

  test('and then fails: goes on in a new file', async () => {
    const { disk, hang, late, gate } = hanging('sync')
    const { audit, file } = await opened({ disk, deadlineMs: DEADLINE_MS })
    hang()
    const appended = refused(audit.append(record('late')))
    await late()
    await appended
    audit.appendLazy(record('outcome'))
    disk.fault = () => undefined
    gate.reject(new Error('EIO: i/o error'))
    await healthy(audit)
    await audit.append(record('after'))
    expect(await kept(file)).toEqual(['event', 'event', 'outcome', 'after'])
  })

  test('at a rotation: does not hold those who append', async () => {
    const { disk, hang, late, gate } = hanging('open')
    const { audit, file } = await opened({ disk, deadlineMs: DEADLINE_MS })
    await rename(file, `${file}.1`)
    hang()
    const reopened = audit.reopen()
    const appended = refused(audit.append(record('late')))
    await late()
    await appended
    gate.resolve()
    await reopened
    await audit.append(record('after'))
    expect(await kept(file)).toEqual(['event', 'event', 'after'])
  })

  test('at start: the log does not open', async () => {
    const { disk, hang, late, gate } = hanging('sync')
    hang()
    const opening = refused(opened({ disk, deadlineMs: DEADLINE_MS }))
    await late()
    await opening
    gate.resolve()
    await until('what was opened to be closed', async () => disk.calls.at(-1)?.operation === 'close')
  })

  test('at a close: the close ends all the same, and says that records are lost', async () => {
    const { disk, hang, late, gate } = hanging('sync')
    const { audit } = await opened({ disk, deadlineMs: DEADLINE_MS })
    hang()
    audit.appendLazy(record('outcome'))
    const closed = expect(audit.close()).rejects.toThrow('without its last records')
    await late()
    await closed
    gate.resolve()
  })

  test('and does again: a close that comes later waits for its last records', async () => {
    const { disk, hang, late, gate } = hanging('sync')
    const { audit, file } = await opened({ disk, deadlineMs: DEADLINE_MS })
    hang()
    const appended = refused(audit.append(record('late')))
    await late()
    await appended
    gate.resolve()
    await healthy(audit)
    audit.appendLazy(record('outcome'))
    await audit.close()
    expect(await kept(file)).toEqual(['event', 'late', 'outcome'])
  })

  test('and does again: lazy records are durable in time, however many were refused', async () => {
    const { disk, hang, late, gate } = hanging('sync')
    const { audit, file } = await opened({ disk, deadlineMs: DEADLINE_MS, lazyMs: 50 })
    hang()
    audit.appendLazy(record('outcome 1'))
    // more than go together
    const many = Array.from({ length: 1100 }, () => audit.append(record('late')).catch(() => undefined))
    await late()
    await Promise.all(many)
    gate.resolve()
    await healthy(audit)
    const before = audit.head().index
    audit.appendLazy(record('outcome 2'))
    await pass(50)
    await until('the last to be durable', async () => audit.head().index > before)
    expect((await kept(file)).at(-1)).toBe('outcome 2')
  })
})
