import type { Mount } from '../mount_table.ts'
import type { Handle } from '../rotators/rotator.ts'
import type { Kept, Store } from '../vault/store.ts'

/** How far a rotation got: kept, so that one that died half-way is cleared up. */
export type Journal =
  | { readonly state: 'making'; readonly at: number }
  | { readonly state: 'made'; readonly at: number; readonly handle: Handle; readonly old?: Handle }
  | { readonly state: 'stored'; readonly at: number; readonly old?: Handle; readonly retireAt: number }
  | { readonly state: 'done'; readonly at: number }

export type RotationState = { readonly state: 'never' | Journal['state']; readonly at: string; readonly retires_at: string }

type Which = { readonly mount: Mount; readonly name: string }
const at = ({ mount, name }: Which) => `${mount.id}/rotation/${name}`

export const readJournal = (state: Store, which: Which) => state.fresh<Journal>(at(which))

/** In place of what was read: who was taken for dead writes nothing over what others wrote since. @throws BrokerError conflict */
export async function writeJournal(
  state: Store,
  which: Which,
  value: Journal,
  before: Kept<Journal> | undefined,
): Promise<Kept<Journal>> {
  const version = before?.version ?? 0
  await state.put(at(which), value, version)
  return { value, version: version + 1 }
}

export function shown(journal: Journal | undefined): RotationState {
  if (!journal) return { state: 'never', at: '', retires_at: '' }
  return { state: journal.state, at: timeOf(journal.at), retires_at: journal.state === 'stored' ? timeOf(journal.retireAt) : '' }
}

export const timeOf = (seconds: number) => new Date(seconds * 1000).toISOString()
