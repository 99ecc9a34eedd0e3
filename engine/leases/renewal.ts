import { BrokerError } from '../errors.ts'
import { shortIdOf } from './lease.ts'
import { changeLease } from './ledger.ts'
import { find, type Parts } from './parts.ts'
import type { Tokens } from './tokens.ts'

/** Counts from now, up to the maximum of the role and of the mount, as both were at the issue and as they are now, and to the life of the token.
 *  @throws BrokerError bad_request in Vault's words */
export async function renew(parts: Parts, tokens: Tokens, leaseId: string, increment: number) {
  const before = await find(parts.ledger, leaseId)
  if (before?.state !== 'active') throw new BrokerError('bad_request', 'lease not found')
  const token = before.accessor === '' ? undefined : await tokens(before.accessor)
  if (token?.alive === false) throw new BrokerError('bad_request', 'lease not found')
  const longest = await parts.longest(before)
  if (longest === undefined)
    throw new BrokerError('bad_request', `error during renew: could not find role with name "${before.role}"`)
  const now = parts.clock()
  let capped = false
  const lease = await changeLease(parts.ledger, shortIdOf(before), lease => {
    if (lease.state !== 'active' || lease.expiresAt <= now) throw new BrokerError('bad_request', 'lease expired')
    // of a batch token nobody can say how long it lives: what it asked for is not lengthened
    const last = Math.min(lease.maxExpiresAt, lease.issuedAt + longest)
    const bound = Math.min(last, token ? now + token.ttlSeconds : lease.expiresAt)
    if (last <= now) throw new BrokerError('bad_request', 'past the max TTL, cannot renew')
    const wanted = now + (increment > 0 ? increment : lease.ttlSeconds)
    capped = wanted > bound
    const expiresAt = Math.floor(Math.min(wanted, bound))
    return { ...lease, expiresAt, due: expiresAt, renewedAt: now }
  })
  if (!lease) throw new BrokerError('bad_request', 'lease not found')
  return { lease, capped }
}
