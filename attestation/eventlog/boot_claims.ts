import type { Bank } from '../pcrs.ts'
import { accept, type Verdict } from '../verdict.ts'
import { commandLinesOf } from './command_lines.ts'
import type { PcrEvent } from './event_log.ts'
import { eventType } from './event_types.ts'
import { hexIn, isMeasured } from './replay.ts'
import { type SecureBootClaims, secureBootClaims } from './secure_boot.ts'

/**
 * What is known of a boot: from digests that the quoted PCRs are made of, and from data that hashes to them. Digests are
 * hexadecimal, of the bank, in the order in which they were measured. Of a PCR that was not replayed nothing is known.
 */
export type BootClaims = Partial<SecureBootClaims> & {
  readonly bank: Bank
  /** PCRs that the log explains */
  readonly replayed: readonly number[]
  /** PCR 2: Authenticode digests of drivers, and of whatever else came from a card */
  readonly drivers?: readonly string[]
  /** PCR 4: Authenticode digests of boot loaders, and of a kernel that the firmware or shim loaded */
  readonly images?: readonly string[]
  /** PCR 9: what the boot loader read: its modules and configuration, a kernel, an initial file system */
  readonly files?: readonly string[]
  /** PCR 8 and 12: command lines of kernels; left out when something was measured there that is not known in words */
  readonly commandLines?: readonly string[]
}

/**
 * Draws the claims from events of replayed PCRs, after `faultOfEvents`.
 * @returns BAD_ENCODING when refused, for a variable that cannot be read
 */
export function claimsOf(events: readonly PcrEvent[], replayed: readonly number[], bank: Bank): Verdict<BootClaims> {
  const measured = events.filter(isMeasured)
  const of = (pcr: number) => (replayed.includes(pcr) ? measured.filter(event => event.pcr === pcr) : undefined)
  const [drivers, images, policy, bootLoader, files, stub] = [of(2), of(4), of(7), of(8), of(9), of(12)]
  const secureBoot = policy === undefined ? accept({}) : secureBootClaims(policy, bank)
  if (!secureBoot.ok) return secureBoot
  const commandLines = bootLoader || stub ? commandLinesOf(bootLoader ?? [], stub ?? [], bank) : undefined
  return accept({
    bank,
    replayed,
    ...secureBoot.value,
    ...(drivers && { drivers: imagesOf(drivers, bank) }),
    ...(images && { images: imagesOf(images, bank) }),
    ...(files && { files: files.map(event => hexIn(event, bank)) }),
    ...(commandLines && { commandLines }),
  })
}

/** All but what is known to be none: a type alone makes no image of an event, and no other thing of an image. */
function imagesOf(events: readonly PcrEvent[], bank: Bank): string[] {
  return events.filter(({ type }) => !others.includes(type)).map(event => hexIn(event, bank))
}

/** Types whose data was found to be what was measured, and of a form that no image has. */
const others: readonly number[] = [eventType.SEPARATOR, eventType.EFI_ACTION, eventType.EFI_GPT_EVENT]
