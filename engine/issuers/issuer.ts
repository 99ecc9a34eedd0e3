import type { Fields, Values } from '../fields.ts'
import type { IntegrationShape, Root } from '../integrations/port.ts'
import type { Secret } from '../secret.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Vault } from '../vault/client.ts'
import type { SigningKey } from '../vault/transit.ts'
import type { Outbound, Throttled } from './outbound.ts'

/** What was decided, and so what may be issued: every issuer gets this and nothing wider. */
export type Grant = {
  readonly txn: string
  /** id of the credential: known before it is made, so that the audit log can name it first */
  readonly jti: string
  readonly tpmId: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
  readonly audience: string
  /** what the action may do at the provider, in the provider's words: the role's catalogue for this action within the ceiling of the integration */
  readonly permissions: readonly string[]
  /** what the agent gave for the provider, such as a public key to sign; the issuer says which of it counts */
  readonly parameters: Readonly<Record<string, unknown>>
  readonly task: TaskContext | undefined
  /** RFC 7638 thumbprint; empty when no key is bound */
  readonly keyThumbprint: string
  /** SHA-256 of a certificate for that key, base64url (RFC 8705); empty when the machine has shown none */
  readonly x5tS256: string
  readonly ttlSeconds: number
  /** seconds since the epoch */
  readonly issuedAt: number
}

export type Credential = {
  /** what the agent gets; a `Secret` where it is one */
  readonly fields: Readonly<Record<string, Secret | string | number>>
  /** `DPoP` when it works only with a proof of the bound key (RFC 9449), `Bearer` when it is a token that works for whoever has it */
  readonly tokenType?: 'DPoP' | 'Bearer'
  readonly kid?: string
  /** seconds since the epoch: when the provider will stop to honour it */
  readonly expiresAt: number
  /** what the provider said that it gave: for the audit log, and never wider than the grant */
  readonly granted: Readonly<Record<string, string | number | readonly string[]>>
  /** how to revoke it, as `Issuer.revoke` reads it: text that may be kept, with nothing secret in it that is not encrypted */
  readonly handle?: Readonly<Record<string, string>>
  /** it says itself when it ends, and whoever verifies it goes by that: revoking it shortens nothing */
  readonly selfContained?: true
  /** what `vault lease` knows it by: a lease of Vault's own where the provider is one of its engines, else one of ours */
  readonly lease?: { readonly id: string; readonly durationSeconds: number; readonly renewable: boolean }
}

export type Keep = (handle: NonNullable<Credential['handle']>) => Promise<void>

/** What an issuer may use. `role`: its own fields of the role; `settings`: those of the integration. */
export type IssuerPorts<R extends Fields = Fields, S extends Fields = Fields> = {
  readonly role: Values<R>
  readonly settings: Values<S>
  /** name of the integration; empty without one */
  readonly integration: string
  /** the root credential of the integration. @throws BrokerError unavailable without an integration */
  readonly root: Root
  /** what a person consented to for this machine, plugin, action and scope: a `refresh_token`. @throws ExchangeRefusal CONSENT_REQUIRED */
  readonly consented: (grant: Grant) => Root
  /** `iss` of what this mount signs */
  readonly issuerUrl: string
  readonly key: () => Promise<SigningKey>
  readonly sign: (key: SigningKey, typ: string, claims: object) => Promise<string>
  /** RS256 by a key of the operator in transit, named `assay-...`, for providers that know nothing else */
  readonly signRs256: (key: string, claims: object) => Promise<string>
  /** to the provider: one breaker and one deadline for each integration */
  readonly http: Outbound
  /** for handles: encrypted in transit, under a key of this mount */
  readonly seal: (secret: Secret) => Promise<string>
  readonly unseal: (sealed: string) => Promise<Secret>
  /** Vault, for issuers that ask its engines in the name of `caller` */
  readonly vault: Vault
  /** the token of who asks */
  readonly caller: Secret
  /** Makes durable what ends all that is made from now on. Before it has ended nothing is made. @throws BrokerError when it cannot be kept, or while the same request is answered elsewhere */
  readonly keep: Keep
  /** in the broker's own name: a token that was made here may not be let end itself; one that is gone is ended */
  readonly endToken: (accessor: string) => Promise<void>
  /** milliseconds since the epoch */
  readonly now: () => number
}

/** What is known before anything is asked of anybody. */
export type Plan<R extends Fields = Fields, S extends Fields = Fields> = Pick<
  IssuerPorts<R, S>,
  'role' | 'settings' | 'integration' | 'issuerUrl'
>

/** What roles of every issuer say. */
export type CommonFields = {
  readonly plugins: readonly string[]
  readonly actions: readonly string[]
  readonly attestation: string
  readonly delivery: string
}

/** A way to turn a grant into a credential. A new one is a file beside this and a line in `index.ts`; help, checks, the list of issuers and the
 *  validation of roles and integrations are read off it. */
export type Issuer<R extends Fields = Fields, S extends Fields = Fields> = {
  readonly summary: string
  /** its own fields of a role */
  readonly role: R
  /** what it wants of an integration; absent where it needs none */
  readonly integration?: IntegrationShape & { readonly settings: S }
  /** how what it issues reaches the agent: `sealed` only where it must never hold the value itself */
  readonly delivery?: 'sealed'
  /** what it issues comes from an engine of Vault, with a lease of Vault's own */
  readonly engine?: true
  /** how the provider says that it is asked too often, where it has a way of its own */
  readonly throttled?: Throttled
  /** the same decision may be answered with the same credential while it is young, where the role says so */
  readonly cacheable?: true
  /** a role of this issuer says what each action may do (`permissions`) */
  readonly permissions?: {
    /** whether this role has them; without it every one does */
    readonly wanted?: (role: Values<R>) => boolean
    /** `name: form`, for the error of who writes a role */
    readonly form: readonly [RegExp, string]
    /** whether a permission lies within one of a ceiling; without it they are compared as they are, a `*` at the end standing for any rest */
    readonly within?: (permission: string, ceiling: string) => boolean
  }
  /** What makes no sense in a role although each field does. Throws BrokerError bad_request with a sentence. */
  readonly check?: (role: Values<R>, common: CommonFields) => void
  /** What would be asked of the provider, without any secret: for `simulate`. */
  readonly plan?: (grant: Grant, ports: Plan<R, S>) => object
  /** @throws BrokerError unavailable when what it needs does not answer
   *  @throws ExchangeRefusal when the provider refuses, or answers with what was not asked for */
  readonly issue: (grant: Grant, ports: IssuerPorts<R, S>) => Promise<Credential>
  /** whether an integration with these settings can revoke; without it every one can */
  readonly revocable?: (settings: Values<S>) => boolean
  /** Ends what was issued. Idempotent: what is gone already is done. @throws BrokerError unavailable when it has to be tried again */
  readonly revoke?: (handle: Readonly<Record<string, string>>, ports: IssuerPorts<R, S>) => Promise<void>
}

/** Keeps the types of an issuer's fields together with its functions. */
export function issuer<const R extends Fields, const S extends Fields = Record<never, never>>(row: Issuer<R, S>): Issuer {
  return row as unknown as Issuer
}
