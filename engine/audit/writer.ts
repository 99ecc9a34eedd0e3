import { setTimeout as delay } from 'node:timers/promises'
import { BrokerError } from '../errors.ts'
import { type Head, link } from './chain.ts'
import type { Disk } from './disk.ts'
import { type Entry, Queue } from './queue.ts'
import { begin, extend, Lost, type Segment, seal } from './segment.ts'

export type Limits = {
  /** how long the disk may take for one group before the log is held to be bad */
  readonly deadlineMs: number
  /** how many records may wait; with lazy ones twice as many, because their intents were let in */
  readonly queueLimit: number
  /** how long lazy records may wait for a group to go with */
  readonly lazyMs: number
  /** how long after a failed attempt to begin a new file the next one is made */
  readonly retryMs: number
}

export type Problem = { readonly kind: 'torn' | 'broken' | 'sealed' | 'stalled' | 'unwritable' | 'lost'; readonly detail: string }
/** One group that became durable. `waitedMs`: from append to durable, of each record in it that somebody waited for. */
export type Sync = {
  readonly records: number
  readonly tookMs: number
  readonly waitedMs: readonly number[]
}

export type Events = {
  readonly onBad?: ((problem: Problem) => void) | undefined
  /** the log takes records again */
  readonly onGood?: (() => void) | undefined
  readonly onSync?: ((sync: Sync) => void) | undefined
}

export type WriterWorld = Limits & Events & { readonly disk: Disk; readonly path: string; readonly now: () => number }

/** Records of one group, so that the event loop is not held by making a very long one. */
const GROUP = 1024
const UNWRITABLE = 'the audit log cannot be written, so nothing is issued; try again later'

/**
 * The one writer of a log. Records that arrive while a sync runs go together into the next write and fdatasync. After an error
 * the file is sealed and the chain goes on in a new one; until that is durable, and while the disk does not answer, records
 * are refused at once. Lazy records are kept through all of this.
 */
export class Writer {
  readonly #world: WriterWorld
  readonly #queue: Queue
  #segment: Segment
  #head: Head
  #running: Promise<void> | undefined
  #rotations: PromiseWithResolvers<void>[] = []
  /** why records are refused now */
  #trouble: Error | undefined
  /** the segment must not be used again */
  #failed = false
  readonly #closing = new AbortController()
  /** told when the disk does not answer, until it does again */
  #stuck = Promise.withResolvers<void>()

  constructor(world: WriterWorld, segment: Segment, head: Head) {
    this.#world = world
    this.#queue = new Queue(world.lazyMs, () => this.#wake())
    this.#segment = segment
    this.#head = head
  }

  /** The last durable record. */
  get head(): Head {
    return this.#head
  }

  get healthy(): boolean {
    return this.#trouble === undefined && !this.#closing.signal.aborted
  }

  /** Throws `BrokerError` unavailable: closed, bad, or too many wait. */
  push(members: string): Promise<Head> {
    this.#open(1)
    if (this.#trouble) throw unavailable(UNWRITABLE, this.#trouble)
    const { promise, resolve, reject } = Promise.withResolvers<Head>()
    this.#queue.add({ members, waiter: { since: performance.now(), resolve, reject } })
    return promise
  }

  /** The same for a record that nobody waits for: it is taken while the log is bad, too. */
  pushLazy(members: string): void {
    this.#open(2)
    this.#queue.add({ members, waiter: undefined })
  }

  /** Goes on in a new file when the path no longer names this one. */
  reopen(): Promise<void> {
    this.#open(Number.POSITIVE_INFINITY)
    const rotation = Promise.withResolvers<void>()
    this.#rotations.push(rotation)
    this.#wake()
    return rotation.promise
  }

  /** Writes what waits. Throws `BrokerError` unavailable when the disk did not take all of it. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#queue.hurry()
    const patience = new AbortController()
    const late = this.#trouble ? pause(this.#world.deadlineMs, patience.signal) : this.#stuck.promise
    await Promise.race([this.#running, late]).finally(() => patience.abort())
    const lost = this.#running !== undefined || this.#queue.size > 0
    // a disk that does not answer: the file is closed when it does
    const closed = Promise.resolve(this.#running).then(() => this.#segment.file.close())
    if (!lost) return closed
    closed.catch(() => undefined)
    throw unavailable('the audit log was closed without its last records', this.#trouble)
  }

  #open(limits: number): void {
    if (this.#closing.signal.aborted) throw unavailable('the audit log is closed')
    if (this.#queue.size >= this.#world.queueLimit * limits) throw unavailable('too many records wait for the audit log')
  }

  #wake(): void {
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    // what arrives in one turn of the event loop goes together from the start
    await Promise.resolve()
    while (this.#failed || this.#rotations.length > 0 || this.#queue.due) {
      if (this.#failed && !(await this.#recovered())) break
      if (this.#rotations.length > 0) await this.#rotate()
      if (this.#queue.due) await this.#commit(this.#queue.take(GROUP))
    }
    // in the same turn as the last look at the queue: who comes later starts anew
    this.#running = undefined
  }

  async #commit(group: readonly Entry[]): Promise<void> {
    const { bytes, heads } = chained(this.#head, group)
    const started = performance.now()
    try {
      await this.#watched(extend(this.#segment, bytes), group)
    } catch (error) {
      return this.#fail(group, error as Error)
    }
    this.#head = heads.at(-1) ?? this.#head
    this.#answered()
    // those of a group that took too long were refused before; that the log has them all the same does no harm
    for (const [at, { waiter }] of group.entries()) waiter?.resolve(heads[at] as Head)
    this.#tell(group, started)
  }

  /** Past the deadline everything that waits is refused, until the disk answers after all. */
  async #watched(work: Promise<void>, group: readonly Entry[]): Promise<void> {
    const stall = () => {
      this.#trouble = new Error(`${this.#world.path}: no answer within ${this.#world.deadlineMs} ms`)
      const refused = unavailable(UNWRITABLE, this.#trouble)
      for (const { waiter } of group) waiter?.reject(refused)
      this.#queue.refuse(refused, [])
      this.#bad('stalled', this.#trouble.message)
      this.#stuck.resolve()
    }
    const deadline = setTimeout(stall, this.#world.deadlineMs)
    await work.finally(() => clearTimeout(deadline))
  }

  #fail(group: readonly Entry[], error: Error): void {
    this.#failed = true
    this.#trouble = error
    this.#queue.refuse(unavailable(UNWRITABLE, error), group)
    this.#bad(error instanceof Lost ? 'lost' : 'unwritable', `${this.#world.path}: ${error.message}`)
  }

  /** False when the log is closed before the disk is back. */
  async #recovered(): Promise<boolean> {
    for (;;) {
      const trouble = await this.#replace().catch((error: Error) => error)
      if (!trouble) return true
      if (trouble.message !== this.#trouble?.message) this.#bad('unwritable', trouble.message)
      this.#trouble = trouble
      if (this.#closing.signal.aborted) return false
      await pause(this.#world.retryMs, this.#closing.signal)
    }
  }

  async #replace(): Promise<void> {
    const { disk, path, now } = this.#world
    const name = await seal(disk, path, this.#segment, this.#head)
    if (name) this.#bad('sealed', `${name} ends with record ${this.#head.index}`)
    await this.#goOn(await begin(disk, path, this.#head, 'failed', now()))
    this.#failed = false
    this.#answered()
  }

  async #rotate(): Promise<void> {
    const rotations = this.#rotations.splice(0)
    try {
      await this.#watched(this.#renewed(), [])
      for (const { resolve } of rotations) resolve()
    } catch (error) {
      // the old file is as good as before: records go on there
      for (const { reject } of rotations) reject(unavailable('the audit log could not be reopened', error as Error))
    }
    this.#answered()
  }

  async #renewed(): Promise<void> {
    const { disk, path, now } = this.#world
    if (await this.#segment.file.isAt(path)) return
    await this.#goOn(await begin(disk, path, this.#head, 'rotated', now()))
  }

  async #goOn({ segment, head }: { segment: Segment; head: Head }): Promise<void> {
    const old = this.#segment
    this.#segment = segment
    this.#head = head
    await old.file.close().catch(() => undefined)
  }

  #answered(): void {
    if (!this.#trouble) return
    this.#trouble = undefined
    this.#stuck = Promise.withResolvers()
    queueMicrotask(() => this.#world.onGood?.())
  }

  // told a microtask later, so that what a listener throws is heard but does not stop the writer
  #bad(kind: Problem['kind'], detail: string): void {
    queueMicrotask(() => this.#world.onBad?.({ kind, detail }))
  }

  #tell(group: readonly Entry[], started: number): void {
    const { onSync } = this.#world
    if (!onSync) return
    const ended = performance.now()
    const waitedMs = group.flatMap(({ waiter }) => (waiter ? [ended - waiter.since] : []))
    queueMicrotask(() => onSync({ records: group.length, tookMs: ended - started, waitedMs }))
  }
}

function chained(after: Head, group: readonly Entry[]): { readonly bytes: Buffer; readonly heads: readonly Head[] } {
  const heads: Head[] = []
  let text = ''
  let head = after
  for (const { members } of group) {
    const next = link(head, members)
    text += next.line
    head = next.head
    heads.push(head)
  }
  return { bytes: Buffer.from(text), heads }
}

function unavailable(message: string, cause?: Error): BrokerError {
  return new BrokerError('unavailable', message, { cause })
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await delay(milliseconds, undefined, { signal }).catch(() => undefined)
}
