import { LRUCache } from 'lru-cache'
import type { Clock, QuoteClaims } from '#attestation'
import { isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type BootRecord, bootPath } from './records.ts'

/** What the verifier compares the next quote with: state per key, moved by accepted quotes only. */
export type Clocks = {
  /** @param drawnAt when the challenge was drawn that the quote answers, monotonic ms */
  readonly last: (mount: Mount, akName: Uint8Array, drawnAt: number) => Promise<Clock | undefined>
  readonly advance: (mount: Mount, akName: Uint8Array, claims: QuoteClaims) => Promise<void>
}

/** Keys whose clock is held; the one used longest ago is forgotten. */
const KEYS = 10_000
/** No challenge is answered later than this after it was drawn, so what was accepted before that is before every challenge. */
const WINDOW_MS = 60_000
const STEP_MS = 1_000

/** Of one boot: the highest clock that was accepted before the window, and within it each that was higher than those before. */
type Accepted = { readonly boot: BootRecord; readonly steps: readonly { readonly at: number; readonly clock: bigint }[] }

/**
 * Boots are kept durably, before anything is issued to them. The clock within a boot is held in memory, as freshness comes from the
 * challenge: what it shows is a TPM whose state was put back. A quote has to be later than every quote that was accepted before its
 * challenge was drawn; quotes that were on their way at the same time may arrive in any order.
 */
export function openClocks(store: Store, { monotonic }: Pick<World, 'monotonic'>): Clocks {
  const clocks = new LRUCache<string, Accepted>({ max: KEYS })
  return {
    last: async (mount, akName, drawnAt) => {
      const path = bootPath(mount.id, akName)
      const kept = (await store.get<BootRecord>(path))?.value
      if (!kept || kept.anew) return undefined
      const accepted = clocks.get(path)
      const before = accepted && sameBoot(accepted.boot, kept) ? accepted.steps.findLast(({ at }) => at <= drawnAt) : undefined
      return { ...kept, clock: before?.clock ?? -1n }
    },
    advance: async (mount, akName, { clock, resetCount, restartCount, firmwareVersion }) => {
      const path = bootPath(mount.id, akName)
      const boot: BootRecord = { resetCount, restartCount, firmwareVersion }
      const kept = await store.get<BootRecord>(path)
      if (!kept || !sameBoot(kept.value, boot)) await moveOn(store, path, boot, kept?.version ?? 0)
      const accepted = clocks.get(path)
      const steps = accepted && sameBoot(accepted.boot, boot) ? accepted.steps : []
      clocks.set(path, { boot, steps: stepped(steps, clock, monotonic()) })
    },
  }
}

/** About a step a second, so that what is held stays small however many quotes arrive: within that second the last step moves on. */
function stepped(steps: Accepted['steps'], clock: bigint, now: number): Accepted['steps'] {
  if ((steps.at(-1)?.clock ?? -1n) >= clock) return steps
  const kept = steps.slice(
    Math.max(
      steps.findLastIndex(({ at }) => at < now - WINDOW_MS),
      0,
    ),
  )
  const moves = now - (kept.at(-2)?.at ?? Number.NEGATIVE_INFINITY) < STEP_MS
  return [...(moves ? kept.slice(0, -1) : kept), { at: now, clock }]
}

/** First quotes after a boot may arrive together: whoever comes second finds the same boot, or has lost against another one. */
async function moveOn(store: Store, path: string, boot: BootRecord, version: number): Promise<void> {
  try {
    await store.put(path, boot, version)
  } catch (error) {
    const kept = isConflict(error) ? await store.fresh<BootRecord>(path) : undefined
    if (!kept || !sameBoot(kept.value, boot)) throw error
  }
}

function sameBoot(one: BootRecord, other: BootRecord): boolean {
  return (
    !one.anew &&
    !other.anew &&
    one.resetCount === other.resetCount &&
    one.restartCount === other.restartCount &&
    one.firmwareVersion === other.firmwareVersion
  )
}
