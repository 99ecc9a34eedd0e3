import { BrokerError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { faults, genesis, type Head, link } from './chain.ts'
import { type Disk, realDisk } from './disk.ts'
import { hold } from './lock.ts'
import { type AuditRecord, type Hashable, hasherOf, membersOf, systemMembers } from './record.ts'
import { type Broken, type Standing, standingOf } from './resume.ts'
import { begin, extend, type Segment } from './segment.ts'
import { type Events, type Limits, Writer, type WriterWorld } from './writer.ts'

export type Audit = {
  /** Ends when the record is durable. Throws `BrokerError` unavailable when it is not: then nothing may be issued. */
  readonly append: (record: AuditRecord) => Promise<Head>
  /** For outcomes: written in order, durable with the next `append` or within 100 ms. Throws `BrokerError` unavailable when too many wait or the log is closed. */
  readonly appendLazy: (record: AuditRecord) => void
  /** The form in which the log holds a sensitive value: `hmac-sha256:<hex>`. */
  readonly hash: (value: Hashable) => string
  /** Goes on in a new file after an operator renamed this one; no record is lost. Throws `BrokerError` unavailable when that fails; then the old file is still written. */
  readonly reopen: () => Promise<void>
  /** Makes all durable that was appended. Throws `BrokerError` unavailable when the disk did not take it. */
  readonly close: () => Promise<void>
  /** The last durable record: kept elsewhere, it shows later whether the end of the log was cut off. */
  readonly head: () => Head
  /** False while records are refused. */
  readonly healthy: () => boolean
}

export type AuditOptions = Partial<Limits> &
  Events & {
    readonly file: string
    /** at least 32 bytes */
    readonly key: Secret<Uint8Array>
    /** wall clock, milliseconds since the epoch */
    readonly now: () => number
    /** what to do with a file whose chain is broken: `refuse` to start, or move it aside and `begin` a new chain */
    readonly broken?: 'refuse' | 'begin'
    readonly disk?: Disk
  }

const limits: Limits = { deadlineMs: 1000, queueLimit: 4096, lazyMs: 100, retryMs: 250 }

/** Opens the log and proves with a first durable record that it can be written. Throws `BrokerError` unavailable when it cannot, when its chain is broken, or when another process writes it. */
export async function openAudit(options: AuditOptions): Promise<Audit> {
  const hash = hasherOf(options.key)
  const world: WriterWorld = { ...limits, ...options, disk: options.disk ?? realDisk, path: options.file }
  const letGo = await hold(world.path).catch(refused)
  const { segment, head } = await ready(world, options.broken ?? 'refuse').catch((error: Error) => {
    letGo()
    return refused(error)
  })
  const writer = new Writer(world, segment, head)
  return {
    append: async record => writer.push(membersOf(record, options.now(), hash)),
    appendLazy: record => writer.pushLazy(membersOf(record, options.now(), hash)),
    hash,
    reopen: async () => writer.reopen(),
    close: () => writer.close().finally(letGo),
    head: () => writer.head,
    healthy: () => writer.healthy,
  }
}

type Ready = { readonly segment: Segment; readonly head: Head }

async function ready(world: WriterWorld, broken: 'refuse' | 'begin'): Promise<Ready> {
  const standing = await standingOf(world.path)
  if (!standing.ok) return leaveBehind(world, standing.verdict, broken)
  if (standing.torn > 0) world.onBad?.({ kind: 'torn', detail: `${world.path}: cut off ${standing.torn} bytes of a torn record` })
  return inTime(standing.length === 0 ? begun(world, standing) : continued(world, standing), world.deadlineMs)
}

async function begun({ disk, path, now }: WriterWorld, { head, torn }: Whole): Promise<Ready> {
  // a file that holds nothing but a torn record holds nothing
  if (torn > 0) await disk.remove(path)
  return begin(disk, path, head, 'start', now())
}

async function continued({ disk, path, now }: WriterWorld, { head, length, torn }: Whole): Promise<Ready> {
  const segment: Segment = { file: await disk.open(path), length }
  if (torn > 0) await segment.file.truncate(length)
  const next = link(head, systemMembers('started', now(), { torn_bytes: torn }))
  await extend(segment, Buffer.from(next.line))
  return { segment, head: next.head }
}
type Whole = Extract<Standing, { ok: true }>

async function leaveBehind(
  { disk, path, now, onBad, deadlineMs }: WriterWorld,
  verdict: Broken,
  broken: 'refuse' | 'begin',
): Promise<Ready> {
  const { reason, at } = verdict
  const detail = `${path} is broken at line ${at.line}, where record ${at.index} was expected: ${faults[reason]}`
  onBad?.({ kind: 'broken', detail })
  if (broken === 'refuse') throw new BrokerError('unavailable', `the audit log ${detail}`)
  // what begins moves aside what is there
  return inTime(begin(disk, path, genesis, 'start', now()), deadlineMs)
}

/** A disk that does not answer at start is no place for a log. */
async function inTime(work: Promise<Ready>, deadlineMs: number): Promise<Ready> {
  const late = Promise.withResolvers<never>()
  const giveUp = () => {
    late.reject(new Error(`no answer within ${deadlineMs} ms`))
    work.then(({ segment }) => segment.file.close()).catch(() => undefined)
  }
  const deadline = setTimeout(giveUp, deadlineMs)
  return Promise.race([work, late.promise]).finally(() => clearTimeout(deadline))
}

function refused(cause: Error): never {
  if (cause instanceof BrokerError) throw cause
  throw new BrokerError('unavailable', `the audit log cannot be opened: ${cause.message}`, { cause })
}
