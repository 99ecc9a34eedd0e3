import type { Parts } from './parts.ts'

const SWEEP_MS = 1_000
const LOOK_MS = 3_000
const REFRESH_MS = 5_000
/** A list of everything takes at most this share of the time. */
const REFRESH_SHARE = 20

/** What a kill left is in order two minutes after the next start: a record that has no name, since nothing was made yet. */
const FIRST_TIDY_SECONDS = 120
const TIDY_SECONDS = 3_600

/** Looks at what others made, puts it together, and every hour in order. */
export function openUpkeep({ ledger, clock }: Pick<Parts, 'ledger' | 'clock'>): () => Promise<void> {
  let tidyAt = clock() + FIRST_TIDY_SECONDS
  return async () => {
    await ledger.refresh()
    const now = clock()
    await ledger.pack(now)
    if (now < tidyAt) return
    tidyAt = now + TIDY_SECONDS
    await ledger.tidy(now)
  }
}

/** Begins with what is due now. */
export function sweepDue({ ledger, revoker, clock }: Parts): void {
  for (const name of ledger.calendar.due(clock())) revoker.take(name)
  revoker.pump()
}

/** What is due, each second; which tokens are gone, each three; what others made, each five or less often when there is much. */
export function everySoOften(parts: Parts, watch: () => Promise<void>, upkeep: () => Promise<void>): () => Promise<void> {
  const { world, revoker } = parts
  const flights = new Set<Promise<unknown>>()
  let stopped = false
  const round = (make: () => unknown, pauseMs: () => number) => {
    const turn = async () => {
      const flight = (async () => make())().catch((error: unknown) => {
        world.log.warn({ error }, 'the leases could not be looked at: they are looked at again')
      })
      flights.add(flight)
      await flight
      flights.delete(flight)
      if (!stopped) timer = setTimeout(() => void turn(), pauseMs()).unref()
    }
    let timer = setTimeout(() => void turn(), pauseMs()).unref()
    return () => clearTimeout(timer)
  }
  let tookMs = 0
  const look = async () => {
    const at = world.monotonic()
    await upkeep()
    tookMs = world.monotonic() - at
  }
  const stops = [
    round(
      () => sweepDue(parts),
      () => SWEEP_MS,
    ),
    round(watch, () => LOOK_MS),
    round(look, () => Math.max(REFRESH_MS, tookMs * REFRESH_SHARE)),
  ]
  return async () => {
    stopped = true
    for (const stop of stops) stop()
    await Promise.all(flights)
    await revoker.idle()
  }
}
