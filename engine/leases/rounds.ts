import type { Parts } from './parts.ts'

const SWEEP_MS = 1_000
const LOOK_MS = 3_000
const REFRESH_MS = 5_000
/** A list of everything takes at most this share of the time. */
const REFRESH_SHARE = 20
/** However long one took: the process may have been held up in it. */
const REFRESH_MAX_MS = 600_000

/** Begins with what is due now. */
export function sweepDue({ ledger, revoker, clock }: Parts): void {
  for (const name of ledger.calendar.due(clock())) revoker.take(name)
  revoker.wake()
}

/** What is due, each second; which tokens are gone, and what is on no record, each three; what others made, each five or less often when there is much. */
export function everySoOften(parts: Parts, watch: () => Promise<void>): () => Promise<void> {
  const { world, ledger, revoker, adrift } = parts
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
  const refresh = async () => {
    const at = world.monotonic()
    await ledger.refresh()
    tookMs = world.monotonic() - at
    await ledger.pack(parts.clock())
  }
  const stops = [
    round(
      () => sweepDue(parts),
      () => SWEEP_MS,
    ),
    round(watch, () => LOOK_MS),
    round(adrift.round, () => LOOK_MS),
    round(refresh, () => Math.min(Math.max(REFRESH_MS, tookMs * REFRESH_SHARE), REFRESH_MAX_MS)),
  ]
  return async () => {
    stopped = true
    for (const stop of stops) stop()
    await Promise.all([...flights, revoker.stop()])
    await adrift.round()
  }
}
