import type { Clock, Quote } from './tpm2/attest.ts'
import { accept, reject, type Verdict } from './verdict.ts'

export type ClockRules = {
  /** what the last accepted quote of the same key said; left out for the first one */
  readonly previous?: Clock
  /** outside of the endorsement and platform hierarchies a TPM adds a secret constant to firmwareVersion, resetCount and restartCount */
  readonly obfuscated: boolean
  /** accepts `safe` = 0: after an unclean stop a TPM says nothing else until it next writes its clock down, which may take 2^22 ms.
   *  Nothing is concluded from the clocks of two boots, and within one it runs forward all the same. */
  readonly allowUnsafe?: boolean
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
  const { previous, obfuscated, allowUnsafe = false } = rules
  if (previous && now.firmwareVersion !== previous.firmwareVersion)
    return reject('FIRMWARE_CHANGED', `firmwareVersion is ${now.firmwareVersion}, was ${previous.firmwareVersion}`)
  if (!safe && !allowUnsafe) return reject('CLOCK_NOT_SAFE', 'TPMS_CLOCK_INFO.safe is 0')
  if (!previous) return accept('FIRST')
  return now.resetCount !== previous.resetCount ? afterReset(now, previous, obfuscated) : withinBoot(now, previous, obfuscated)
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
