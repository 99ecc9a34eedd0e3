import { retryConflicts } from '../conflicts.ts'
import { gatherLooks } from '../gather.ts'
import type { Store } from '../vault/store.ts'
import { type MachineRecord, NEW_MACHINE } from './machine.ts'

/** Names a machine: the auth mount that knows it, and its TPM there. */
export type MachineId = { readonly mountId: string; readonly tpmId: string }

/** Records of machines. One that was never written is as new. */
export type Machines = {
  /** may be as old as the store says */
  readonly get: (id: MachineId) => Promise<MachineRecord>
  /** not older than the question; those who ask together share an answer */
  readonly fresh: (id: MachineId) => Promise<MachineRecord>
  /** Applies the change to what is there, again when somebody else was faster. Undefined changes nothing. The answer is what is there afterwards. */
  readonly change: (id: MachineId, make: Make) => Promise<MachineRecord>
  readonly forget: (id: MachineId) => Promise<void>
}

type Make = (kept: MachineRecord) => MachineRecord | undefined

const TRIES = 10

export function openMachines(store: Store): Machines {
  const change = async (id: MachineId, make: Make): Promise<MachineRecord> => {
    const kept = await store.fresh<MachineRecord>(pathOf(id))
    const before = kept?.value ?? NEW_MACHINE
    const after = make(before)
    if (!after) return before
    await store.put(pathOf(id), after, kept?.version ?? 0)
    return after
  }
  return {
    get: async id => (await store.get<MachineRecord>(pathOf(id)))?.value ?? NEW_MACHINE,
    fresh: gatherLooks(pathOf, async id => (await store.fresh<MachineRecord>(pathOf(id)))?.value ?? NEW_MACHINE),
    change: (id, make) => retryConflicts(TRIES, () => change(id, make)),
    forget: id => store.delete(pathOf(id)),
  }
}

const pathOf = ({ mountId, tpmId }: MachineId) => `${mountId}/machine/${tpmId}`
