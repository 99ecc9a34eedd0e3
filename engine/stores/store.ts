import type { Fields } from '../fields.ts'
import type { Secret } from '../secret.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Store } from '../vault/store.ts'

/** What is kept of one integration in a store. */
export type Held = {
  readonly fields: Readonly<Record<string, Secret>>
  /** changes whenever the fields do */
  readonly version: string
  /** seconds since the epoch, when the store knows it */
  readonly expiresAt?: number
}
export type Next = Pick<Held, 'fields' | 'expiresAt'>

/** How a store failed. Only one that is `down` may be answered for from memory: one that says no is obeyed. */
export type FaultKind = 'down' | 'denied' | 'absent' | 'malformed' | 'conflict'

/** A store gave no usable answer. `reason` holds nothing that was sent or received. */
export class StoreFault extends Error {
  readonly kind: FaultKind
  readonly reason: string
  /** of what is there, where it cannot be read any more and could be replaced */
  readonly version: string | undefined
  constructor(kind: FaultKind, reason: string, version?: string) {
    super(reason)
    this.name = 'StoreFault'
    this.kind = kind
    this.reason = reason
    this.version = version
  }
}

/** A store that was opened with its settings. Every method throws StoreFault. */
export type OpenStore = {
  readonly read: (ref: string, signal: AbortSignal) => Promise<Held>
  /** Check-and-set as far as the store has it; `version` empty makes it anew. Absent: the store is read-only here. */
  readonly replace?: (ref: string, next: Next, version: string, signal: AbortSignal) => Promise<void>
  /** Only where the broker itself keeps it. */
  readonly remove?: (ref: string) => Promise<void>
  readonly close: () => Promise<void>
}

/** What a store may use. */
export type StoreWorld = {
  /** state of the broker in KV, and the key in transit that what is secret in it is encrypted under */
  readonly state: Store
  readonly cipher: Cipher
  /** wall clock, milliseconds since the epoch */
  readonly now: () => number
  /** milliseconds that one call may take */
  readonly deadlineMs: number
}

/** A kind of place where root credentials are kept. A new one is a file beside this and a line in `index.ts`. */
export type SecretStore = {
  readonly summary: string
  readonly settings: Fields
  /** what the broker needs to be let in there, each a text */
  readonly secrets: Readonly<Record<string, { readonly description: string; readonly required: boolean }>>
  /** what names a root credential there: a form and that in words; absent where the broker names it itself */
  readonly ref?: { readonly form: RegExp; readonly means: string }
  /** whether the broker can write there, so that it can rotate */
  readonly writable: boolean
  readonly open: (
    settings: Readonly<Record<string, unknown>>,
    credentials: Readonly<Record<string, Secret>>,
    world: StoreWorld,
  ) => OpenStore
}
