import { type Handle, type Lease, PENDING_SECONDS } from './lease.ts'

/** What ends credentials at their provider. Idempotent: what is gone already is done.
 *  @throws anything when it has to be tried again */
export type Provider = {
  readonly revoke: (lease: Lease, handle: Handle) => Promise<void>
  /** Looks for what a call made whose reply was lost, by the names that it was given (`txn`); undefined when there is nothing.
   *  @throws Unfindable when the provider cannot be asked that */
  readonly find: (lease: Lease) => Promise<Handle | undefined>
}
/** A provider that has no way to look for a credential: it is left to end by itself. */
export class Unfindable extends Error {}

/** How a lease ends: on request or with its token; by its time; dropped by an operator although its provider did not answer; of a call whose reply was
 *  lost, at a provider that cannot be asked what it made, when that must have ended by itself. */
export const endings = ['revoked', 'expired', 'forced', 'unfindable'] as const
export type Ended = (typeof endings)[number]

type Caller = {
  readonly provider: Provider
  /** seconds since the epoch */
  readonly clock: () => number
}
type Called = Ended | { readonly waitMs: number }

export const CALL_SECONDS = 30
/** How often it is looked whether what nobody can find has ended by itself. */
const LOOK_MS = 30_000

/** Ends one lease at its provider, or says when to try again. @throws anything when the provider did not do it in time */
export function call(caller: Caller, lease: Lease): Promise<Called> {
  return within(CALL_SECONDS * 1000, ended(caller, lease))
}

/** What was made is revoked. What may have been made by a call that never ended is looked for first, when the call cannot be under way any more. */
async function ended({ provider, clock }: Caller, lease: Lease): Promise<Called> {
  if (lease.handle) {
    await provider.revoke(lease, lease.handle)
    return clock() >= lease.expiresAt ? 'expired' : 'revoked'
  }
  const lost = lease.issuedAt + PENDING_SECONDS
  if (clock() < lost) return { waitMs: (lost - clock()) * 1000 }
  try {
    const handle = lease.under ?? (await provider.find(lease))
    if (handle) await provider.revoke(lease, handle)
    return 'revoked'
  } catch (error) {
    if (!(error instanceof Unfindable)) throw error
    if (clock() < lease.maxExpiresAt) return { waitMs: LOOK_MS }
    return 'unfindable'
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error('the provider did not answer in time')), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
