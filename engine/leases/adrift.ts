import { inParallel } from '../parallel.ts'
import type { World } from '../world.ts'

/** What is to be written of leases and could not be, as the store was away: nobody else knows of it. It is in memory until the store has it; a process
 *  that is killed before leaves credentials to end by themselves. */
export type Adrift = {
  /** `record` makes durable what is to be done */
  readonly keep: (leaseId: string, record: () => Promise<void>) => void
  /** One try for each. Never throws. */
  readonly round: () => Promise<void>
}

const AT_ONCE = 16

export function openAdrift(world: Pick<World, 'log'>): Adrift {
  const kept = new Set<{ readonly leaseId: string; readonly record: () => Promise<void> }>()
  return {
    keep: (leaseId, record) => void kept.add({ leaseId, record }),
    round: async () => {
      await inParallel([...kept], AT_ONCE, async one => {
        try {
          await one.record()
          kept.delete(one)
        } catch (error) {
          world.log.warn({ error, lease: one.leaseId }, 'what became of a lease could not be recorded yet: it is tried again')
        }
      })
    },
  }
}
