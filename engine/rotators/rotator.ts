import type { Fields, Values } from '../fields.ts'
import type { IntegrationShape } from '../integrations/port.ts'
import type { IssuerPorts } from '../issuers/issuer.ts'
import type { Outbound, Throttled } from '../issuers/outbound.ts'
import type { Secret } from '../secret.ts'

export type Secrets = Readonly<Record<string, Secret>>
/** Tells one credential from another at its provider; nothing secret is in it, so that it may be kept and told. */
export type Handle = Readonly<Record<string, string>>

/** Seconds since the epoch, both ends included. */
export type Window = { readonly from: number; readonly to: number }

/** What an operator gave for a rotation, where the provider has no way to make the next one. */
export type Supplied = { readonly secrets: Secrets; readonly settings: Readonly<Record<string, unknown>> }

/** What a rotator may use. `settings`: those of the integration; `own`: what `Rotator.settings` says of it. */
export type RotatorPorts<S extends Fields = Fields> = Pick<IssuerPorts, 'key' | 'sign' | 'signRs256'> & {
  readonly integration: string
  readonly settings: Readonly<Record<string, unknown>>
  readonly own: Values<S>
  /** to the provider */
  readonly http: Outbound
  /** Vault, in the name of whoever ordered the rotation, else of the broker */
  readonly vaultWrite: (path: string) => Promise<void>
  /** milliseconds since the epoch */
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<unknown>
}

/** The next credential: the fields and settings that it differs in. */
export type Made = { readonly secrets: Secrets; readonly settings?: Readonly<Record<string, unknown>>; readonly handle: Handle }

/** A way to replace a root credential. The one in use stays good until the next was proved and stored. A new one is a file beside this and a line in `index.ts`.
 *  Every function throws BrokerError; nothing that is secret is in it. */
export type Rotator<S extends Fields = Fields> = {
  readonly summary: string
  /** type of the integrations that it serves */
  readonly type: string
  /** a type of integration that is there for the rotation alone, and that no role names */
  readonly integration?: IntegrationShape
  /** what it needs to know beside the settings of the integration (`rotation`) */
  readonly settings: S
  /** how the provider says that it is asked too often, where it has a way of its own */
  readonly throttled?: Throttled
  /** whether it serves this integration as it is configured */
  readonly serves: (settings: Readonly<Record<string, unknown>>) => boolean
  /** Whether the operator brings the next one: `secrets` or `settings` come with the order, and nothing is rotated on schedule. */
  readonly supplied?: true
  /** Makes the next one, beside the one in use. */
  readonly make: (root: Secrets, ports: RotatorPorts<S>, supplied: Supplied) => Promise<Made>
  /** Returns when the next one works; throws when it does not. Absent: that it was made shows that it works. */
  readonly prove?: (next: Made, root: Secrets, ports: RotatorPorts<S>) => Promise<void>
  /** What tells the credential in use from others. */
  readonly handleOf?: (root: Secrets, settings: RotatorPorts['settings']) => Handle
  /** Ends one at its provider, with the one in use. Idempotent. */
  readonly retire?: (handle: Handle, root: Secrets, ports: RotatorPorts<S>) => Promise<void>
  /** What was made in this time and is not in use: left behind by a rotation that did not come to its end. */
  readonly strays?: (root: Secrets, made: Window, ports: RotatorPorts<S>) => Promise<readonly Handle[]>
}

/** Keeps the types of a rotator's settings together with its functions. */
export function rotator<const S extends Fields>(row: Rotator<S>): Rotator {
  return row as unknown as Rotator
}
