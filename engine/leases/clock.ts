import type { World } from '../world.ts'

/** Seconds since the epoch, as the wall clock had them at start and the monotonic clock counts on; the wall clock when it is ahead. So a clock
 *  that is put back makes no lease live longer. */
export function openClock({ now, monotonic }: Pick<World, 'now' | 'monotonic'>): () => number {
  const [wall, start] = [now(), monotonic()]
  return () => Math.floor(Math.max(now(), wall + monotonic() - start) / 1000)
}
