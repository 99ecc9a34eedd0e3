import { pause } from '../back_off.ts'

/** A provider that fails is left alone for a while; then one call sees whether it is back, and when it is, all go on. */
export type Gates = {
  /** whether a call may be made now; who is told yes says how it ended */
  readonly enter: (provider: string) => boolean
  readonly ended: (provider: string, ok: boolean) => void
  /** there was no call after all */
  readonly left: (provider: string) => void
}

const FIRST_MS = 500
/** Twice this and a call: so long after a provider is back is the last of what waits for it done. */
const LONGEST_MS = 15_000

/** @param random from 0 to 1 */
export function openGates(monotonic: () => number, random: () => number): Gates {
  const closed = new Map<string, { failures: number; until: number; asking: boolean }>()
  return {
    enter: provider => {
      const gate = closed.get(provider)
      if (!gate) return true
      if (gate.asking || monotonic() < gate.until) return false
      gate.asking = true
      return true
    },
    ended: (provider, ok) => {
      if (ok) {
        closed.delete(provider)
        return
      }
      const failures = (closed.get(provider)?.failures ?? 0) + 1
      closed.set(provider, { failures, until: monotonic() + pause(failures, FIRST_MS, LONGEST_MS, random()), asking: false })
    },
    left: provider => {
      const gate = closed.get(provider)
      if (gate) gate.asking = false
    },
  }
}
