import { ignoreConflict } from '../conflicts.ts'
import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import { accept, entryIn } from './end.ts'
import { type Handle, idFrom, type Lease, PENDING_SECONDS, shortIdOf } from './lease.ts'
import { changeLease } from './ledger.ts'
import { nameOf } from './name.ts'
import type { Parts } from './parts.ts'

export type Begin = {
  readonly mount: Mount
  /** below the mount, as it was asked: `creds/deploy` */
  readonly path: string
  readonly accessor: string
  readonly tpmId: string
  readonly issuer: string
  readonly role: string
  readonly integration: string
  readonly txn: string
  readonly ttlSeconds: number
  readonly maxTtlSeconds: number
  /** what makes two requests the same: the later one ends what the earlier one got, when that is younger than a minute. Absent: none is like it */
  readonly request?: string
  /** revokes all that may be made; absent where that is known of what was made alone */
  readonly under?: Handle
}

export type Begun = {
  readonly leaseId: string
  /** What was made and when its provider ends it, by the wall clock. @throws BrokerError unavailable when the lease was revoked meanwhile, or cannot be kept: then so is what was made */
  readonly confirm: (handle: Handle, expiresAt: number) => Promise<Lease>
  /** The provider made nothing, for certain or as far as is known: in the second case it is looked after as if it had. */
  readonly abandon: (certain: boolean) => Promise<void>
}

/** Writes a lease before there is anything to be leased. */
export async function begin(parts: Parts, asked: Begin): Promise<Begun> {
  const { clock, world } = parts
  const at = clock()
  const id = asked.request === undefined ? idFrom(world.random(32).toString('hex')) : requestId(asked.request, at)
  if (asked.request !== undefined) await Promise.all(beside(asked.request, at).map(other => clear(parts, other)))
  const lease: Lease = {
    state: 'pending',
    leaseId: `${asked.mount.path}${asked.path}/${id}`,
    mountId: asked.mount.id,
    issuer: asked.issuer,
    role: asked.role,
    integration: asked.integration,
    accessor: asked.accessor,
    tpmId: asked.tpmId,
    txn: asked.txn,
    ttlSeconds: asked.ttlSeconds,
    issuedAt: at,
    expiresAt: at + asked.ttlSeconds,
    maxExpiresAt: at + asked.maxTtlSeconds,
    renewedAt: 0,
    due: at + PENDING_SECONDS,
    ...(asked.under ? { under: asked.under } : {}),
  }
  try {
    await create(parts, lease, id)
  } catch (error) {
    // the store may have it all the same
    if (!isConflict(error)) parts.adrift.keep(lease.leaseId, () => drop(parts, lease))
    throw error
  }
  return {
    leaseId: lease.leaseId,
    confirm: (handle, expiresAt) => confirm(parts, lease, handle, expiresAt),
    abandon: certain => abandon(parts, lease, certain),
  }
}

/** The same request has the same id within a minute of the clock. */
const requestId = (request: string, at: number) => idFrom(request, String(Math.floor(at / PENDING_SECONDS)))

/** And another one in the minute before, or in the one after where another replica's clock is ahead. */
const beside = (request: string, at: number) => [-PENDING_SECONDS, PENDING_SECONDS].map(apart => requestId(request, at + apart))

async function create(parts: Parts, lease: Lease, id: string): Promise<void> {
  try {
    await parts.ledger.create(lease)
  } catch (error) {
    if (!isConflict(error)) throw error
    await clear(parts, id)
    await parts.ledger.create(lease)
  }
}

const POLL_MS = 50
const CLEAR_MS = 5_000

/** Ends what the same request got less than a minute ago: whoever got it asks again, and may not have got it.
 *  @throws BrokerError conflict when it cannot be ended now */
async function clear(parts: Parts, id: string): Promise<void> {
  const { ledger, clock, world } = parts
  const kept = await ledger.read(id)
  if (!kept || kept.value.issuedAt <= clock() - PENDING_SECONDS) return
  const until = world.monotonic() + CLEAR_MS
  await accept(parts, [entryIn(kept.value)])
  while (world.monotonic() < until) {
    if (!(await ledger.read(id))) return
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  throw new BrokerError(
    'conflict',
    'the same request was made a moment ago, and what it got is not revoked yet: try again in a minute',
  )
}

async function confirm(parts: Parts, begun: Lease, handle: Handle, expiresAt: number): Promise<Lease> {
  const id = shortIdOf(begun)
  const { clock, world } = parts
  // the clock of leases is ahead of a wall clock that was put back
  const made = expiresAt + clock() - Math.floor(world.now() / 1000)
  try {
    const lease = await changeLease(parts.ledger, id, lease => {
      if (lease.txn !== begun.txn || lease.state !== 'pending') return undefined
      const ends = Math.min(lease.expiresAt, made)
      const { maxExpiresAt } = lease
      return { ...lease, state: 'active', handle, expiresAt: ends, maxExpiresAt: Math.min(maxExpiresAt, made), due: ends }
    })
    if (lease) return lease
    await handOver(parts, begun, handle)
  } catch (error) {
    parts.adrift.keep(begun.leaseId, () => handOver(parts, begun, handle))
    await parts.provider.revoke(begun, handle).catch((again: unknown) => {
      parts.world.log.error(
        { error: again, lease: begun.leaseId },
        'a credential that could not be recorded could not be revoked either: it is tried until it is',
      )
    })
    throw error
  }
  throw new BrokerError('unavailable', 'the credential was revoked while it was made: ask again')
}

/** What was made for a lease that was revoked, or taken for lost, meanwhile: it is known how to end it now. */
async function handOver({ ledger, revoker, clock }: Parts, begun: Lease, handle: Handle): Promise<void> {
  const known: Lease = { ...begun, state: 'revoking', handle, due: Math.min(begun.due, clock()) }
  const changed = await changeLease(ledger, shortIdOf(begun), now => (now.txn === begun.txn ? known : undefined))
  // the same request, made again, may have taken its id
  const lease = changed ?? { ...known, leaseId: begun.leaseId.replace(/[^/]+$/, idFrom(begun.txn)) }
  // unless a try before made it, of which nothing was heard
  if (!changed) await ledger.create(lease).catch(ignoreConflict)
  revoker.take(nameOf(lease))
  revoker.pump()
}

async function abandon(parts: Parts, begun: Lease, certain: boolean): Promise<void> {
  if (!certain) return void (await accept(parts, [entryIn(begun)]))
  await drop(parts, begun).catch(() => parts.adrift.keep(begun.leaseId, () => drop(parts, begun)))
}

/** Nothing was made for it. */
async function drop({ ledger }: Parts, begun: Lease): Promise<void> {
  const kept = await ledger.read(shortIdOf(begun))
  if (kept?.value.txn === begun.txn) await ledger.remove(begun)
}
