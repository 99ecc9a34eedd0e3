import type { Secret } from '../secret.ts'
import type { SigningKey } from '../vault/transit.ts'

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
  /** RFC 7638 thumbprint; empty when no key is bound */
  readonly keyThumbprint: string
  readonly ttlSeconds: number
  /** seconds since the epoch */
  readonly issuedAt: number
}

export type Credential = {
  readonly token: Secret
  /** `DPoP` when it works only with a proof of the bound key (RFC 9449), else `Bearer` */
  readonly tokenType: 'DPoP' | 'Bearer'
  readonly kid: string
}

/** What an issuer may use. */
export type IssuerPorts = {
  readonly issuerUrl: string
  readonly key: () => Promise<SigningKey>
  readonly sign: (key: SigningKey, typ: string, claims: object) => Promise<string>
}

/** A way to turn a grant into a credential. A new one is a file beside this and a line in `index.ts`.
 *  @throws BrokerError unavailable when what it needs does not answer */
export type Issuer = {
  readonly summary: string
  readonly issue: (grant: Grant, ports: IssuerPorts) => Promise<Credential>
}
