import { hash } from 'node:crypto'
import type { BootClaims } from './eventlog/boot_claims.ts'
import type { DocumentClaims } from './formats/format.ts'
import type { PcrTable } from './pcr_table.ts'
import type { QuoteClaims } from './quote.ts'
import type { ImaSummary } from './reference/ima_rules.ts'

/** What was established of a machine by a quote, and by the logs that it explains. */
export type Established = {
  /** `sha256-<hex>`, see `tpmIdOf` */
  readonly tpmId: string
  /** of the challenge that the quote answers */
  readonly nonce: Uint8Array
  readonly quote: Pick<QuoteClaims, 'resetCount' | 'restartCount' | 'firmwareVersion' | 'pcrs'>
  /** whether the TPM hides its counters from the key */
  readonly obfuscated: boolean
  /** the set of reference values that the machine matches */
  readonly reference: { readonly name: string; readonly version: number }
  readonly boot?: BootClaims | undefined
  readonly ima?: ImaSummary | undefined
}

const PROFILE = 'urn:x-assay:eat:tpm2-quote:1'
/** Of longer lists the first are told, and how many there are. */
const TOLD = 32

/**
 * The claims set of an Entity Attestation Token, in JSON (RFC 9711): `eat_profile`, `eat_nonce`, `ueid` and `measres`, `bootcount`
 * where the TPM tells it, and beside the registered claims `tpm2`, `boot` and `ima` of the profile. Who issues it adds the
 * claims of its own: issuer, audience, times, `cnf`.
 */
export function eatClaims(established: Established): Record<string, unknown> {
  const { tpmId, nonce, quote, obfuscated, reference, boot, ima } = established
  return {
    eat_profile: PROFILE,
    eat_nonce: Buffer.from(nonce).toString('base64url'),
    ueid: ueidOf(Buffer.from(tpmId.slice('sha256-'.length), 'hex')),
    ...(obfuscated ? {} : { bootcount: quote.resetCount }),
    measres: resultsOf(established, `${reference.name}@${reference.version}`),
    tpm2: {
      pcrs: hexOf(quote.pcrs),
      firmware_version: quote.firmwareVersion,
      reset_count: quote.resetCount,
      restart_count: quote.restartCount,
    },
    ...(boot && { boot: bootClaimsOf(boot) }),
    ...(ima && { ima: imaClaimsOf(ima) }),
  }
}

/** Of a document that was accepted: the format in which it is, and the set that the machine matches. */
export type EstablishedDocument = Pick<DocumentClaims, 'machine' | 'madeAt' | 'pcrs' | 'debug'> &
  Pick<Established, 'nonce' | 'reference'> & { readonly format: string }

/** The same of a machine that shows documents, with `dbgstat` in place of `bootcount`, and `document` of the profile. */
export function eatOfDocument({
  format,
  machine,
  madeAt,
  pcrs,
  debug,
  nonce,
  reference,
}: EstablishedDocument): Record<string, unknown> {
  return {
    eat_profile: `urn:x-assay:eat:${format}:1`,
    eat_nonce: Buffer.from(nonce).toString('base64url'),
    ueid: ueidOf(hash('sha256', `${format}-${machine}`, 'buffer')),
    dbgstat: debug ? 'enabled' : 'disabled',
    measres: [[`${format}-pcr`, [[`${reference.name}@${reference.version}`, 'success']]]],
    document: { machine, made_at: madeAt.toISOString(), pcrs: hexOf(pcrs) },
  }
}

/** Type RAND: a digest of identifiers of which one is unique, as a public key is (RFC 9711, 4.2.1). */
function ueidOf(digest: Uint8Array): string {
  return Buffer.concat([Buffer.of(0x01), digest]).toString('base64url')
}

/** Measurement systems, each with what was compared with and how that ended (RFC 9711, 4.2.17). */
function resultsOf({ boot, ima }: Established, set: string): unknown[] {
  const systems = ['tpm2-pcr', ...(boot ? ['tcg-event-log'] : []), ...(ima ? ['ima'] : [])]
  return systems.map(system => [system, [[set, 'success']]])
}

/** The values of PCRs in hexadecimal, by bank and index. */
export function hexOf(pcrs: PcrTable): Record<string, Record<string, string>> {
  const banks = [...pcrs].map(([bank, values]) => [
    bank,
    Object.fromEntries([...values].map(([pcr, value]) => [pcr, value.toString('hex')])),
  ])
  return Object.fromEntries(banks)
}

/** What is known of a boot, as JSON has it. A member that is not there is not known. @param told how many of a list */
export function bootClaimsOf(boot: BootClaims, told: number = TOLD): Record<string, unknown> {
  const { bank, replayed, secureBoot, databases, actions, authorities, drivers, images, files, commandLines } = boot
  const digests = databases && Object.fromEntries(Object.entries(databases).map(([name, { digest }]) => [name, digest]))
  return {
    bank,
    replayed,
    ...(secureBoot !== undefined && { secure_boot: secureBoot }),
    ...(digests && { databases: digests }),
    ...listed('actions', actions, told),
    ...listed('authorities', authorities, told),
    ...listed('drivers', drivers, told),
    ...listed('images', images, told),
    ...listed('files', files, told),
    ...listed('command_lines', commandLines, told),
  }
}

function imaClaimsOf({ bank, entries, violations, value, files, unlisted }: ImaSummary): Record<string, unknown> {
  return { bank, entries, violations, value, ...listed('files', files, TOLD), unlisted: unlisted.count }
}

function listed(name: string, items: readonly unknown[] | undefined, told: number): Record<string, unknown> {
  if (items === undefined) return {}
  return items.length <= told ? { [name]: items } : { [name]: items.slice(0, told), [`${name}_count`]: items.length }
}
