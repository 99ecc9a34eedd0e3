import type { World } from '../world.ts'
import type { Adrift } from './adrift.ts'
import { idOf, type Lease } from './lease.ts'
import type { Ledger } from './ledger.ts'
import type { Ended, Provider } from './provider.ts'
import type { Revoker } from './revoker.ts'

/** Whole seconds from its issue that a lease may live, as its role and its mount say now; undefined where there is no such role any more. */
export type Longest = (lease: Pick<Lease, 'mountId' | 'role'>) => Promise<number | undefined>

/** What every part of a lease's life needs. */
export type Parts = {
  readonly world: World
  readonly clock: () => number
  readonly ledger: Ledger
  readonly revoker: Revoker
  readonly adrift: Adrift
  readonly provider: Provider
  readonly longest: Longest
  readonly onEnd: (lease: Lease, how: Ended) => void
}

/** The lease of this id, whatever has become of it. */
export async function find(ledger: Ledger, leaseId: string): Promise<Lease | undefined> {
  const id = idOf(leaseId)
  const kept = id === undefined ? undefined : await ledger.read(id)
  return kept?.value.leaseId === leaseId ? kept.value : undefined
}
