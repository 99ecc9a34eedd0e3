import type { Log } from './log.ts'

/** What the engine may know of the world outside; entry points make it, tests make their own. */
export type World = {
  /** wall clock, milliseconds since the epoch: for what others will read (`iat`, `exp`, records) */
  readonly now: () => number
  /** monotonic clock, milliseconds since an arbitrary start: for every deadline and life */
  readonly monotonic: () => number
  /** this many unpredictable bytes */
  readonly random: (size: number) => Buffer
  readonly log: Log
}
