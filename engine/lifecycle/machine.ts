/** What is durable of a machine beside its keys. Written when it reboots or fails and when an operator orders something, not at logins. */
export type MachineRecord = {
  /** counts what made older attestations worthless; every token carries the one that it was issued in */
  readonly epoch: number
  /** what was issued before this epoch is revoked; between it and `epoch` a new quote is enough */
  readonly since: number
  /** the boot that counts, by whose counters they are: `machine` for all keys that tell the true ones, else the Name of the key */
  readonly boots: Readonly<Record<string, Boot>>
  /** what its operating system called its start when that boot was accepted first: as it says, nobody signs it */
  readonly bootId?: string
  /** its keys were enrolled anew: the counters may have been cleared, and begin below what they were */
  readonly recount?: boolean
  /** it failed, and no operator has cleared it */
  readonly latch?: Latch
  /** what others have yet to be told of or rid of, oldest first */
  readonly incidents: readonly Incident[]
  /** of the last incident */
  readonly sequence: number
}

/** Counters of a boot (TPM 2.0 Library Part 2, TPMS_CLOCK_INFO). */
export type Boot = { readonly resetCount: number; readonly restartCount: number }

export type Latch = {
  /** a row of the table of refusals */
  readonly code: string
  readonly detail: string
  readonly role: string
  /** ISO 8601 */
  readonly at: string
  /** SHA-256 of the TPMS_ATTEST that showed it, hex */
  readonly evidence: string
}

/** Why what a machine was given came to an end, or what became of it since. */
export const reasons = {
  failed: 'the machine failed its attestation',
  rebooted: 'the machine was restarted',
  reattest: 'an operator wants the machine to attest itself anew',
  disabled: 'an operator disabled the machine',
  deleted: 'an operator deleted the record of the machine',
  revoked: 'the maker revoked the certificate of its TPM',
  cleared: 'an operator cleared the machine',
} as const
export type Reason = keyof typeof reasons

/** Something that happened to a machine: what it had is to be revoked, and subscribers are to be told. */
export type Incident = {
  readonly id: string
  readonly reason: Reason
  /** code of the failure, or the words of the operator; empty when there are none */
  readonly detail: string
  readonly epoch: number
  /** counts from 1 for each machine */
  readonly sequence: number
  /** milliseconds since the epoch: when the quote or the order came in */
  readonly at: number
  /** everything that was issued before `since` is dead */
  readonly ended: boolean
  /** tokens that were revoked so far */
  readonly revoked: number
  /** webhooks that took it, or will not get it any more */
  readonly told: readonly string[]
}

export const NEW_MACHINE: MachineRecord = { epoch: 0, since: 0, boots: {}, incidents: [], sequence: 0 }

/** More than these wait for a subscriber that is down: the oldest that only waits to be told is dropped. */
const WAITING = 32

export type Happened = Pick<Incident, 'id' | 'reason' | 'detail' | 'at'>

/** A machine whose attestations so far are worthless. @param ends whether what was issued to it is revoked, too */
export function moved(machine: MachineRecord, happened: Happened, ends: boolean): MachineRecord {
  const epoch = machine.epoch + 1
  return noted({ ...machine, epoch, since: ends ? epoch : machine.since }, happened, !ends)
}

/** Adds an incident that changes no epoch. */
export function noted(machine: MachineRecord, happened: Happened, ended = true): MachineRecord {
  const sequence = machine.sequence + 1
  const incident: Incident = { ...happened, epoch: machine.epoch, sequence, ended, revoked: 0, told: [] }
  return { ...machine, sequence, incidents: bounded([...machine.incidents, incident]) }
}

function bounded(incidents: readonly Incident[]): readonly Incident[] {
  if (incidents.length <= WAITING) return incidents
  const drop = incidents.findIndex(({ ended }) => ended)
  return incidents.toSpliced(Math.max(drop, 0), 1)
}

/** How a boot is to the one that counts. */
export function compareBoots(now: Boot, kept: Boot): 'same' | 'newer' | 'older' {
  const order = now.resetCount - kept.resetCount || now.restartCount - kept.restartCount
  if (order === 0) return 'same'
  return order > 0 ? 'newer' : 'older'
}
