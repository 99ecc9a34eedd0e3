import type { Time } from '../time.ts'
import type { OwnVault } from '../vault/own.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { type Deliver, openDeliver } from './deliver.ts'
import type { SealingMode } from './keys.ts'
import { openRevocations, type Revocations } from './revocations.ts'
import { openSealer } from './seal.ts'

/** The broker's side: it seals and revokes, and opens nothing. */
export type Sealing = { readonly deliver: Deliver; readonly revocations: Revocations }

export type SealingParts = {
  readonly world: World
  readonly time: Time
  readonly own: OwnVault
  readonly store: Store
  readonly signer: Signer
  readonly transit: string
  readonly mode: SealingMode
}

export function openSealing({ world, time, own, store, signer, transit, mode }: SealingParts): Sealing {
  const revocations = openRevocations(store, time)
  const sealer = openSealer({ vault: own, signer, transit, mode, monotonic: world.monotonic })
  return { deliver: openDeliver(sealer, revocations), revocations }
}
