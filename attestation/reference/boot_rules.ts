import type { LogRules } from '../eventlog/appraisal.ts'
import type { BootClaims } from '../eventlog/boot_claims.ts'
import type { Database } from '../eventlog/secure_boot.ts'
import { type Rejection, reject } from '../verdict.ts'
import { type CommandLineRules, faultOfCommandLines } from './command_line.ts'

/** What the events of a boot have to be. Digests are lower-case hexadecimal, of the bank; a list that is left out allows everything. */
export type BootRules = LogRules & {
  readonly secureBoot?: 'required'
  /** measured digests of variables: of each that is named, any of its list; one that was not measured fits none */
  readonly databases?: Partial<Record<Database, readonly string[]>>
  /** PCR 4: boot loaders, and kernels that the firmware or shim loaded; at least one has to be there */
  readonly images?: readonly string[]
  /** PCR 2; may be none */
  readonly drivers?: readonly string[]
  /** PCR 9: what the boot loader read; may be none */
  readonly files?: readonly string[]
  readonly commandLine?: CommandLineRules
}

/**
 * Judges what an event log was found to say. The rules, in order: secure boot and its databases; images, drivers and files; command
 * lines. What is not known is refused.
 * @returns the fault, SECURE_BOOT, BOOT_IMAGE or COMMAND_LINE
 */
export function faultOfBoot(claims: BootClaims, rules: BootRules): Rejection | undefined {
  return (
    wrongSecureBoot(claims, rules) ??
    wrongImages('boot loader or kernel', claims.images, rules.images, 1) ??
    wrongImages('driver', claims.drivers, rules.drivers, 0) ??
    wrongImages('file of the boot loader', claims.files, rules.files, 0) ??
    (rules.commandLine && faultOfCommandLines(claims.commandLines, rules.commandLine))
  )
}

function wrongSecureBoot(claims: BootClaims, { secureBoot, databases = {} }: BootRules): Rejection | undefined {
  if (secureBoot === 'required') {
    if (claims.secureBoot === undefined) return reject('SECURE_BOOT', 'nothing says whether secure boot is on')
    if (!claims.secureBoot) return reject('SECURE_BOOT', 'secure boot is off, or shim validates nothing')
    // whoever debugs the firmware runs what they like (Platform Firmware Profile, PCR 7)
    if (claims.actions?.includes('UEFI Debug Mode')) return reject('SECURE_BOOT', 'the firmware is being debugged')
  }
  for (const [name, allowed] of Object.entries(databases)) {
    const measured = claims.databases?.[name as Database]?.digest
    if (measured === undefined) return reject('SECURE_BOOT', `${name} was not measured`)
    if (!allowed.includes(measured)) return reject('SECURE_BOOT', `${name} is ${measured}`)
  }
  return undefined
}

function wrongImages(
  what: string,
  measured: readonly string[] | undefined,
  allowed: readonly string[] | undefined,
  atLeast: number,
): Rejection | undefined {
  if (allowed === undefined) return undefined
  if (measured === undefined || measured.length < atLeast) return reject('BOOT_IMAGE', `no ${what} was measured`)
  const stranger = measured.find(digest => !allowed.includes(digest))
  return stranger === undefined ? undefined : reject('BOOT_IMAGE', `a ${what} is ${stranger}`)
}
