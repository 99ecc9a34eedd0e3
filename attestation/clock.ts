import type { Clock, Quote } from './tpm2/attest.ts'
import { accept, reject, type Verdict } from './verdict.ts'

export type ClockRules = {
  /** what the last accepted quote of the same key said; left out for the first one */
  readonly previous?: Clock
  /** outside of the endorsement and platform hierarchies a TPM adds a secret constant to firmwareVersion, resetCount and restartCount */
  readonly obfuscated: boolean
  /** accepts `safe` = 0 in the first quote after a reset: for some time after an unclean stop a TPM says nothing else */
  readonly allowUnsafeAfterReset?: boolean
}

/** How the boot that a quote comes from relates to the one before: all but SAME begin a new session. */
export type Session = 'FIRST' | 'SAME' | 'REBOOTED' | 'RESUMED'

/**
 * Compares the clock of a quote with that of the last accepted one. The checks, in order: firmware, safe, resetCount, clock,
 * restartCount (TPM 2.0 Library Part 2, TPMS_CLOCK_INFO). Order counts within one boot alone; a boot is older or newer only by
 * true counters.
 * @returns FIRMWARE_CHANGED, CLOCK_NOT_SAFE, OLD_BOOT or CLOCK_REPLAY when refused
 */
export function appraiseClock({ clock: now, safe }: Pick<Quote, 'clock' | 'safe'>, rules: ClockRules): Verdict<Session> {
  const { previous, obfuscated, allowUnsafeAfterReset = false } = rules
  if (previous && now.firmwareVersion !== previous.firmwareVersion)
    return reject('FIRMWARE_CHANGED', `firmwareVersion is ${now.firmwareVersion}, was ${previous.firmwareVersion}`)
  const newBoot = now.resetCount !== previous?.resetCount
  if (!safe && !(allowUnsafeAfterReset && newBoot)) return reject('CLOCK_NOT_SAFE', 'TPMS_CLOCK_INFO.safe is 0')
  if (!previous) return accept('FIRST')
  return newBoot ? afterReset(now, previous, obfuscated) : withinBoot(now, previous, obfuscated)
}

function afterReset(now: Clock, previous: Clock, obfuscated: boolean): Verdict<Session> {
  if (obfuscated || now.resetCount > previous.resetCount) return accept('REBOOTED')
  return reject('OLD_BOOT', `resetCount is ${now.resetCount}, was ${previous.resetCount}`)
}

function withinBoot(now: Clock, previous: Clock, obfuscated: boolean): Verdict<Session> {
  if (now.clock <= previous.clock) return reject('CLOCK_REPLAY', `clock is ${now.clock} ms, was ${previous.clock} ms`)
  if (now.restartCount === previous.restartCount) return accept('SAME')
  if (obfuscated || now.restartCount > previous.restartCount) return accept('RESUMED')
  return reject('CLOCK_REPLAY', `restartCount is ${now.restartCount}, was ${previous.restartCount}`)
}
