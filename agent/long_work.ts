import { setTimeout as sleep } from 'node:timers/promises'
import { LONGEST_TIMER_MS } from './refresh.ts'

/** What the broker told beside a credential, in sentences; each is said once. */
export function sayOnce(say: (message: string) => void): (warnings: readonly string[]) => void {
  const said = new Set<string>()
  return warnings => {
    for (const warning of warnings) {
      if (said.has(warning)) continue
      said.add(warning)
      say(warning)
    }
  }
}

export type Beating = {
  /** a sign of life; rejects when the broker does not take it */
  readonly beat: () => Promise<void>
  /** how soon the next one is wanted, milliseconds: asked anew each time; undefined while none is */
  readonly withinMs: () => number | undefined
  readonly failed: (error: unknown) => void
  readonly signal: AbortSignal
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<unknown>
}

/** Three signs of life go into the time that one is wanted in, so that one may be lost. */
const SHARE = 3
const SHORTEST_MS = 1_000
const LOOK_MS = 60_000

/** Shows that the work goes on, until the signal. */
export async function keepAlive({ beat, withinMs, failed, signal, pause = real }: Beating): Promise<void> {
  while (!signal.aborted) {
    const within = withinMs()
    const wait = within === undefined ? LOOK_MS : Math.min(Math.max(within / SHARE, SHORTEST_MS), LONGEST_TIMER_MS)
    await pause(wait, signal).catch(() => undefined)
    if (signal.aborted || within === undefined) continue
    await beat().catch(error => {
      if (!signal.aborted) failed(error)
    })
  }
}

const real = (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal })
