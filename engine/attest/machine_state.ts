import type { Measured } from './measurements.ts'

/** What was established of the state of a machine, as policies speak of it. */
export type MachineState = {
  /** the set of reference values that the machine matched, and its version; empty and 0 when nobody knows */
  readonly reference: string
  readonly referenceVersion: number
  /** its event log says that secure boot was on */
  readonly secureBoot: boolean
  readonly bootLog: boolean
  readonly ima: boolean
}

export function stateOf({ claims, referenceVersion, boot, ima }: Measured): MachineState {
  const { reference } = claims
  return {
    reference,
    referenceVersion,
    secureBoot: boot?.secureBoot === true,
    bootLog: boot !== undefined,
    ima: ima !== undefined,
  }
}

type StateFields = Readonly<Record<'reference' | 'reference_version' | 'secure_boot' | 'boot_log' | 'ima', string>>

/** What a token's metadata keeps of it: strings. `secure_boot` is empty when no log says it. */
export function metadataOfState(attested: Measured): StateFields {
  const { reference, referenceVersion, bootLog, ima } = stateOf(attested)
  return {
    reference,
    reference_version: String(referenceVersion),
    secure_boot: attested.boot?.secureBoot === undefined ? '' : String(attested.boot.secureBoot),
    boot_log: String(bootLog),
    ima: String(ima),
  }
}

/** Of a token; what a role that was written by an older version leaves out is not known. */
export function stateOfMetadata(meta: Partial<StateFields>): MachineState {
  return {
    reference: meta.reference ?? '',
    referenceVersion: Number(meta.reference_version ?? 0),
    secureBoot: meta.secure_boot === 'true',
    bootLog: meta.boot_log === 'true',
    ima: meta.ima === 'true',
  }
}
