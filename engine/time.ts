import { BrokerError } from './errors.ts'
import type { World } from './world.ts'

/** The hour by two clocks: that of this machine, and Vault's, as its replies tell it. Either may be wrong, and nobody here knows which. */
export type Time = {
  /** @param date of a reply of Vault (RFC 9110, Date): whole seconds */
  readonly told: (date: string | undefined) => void
  /** Milliseconds since the epoch that both clocks have reached: what belongs to others is ended, or forgotten, by this one. Putting the clock
   *  of this machine back does not put it back. */
  readonly earlier: () => number
  /** ... that one of them has reached: by this one it is known how long something has to be remembered */
  readonly later: () => number
  /** whether the two are close enough to each other */
  readonly agreed: () => boolean
  /** @throws BrokerError unavailable when they are not: what is issued says when it begins and ends */
  readonly assertAgreed: () => void
}

/** Beyond what receivers of tokens bear (RFC 7519: "no more than a few minutes"), and far below what a lease lives. */
const APART_MS = 30_000
/** `Date` tells whole seconds, and takes its time to come. */
const SLACK_MS = 5_000

export function openTime({ now, monotonic, log }: Pick<World, 'now' | 'monotonic' | 'log'>): Time {
  const start = now() - monotonic()
  let vault: { readonly at: number; readonly date: number } | undefined
  let apart = false
  const vaultSays = () => (vault ? vault.date + monotonic() - vault.at : undefined)
  const aheadMs = () => now() - (vaultSays() ?? now())
  const agreed = () => Math.abs(aheadMs()) <= APART_MS
  const assertAgreed = () => {
    if (!agreed())
      throw new BrokerError('unavailable', 'the clock of this front door and the clock of vault tell different times')
  }
  return {
    told: date => {
      const read = Date.parse(date ?? '')
      if (Number.isNaN(read)) return
      vault = { at: monotonic(), date: read }
      if (apart === agreed()) {
        apart = !apart
        const seconds = Math.round(aheadMs() / 1000)
        if (apart)
          log.error({ ahead_seconds: seconds }, 'the clock here and that of vault are apart: nothing is issued until they agree')
        else log.info({ ahead_seconds: seconds }, 'the clock here and that of vault agree again')
      }
    },
    earlier: () => {
      const own = Math.max(now(), start + monotonic())
      return Math.min(own, (vaultSays() ?? own) + SLACK_MS)
    },
    later: () => Math.max(now(), vaultSays() ?? 0),
    agreed,
    assertAgreed,
  }
}
