import { BrokerError } from '../errors.ts'
import type { Credential, Grant } from '../issuers/index.ts'
import type { Keep } from '../issuers/issuer.ts'
import { NothingDone } from '../issuers/outbound.ts'
import { ExchangeRefusal, Unwanted } from '../issuers/refusal.ts'
import type { Begun } from '../leases/begin.ts'
import type { Handle } from '../leases/lease.ts'
import type { Leases } from '../leases/service.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { Asker } from './asker.ts'

/** A credential that is to be made: where it comes from, for how long it may be renewed, what of and for whom. */
export type Order = {
  readonly mount: Mount
  readonly issuer: string
  readonly integration: string
  readonly maxTtlSeconds: number
  /** an engine of Vault, which keeps the lease */
  readonly engine?: true | undefined
  /** its agent has to show that it lives: of one that does not, all is ended that its tokens got */
  readonly heartbeat?: boolean
  readonly grant: Grant
  readonly asker: Asker
  readonly make: (keep?: Keep) => Promise<Credential>
}

/** Makes a credential that can be revoked: what it is known by is durable before its provider is called. */
export type UnderLease = (order: Order) => Promise<Credential>
type Ports = { readonly leases: Leases; readonly mounts: Pick<MountTable, 'still'> }

export function openUnderLease(leases: Leases, mounts: Ports['mounts']): UnderLease {
  const ports = { leases, mounts }
  return order => (order.engine ? underToken(ports, order) : underLease(ports, order))
}

async function underLease(ports: Ports, order: Order): Promise<Credential> {
  const begun = await begin(ports, order)
  const credential = await order.make().catch((error: unknown) => failed(ports, begun, error))
  if (!credential.handle) {
    await begun.abandon(true)
    return credential
  }
  const { leaseId, expiresAt, issuedAt, maxExpiresAt } = await begun.confirm(credential.handle, credential.expiresAt)
  const durationSeconds = expiresAt - issuedAt
  const lease = { id: leaseId, durationSeconds, renewable: maxExpiresAt > expiresAt }
  return { ...credential, expiresAt: Math.min(credential.expiresAt, order.grant.issuedAt + durationSeconds), lease }
}

/** Of an engine the lease is Vault's, and hangs under a token that was made for it. Ours is for that token: so that another replica, or this one after
 *  it died, ends it before it makes a second. Vault ends it with the token of who asks: nobody has to watch that, and only who may fall silent is found by it. */
async function underToken(ports: Ports, order: Order): Promise<Credential> {
  let begun: Begun | undefined
  const accessor = order.heartbeat ? order.asker.accessor : ''
  const own = { ...order, maxTtlSeconds: order.grant.ttlSeconds, asker: { ...order.asker, accessor } }
  const keep: Keep = async under => {
    begun = await begin(ports, own, under)
  }
  const credential = await order.make(keep).catch((error: unknown) => failed(ports, begun, error))
  if (credential.handle && credential.lease) await begun?.confirm(credential.handle, credential.expiresAt)
  else await begun?.abandon(true)
  return credential
}

async function begin({ leases, mounts }: Ports, order: Order, under?: Handle): Promise<Begun> {
  const { mount, issuer, integration, maxTtlSeconds } = order
  const { tpmId, txn, ttlSeconds } = order.grant
  const { accessor, role, request } = order.asker
  const from = { mount, path: `creds/${role}`, issuer, role, integration, accessor, request }
  const begun = await leases.begin({ ...from, tpmId, txn, ttlSeconds, maxTtlSeconds, ...(under ? { under } : {}) })
  // whoever disables or moves the mount ends what has a lease by then: what has one only now is not made
  if (await mounts.still(mount)) return begun
  await begun.abandon(true)
  throw new BrokerError('unavailable', 'the mount is being disabled or moved')
}

async function failed({ leases }: Ports, begun: Begun | undefined, error: unknown): Promise<never> {
  // what nobody gets is revoked like any other, until it is done
  if (begun && error instanceof Unwanted)
    await leases.revoke((await begun.confirm(error.handle, Number.POSITIVE_INFINITY)).leaseId)
  // what a provider refused it did not make; what did not answer may have made it
  else await begun?.abandon(error instanceof ExchangeRefusal || error instanceof NothingDone)
  throw error
}
