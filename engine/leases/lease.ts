import { createHash } from 'node:crypto'

/** How to revoke, as the issuer that made it reads it. */
export type Handle = Readonly<Record<string, string>>

/** What is kept of a credential that can be revoked. Times are whole seconds since the epoch. */
export type Lease = {
  /** `pending`: the provider may have been called and nothing is known of it; `revoking`: accepted, and tried until it is done */
  readonly state: 'pending' | 'active' | 'revoking'
  /** in Vault's form: path of the request, slash, 24 base62 characters */
  readonly leaseId: string
  readonly mountId: string
  readonly issuer: string
  readonly role: string
  /** empty where the issuer needs none */
  readonly integration: string
  /** of the token that asked; empty for a batch token, which cannot be revoked by itself */
  readonly accessor: string
  readonly tpmId: string
  readonly txn: string
  /** what a renewal without an increment gives */
  readonly ttlSeconds: number
  readonly issuedAt: number
  readonly expiresAt: number
  /** no renewal goes beyond */
  readonly maxExpiresAt: number
  /** 0 when never */
  readonly renewedAt: number
  /** when something has to be done about it: a call that did not end, an expiry, a revocation */
  readonly due: number
  readonly handle?: Handle
  /** revokes all that the provider may make for it: known before the provider is called, and of use when the call cannot be under way any more */
  readonly under?: Handle
  /** who revokes it now, and until when nobody else does */
  readonly claim?: { readonly by: string; readonly until: number }
}

/** A provider call that has not ended by then is taken for lost: what it made is revoked. */
export const PENDING_SECONDS = 60

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 24

/** The last part of a lease id, drawn from what names the request: who does not know all of it cannot guess the id. */
export function idFrom(...parts: readonly string[]): string {
  let rest = BigInt(`0x${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}`)
  let id = ''
  while (id.length < ID_LENGTH) {
    id += BASE62[Number(rest % 62n)]
    rest /= 62n
  }
  return id
}

/** The last part of a lease id; undefined when it has not the form of one of ours. */
export function idOf(leaseId: string): string | undefined {
  return /\/([0-9A-Za-z]{24})$/.exec(leaseId)?.[1]
}

/** The last part of the id of a lease of ours. */
export const shortIdOf = ({ leaseId }: Pick<Lease, 'leaseId'>): string => leaseId.slice(-ID_LENGTH)

/** A short stand-in for what should not be read in a storage key. */
export function tagOf(value: string): string {
  return value === '' ? '' : createHash('sha256').update(value).digest('base64url').slice(0, 12)
}
