import { accept, type Hierarchy, reject } from '#attestation'
import type { Verdict } from '../refusals.ts'
import { compareBoots, type MachineRecord } from './machine.ts'

/** What a login or a token says of the attestation that it stands on. */
export type Attestation = {
  /** epoch of the machine in which it was made */
  readonly epoch: number
  /** whole seconds since the quote */
  readonly ageSeconds: number
  /** a quote came with the very request */
  readonly fresh: boolean
}

/** Whether a machine is what it was when its token was issued. `maxAgeSeconds` 0 is without limit. */
export function appraiseStanding(machine: MachineRecord, attestation: Attestation, maxAgeSeconds: number): Verdict<undefined> {
  const { epoch, ageSeconds, fresh } = attestation
  if (machine.latch) return reject('LATCHED', `failed with ${machine.latch.code} at ${machine.latch.at}`)
  if (epoch < machine.since) return reject('SESSION_ENDED', `the token is of epoch ${epoch}, the machine of ${machine.epoch}`)
  if (fresh) return accept(undefined)
  if (epoch < machine.epoch) return reject('REATTEST', `the token is of epoch ${epoch}, the machine of ${machine.epoch}`)
  if (maxAgeSeconds > 0 && ageSeconds > maxAgeSeconds)
    return reject('ATTESTATION_STALE', `${ageSeconds} s old, at most ${maxAgeSeconds} s are allowed`)
  return accept(undefined)
}

/** Whether something happened between the look that a decision was made on and this one. */
export function isUnmoved(then: MachineRecord, now: MachineRecord): boolean {
  return then.epoch === now.epoch && then.since === now.since && then.latch?.at === now.latch?.at
}

/** Keys of the endorsement hierarchy tell the true counters, all the same; any other adds a secret of its own (TPM 2.0 Library Part 1, Clock). */
export function countersOf(hierarchy: Hierarchy, akName: string): string {
  return hierarchy === 'owner' ? akName : 'machine'
}

/** How the boot of a quote is to the one that counts for this machine; `first` when none does yet. */
export function bootOf(machine: MachineRecord, counters: string, now: { resetCount: number; restartCount: number }) {
  const kept = machine.boots[counters]
  if (!kept) return 'first'
  const order = compareBoots(now, kept)
  const ordered = counters === 'machine' && !machine.recount
  return ordered || order === 'same' ? order : 'newer'
}

/** Whether the TPM began anew under an operating system that goes on, as that says: sleep and hibernation that lose the state of the TPM look the same. */
export function isResetAlone(machine: MachineRecord, counters: string, { resetCount }: { resetCount: number }, bootId: string) {
  const kept = machine.boots[counters]
  return kept !== undefined && kept.resetCount !== resetCount && bootId !== '' && bootId === machine.bootId
}

/** Whether, as the operating system says, it is not the one that showed this boot first. */
export function isAnotherStart({ bootId: first = '' }: MachineRecord, bootId: string): boolean {
  return first !== '' && bootId !== '' && bootId !== first
}
