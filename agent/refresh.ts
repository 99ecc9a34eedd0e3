import { setTimeout as sleep } from 'node:timers/promises'

/** A credential and how long it lives from when it was asked for. */
export type Lived = { readonly content: string; readonly lifeMs: number }

export type Refresh = {
  /** Asks for the next one. */
  readonly issue: () => Promise<Lived>
  /** Puts it in the place of the last one; undefined: the last one has expired and there is no next one yet. */
  readonly replace: (content: string | undefined) => Promise<void>
  /** Hears of each failure, and of the end of a credential that was not replaced in time. */
  readonly failed: (error: unknown, expired: boolean) => void
  readonly signal: AbortSignal
  readonly clock?: { now: () => number; sleep: (ms: number, signal: AbortSignal) => Promise<unknown> }
}

/** Of its life, a credential may use this much before the next one is asked for. */
const USED = 2 / 3
const SHORTEST_PAUSE_MS = 1000
const LONGEST_PAUSE_MS = 30_000
/** A timer that is set for longer than it can count ends at once: a credential that lives for months is replaced each 24 days. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1

const real = { now: () => performance.now(), sleep: (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }) }

/** Replaces a credential at two thirds of its life, again and again, until the signal. After a failure it tries again; what has expired is taken away. */
export async function keepFresh(first: Lived, issuedAt: number, refresh: Refresh): Promise<void> {
  const { now, sleep: pause } = refresh.clock ?? real
  let expires = issuedAt + first.lifeMs
  let wait = issuedAt + first.lifeMs * USED - now()
  while (await paused(pause, wait, refresh.signal)) {
    const asked = now()
    try {
      const next = await refresh.issue()
      await refresh.replace(next.content)
      expires = asked + next.lifeMs
      wait = Math.max(asked + next.lifeMs * USED - now(), SHORTEST_PAUSE_MS)
    } catch (error) {
      if (refresh.signal.aborted) return
      wait = await afterFailure(error, expires - now(), refresh)
    }
  }
}

/** False when the signal came. */
async function paused(
  pause: (ms: number, signal: AbortSignal) => Promise<unknown>,
  ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await pause(Math.min(Math.max(ms, 0), LONGEST_TIMER_MS), signal)
    return !signal.aborted
  } catch (error) {
    if (signal.aborted) return false
    throw error
  }
}

/** @returns the pause before the next try: a third of what is left of the old one, within bounds, and never past its end */
async function afterFailure(error: unknown, leftMs: number, refresh: Refresh): Promise<number> {
  const expired = leftMs <= 0
  if (expired) await refresh.replace(undefined)
  refresh.failed(error, expired)
  const pause = Math.min(Math.max(leftMs / 3, SHORTEST_PAUSE_MS), LONGEST_PAUSE_MS)
  return expired ? LONGEST_PAUSE_MS : Math.min(pause, leftMs)
}
