import type { Fields } from '../fields.ts'
import type { Secret } from '../secret.ts'

/** A place that credentials come from, as it was configured. Nothing in here is secret: what is secret is read through `Root`. */
export type Integration = {
  readonly name: string
  /** tells it from others that had the name before */
  readonly made: string
  /** name of the issuer that serves it */
  readonly type: string
  /** read against `IntegrationShape.settings` of the issuer when it was written: values have the types of those fields, defaults are filled in */
  readonly settings: Readonly<Record<string, unknown>>
  /** the organisation that owns it; empty when it belongs to none */
  readonly org: string
  /** tasks that may use it; any when empty */
  readonly tasks: readonly string[]
  /** where its root credential is kept: kind of store, and what names it there */
  readonly store: { readonly kind: string; readonly ref: string }
}

/** What an issuer wants of an integration of its type: `Issuer.integration`. Validation, help and what may be read back are read off it. */
export type IntegrationShape = {
  /** what everybody who may read the integration may see: URLs, regions, ids of clients */
  readonly settings: Fields
  /** names of the fields of the root credential, each a text; write-only. What each is, and whether a root credential without it makes sense */
  readonly secrets: Readonly<Record<string, { readonly description: string; readonly required: boolean }>>
}

/** The root credential at one moment. */
export type RootCredential = {
  readonly fields: Readonly<Record<string, Secret>>
  /** opaque; changes whenever the fields do */
  readonly version: string
  /** seconds since the epoch, when the store or its writer knows it */
  readonly expiresAt?: number
  /** the store did not answer and this is what it said before: only where the action may be served so */
  readonly stale: boolean
}

/** The root credential of one integration.
 *  Every method throws BrokerError unavailable, naming the integration and never a secret, when the store does not answer or what it holds has not the shape. */
export type Root = {
  /** from a small cache; one flight */
  readonly read: () => Promise<RootCredential>
  /** past the cache: after the provider refused what `read` gave */
  readonly fresh: () => Promise<RootCredential>
  /** Check-and-set: durable when it returns.
   *  @throws BrokerError conflict when `version` is not the current one any more, unsupported_operation when the store is read-only */
  readonly replace: (next: Pick<RootCredential, 'fields' | 'expiresAt'>, version: string) => Promise<void>
  /** Runs `work` with the fresh root while no other `work` on this integration runs, here or at another replica: for refresh tokens that rotate.
   *  What only one may send goes out under `hold` (`Outbound.under`). */
  readonly alone: <T>(work: (root: RootCredential, hold: Hold) => Promise<T>) => Promise<T>
}

/** Asked right before something is sent that nobody else may send, too.
 *  @throws BrokerError unavailable when 20 seconds are over, or when it is not certain any more that nobody else works on this */
export type Hold = () => void
