import type { World } from '../world.ts'

/** Credentials that could neither be recorded nor revoked, as store and provider were both away: nobody else knows how to end them. They are in memory
 *  until the store has them, or until they have ended by themselves. */
export type Adrift = {
  /** `record` makes it durable what has to be done; `until`: seconds since the epoch */
  readonly keep: (leaseId: string, until: number, record: () => Promise<void>) => void
  /** One try for each. */
  readonly round: () => Promise<void>
}

export function openAdrift(world: Pick<World, 'log'>, clock: () => number): Adrift {
  const kept = new Set<{ readonly leaseId: string; readonly until: number; readonly record: () => Promise<void> }>()
  return {
    keep: (leaseId, until, record) => void kept.add({ leaseId, until, record }),
    round: async () => {
      for (const one of kept) {
        if (one.until <= clock()) kept.delete(one)
        else
          await one.record().then(
            () => kept.delete(one),
            (error: unknown) =>
              world.log.warn({ error, lease: one.leaseId }, 'a credential that is to be revoked could not be recorded yet'),
          )
      }
    },
  }
}
