import type { BrokerError } from '../errors.ts'
import type { Head } from './chain.ts'

export type Entry = {
  readonly members: string
  /** who waits for it; without one it is lazy: it may wait for others to go with, and stays when the disk fails */
  readonly waiter: Waiter | undefined
}

export type Waiter = {
  /** ms, monotonic */
  readonly since: number
  readonly resolve: (head: Head) => void
  readonly reject: (error: BrokerError) => void
}

/** What waits to be written, in order. Strict records are due at once; lazy ones with the next strict one, or when the oldest waited long enough. */
export class Queue {
  readonly #lazyMs: number
  readonly #onDue: () => void
  #entries: Entry[] = []
  #strict = 0
  #timer: NodeJS.Timeout | undefined
  #lazyDue = false

  constructor(lazyMs: number, onDue: () => void) {
    this.#lazyMs = lazyMs
    this.#onDue = onDue
  }

  get size(): number {
    return this.#entries.length
  }

  get due(): boolean {
    return this.#strict > 0 || (this.#lazyDue && this.#entries.length > 0)
  }

  add(entry: Entry): void {
    this.#entries.push(entry)
    if (entry.waiter) {
      this.#strict += 1
      this.#onDue()
    } else this.#timer ??= setTimeout(() => this.hurry(), this.#lazyMs)
  }

  /** Makes the lazy ones due now. */
  hurry(): void {
    this.#lazyDue = true
    this.#onDue()
  }

  /** The oldest, up to this many. */
  take(limit: number): Entry[] {
    const taken = this.#entries.splice(0, limit)
    for (const entry of taken) if (entry.waiter) this.#strict -= 1
    if (this.#entries.length === 0) this.#rest()
    return taken
  }

  /** Takes out the strict ones and refuses them; `failed`, a group taken before, comes back first, its lazy ones only. */
  refuse(error: BrokerError, failed: readonly Entry[]): void {
    for (const { waiter } of [...failed, ...this.#entries]) waiter?.reject(error)
    this.#entries = [...failed, ...this.#entries].filter(({ waiter }) => !waiter)
    this.#strict = 0
    if (this.#entries.length > 0) this.#lazyDue = true
    else this.#rest()
  }

  #rest(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#lazyDue = false
  }
}
