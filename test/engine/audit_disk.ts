import { constants } from 'node:fs'
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { realDisk } from '../../engine/audit/disk.ts'
import { type Audit, type AuditOptions, type Disk, type DiskFile, openAudit, type Problem } from '../../engine/audit/index.ts'
import { Secret } from '../../engine/secret.ts'
import { PATIENCE_MS } from '../harness/patience.ts'

export type Operation = keyof Disk | keyof DiskFile

/** What a test does to an operation before the real disk gets it: nothing, throw, hang. A write of which a number comes back takes only so many bytes. */
export type Fault = (operation: Operation, bytes: Uint8Array) => unknown

export type FaultyDisk = Disk & { fault: Fault; readonly calls: { operation: string; bytes: number; file: number }[] }

/** The real file system, with a switch before each operation. `calls` is what was asked of it; files are numbered as they are opened. */
export function faultyDisk(): FaultyDisk {
  const calls: FaultyDisk['calls'] = []
  let files = 0
  const switched = <T extends object>(real: T, file: number): T => {
    const operations = Object.entries(real as Record<string, (...args: unknown[]) => Promise<unknown>>)
    const each = operations.map(([operation, run]) => {
      const wrapped = async (...args: unknown[]) => {
        const bytes = args[0] instanceof Uint8Array ? args[0] : new Uint8Array()
        calls.push({ operation, file, bytes: bytes.length })
        // a close that fails closes all the same, as the system's does
        if (operation === 'close') await run()
        const short = await disk.fault(operation as Operation, bytes)
        if (operation === 'close') return undefined
        return typeof short === 'number' ? run(bytes.subarray(0, short)) : run(...args)
      }
      return [operation, wrapped]
    })
    return Object.fromEntries(each) as T
  }
  const open = async (path: string) => switched(await realDisk.open(path), ++files)
  const disk: FaultyDisk = { ...switched({ ...realDisk, open }, 0), fault: () => undefined, calls }
  return disk
}

/** A disk without space, for real: the device takes nothing and says ENOSPC. */
export const full: Fault = async (operation, bytes) => {
  if (operation !== 'write') return
  await using device = await open('/dev/full', constants.O_WRONLY)
  await device.write(bytes)
}

/** An input/output error of this operation. */
export function eio(failing: Operation): Fault {
  return operation => {
    if (operation === failing) throw Object.assign(new Error(`EIO: i/o error, ${failing}`), { code: 'EIO' })
  }
}

export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'assay-audit-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

export const key = new Secret<Uint8Array>(Buffer.alloc(32, 7))

/** An open log in a folder of its own, that is closed after the test. */
export async function opened(options: Partial<AuditOptions> = {}): Promise<{ audit: Audit; file: string; problems: Problem[] }> {
  const file = options.file ?? join(await folder(), 'audit.jsonl')
  const problems: Problem[] = []
  const onBad = (problem: Problem) => void problems.push(problem)
  const audit = await openAudit({
    file,
    key,
    now: () => 1_800_000_000_000,
    onBad,
    retryMs: 5,
    deadlineMs: PATIENCE_MS,
    ...options,
  })
  onTestFinished(() => audit.close().catch(() => undefined))
  return { audit, file, problems }
}

/** The files of a log in the order of their chain: those that were sealed or rotated, by their names, then the one in use. */
export async function filesOf(file: string): Promise<string[]> {
  const names = (await readdir(dirname(file))).filter(name => name.startsWith(`${basename(file)}.`))
  const chain = names.filter(name => !name.includes('.unfinished') && !name.includes('.broken-'))
  return [...chain.sort(), basename(file)].map(name => join(dirname(file), name))
}

export const record = (txn: string) =>
  ({ type: 'intent', txn, operation: 'update', mount: 'broker/', path: 'creds/deploy' }) as const

export const linesOf = async (file: string) =>
  (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)

export const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
