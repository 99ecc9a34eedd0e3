import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { openClock } from './clock.ts'
import { type Handle, idFrom, idOf, type Lease, PENDING_SECONDS, tagOf } from './lease.ts'
import { changeLease, type Ledger, openLedger } from './ledger.ts'
import { type Entry, idIn, nameOf } from './name.ts'
import { inParallel } from './parallel.ts'
import { type Ended, openRevoker, type Provider, type Revoker } from './revoker.ts'
import { openTokenWatch, type Tokens } from './tokens.ts'

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
}

export type Begun = {
  readonly leaseId: string
  /** What was made and when its provider ends it. @throws BrokerError unavailable when the lease was revoked meanwhile, or cannot be kept: then so is what was made */
  readonly confirm: (handle: Handle, expiresAt: number) => Promise<Lease>
  /** The provider made nothing, for certain or as far as is known: in the second case it is looked after as if it had. */
  readonly abandon: (certain: boolean) => Promise<void>
}

/** Which leases. */
export type Which =
  | { readonly accessor: string }
  | { readonly tpmId: string }
  | { readonly mount: Mount }
  /** as Vault has prefixes: `broker/creds`, with all below it */
  | { readonly prefix: string }

export type Leases = {
  /** Durable before it ends: only then the provider may be called. @throws BrokerError unavailable when it cannot be kept, conflict while the same request is answered elsewhere */
  readonly begin: (asked: Begin) => Promise<Begun>
  readonly lookup: (leaseId: string) => Promise<Lease | undefined>
  /** @throws BrokerError bad_request when there is no such lease, or it cannot be renewed */
  readonly renew: (leaseId: string, incrementSeconds: number) => Promise<{ readonly lease: Lease; readonly capped: boolean }>
  /** Accepts the revocation for good. `left`: how many are not revoked yet, after those that could be were; of `force` none, whatever the provider says. */
  readonly revoke: (leaseId: string, how?: How) => Promise<number>
  readonly revokeWhere: (which: Which, how?: How) => Promise<{ readonly found: number; readonly left: number }>
  readonly list: (prefix: string) => Promise<readonly string[]>
  /** what this replica could not revoke for so long that Vault would have given up: it goes on */
  readonly stuck: () => readonly Entry[]
  /** Looks now, of which tokens with leases are gone. */
  readonly lookAtTokens: () => Promise<void>
  readonly tidy: () => Promise<{ readonly named: number; readonly dropped: number }>
  /** One round of what happens by itself every second. */
  readonly sweep: () => Promise<void>
  /** seconds since the epoch, by the clock of the leases */
  readonly now: () => number
  readonly stop: () => Promise<void>
}
/** `sync`: waits for the provider, for a while. */
export type How = { readonly sync?: boolean; readonly force?: boolean }

export type LeasesOptions = {
  readonly world: World
  readonly store: Store
  readonly provider: Provider
  readonly tokens: Tokens
  readonly onEnd: (lease: Lease, how: Ended) => void
  readonly onFailure: (lease: Lease, error: unknown) => void
  /** read when it is asked for: what is held, and what is due and not done */
  readonly observe?: (read: { readonly held: () => number; readonly overdue: () => number }) => void
}

const SWEEP_MS = 1_000
const LOOK_MS = 3_000
const REFRESH_MS = 5_000
/** A list of everything takes at most this share of the time. */
const REFRESH_SHARE = 20
const SYNC_MS = 10_000
const FORCE_MS = 1_000
const AT_ONCE = 32
/** Vault gives up after six tries. */
const STUCK = 6

/** Leases of this broker's own. Ends when it knows all there are. @throws BrokerError unavailable when the store does not answer */
export async function openLeases(options: LeasesOptions): Promise<Leases> {
  const { world, tokens } = options
  const clock = openClock(world)
  const ledger = openLedger(options.store)
  const me = world.random(9).toString('base64url')
  const revoker = openRevoker({ ...options, ledger, clock, me })
  const parts: Parts = { world, clock, ledger, revoker, provider: options.provider, onEnd: options.onEnd }
  const byTag = (tag: string) =>
    accept(
      parts,
      ledger.calendar.where(entry => entry.accessorTag === tag),
    )
  const watch = openTokenWatch(ledger, tokens, world, byTag)
  options.observe?.({ held: ledger.calendar.size, overdue: () => revoker.waiting().length })
  await ledger.refresh()
  const stop = everySoOften(parts, watch)
  return {
    begin: asked => begin(parts, asked),
    lookup: leaseId => find(ledger, leaseId),
    renew: (leaseId, increment) => renew(parts, tokens, leaseId, increment),
    revoke: async (leaseId, how = {}) => {
      const lease = await find(ledger, leaseId)
      return lease ? end(parts, [entryIn(lease)], how) : 0
    },
    revokeWhere: async (which, how = {}) => {
      await ledger.refresh()
      const entries = ledger.calendar.where(matcher(which))
      return { found: entries.length, left: await end(parts, entries, how) }
    },
    list: async prefix => {
      await ledger.refresh()
      return below(
        prefix,
        ledger.calendar.where(entry => `${entry.path}/`.startsWith(slashed(prefix))),
      )
    },
    stuck: () => {
      const ids = new Set(revoker.waiting().flatMap(({ id, failures }) => (failures >= STUCK ? [id] : [])))
      return ledger.calendar.where(({ id }) => ids.has(id))
    },
    lookAtTokens: watch,
    tidy: async () => {
      await ledger.refresh()
      return ledger.tidy(clock())
    },
    sweep: async () => {
      await ledger.refresh()
      await ledger.pack(clock())
      await watch()
      sweepDue(parts)
      await revoker.idle()
    },
    now: clock,
    stop,
  }
}

type Parts = {
  readonly world: World
  readonly clock: () => number
  readonly ledger: Ledger
  readonly revoker: Revoker
  readonly provider: Provider
  readonly onEnd: (lease: Lease, how: Ended) => void
}

function sweepDue({ ledger, revoker, clock }: Parts): void {
  for (const name of ledger.calendar.due(clock())) revoker.take(name)
  revoker.pump()
}

/** What is due, each second; which tokens are gone, each three; what others made, each five or less often when there is much. */
function everySoOften(parts: Parts, watch: () => Promise<void>): () => Promise<void> {
  const { world, ledger, revoker } = parts
  const flights = new Set<Promise<unknown>>()
  let stopped = false
  const round = (make: () => unknown, pauseMs: () => number) => {
    const turn = async () => {
      const flight = (async () => make())().catch((error: unknown) => {
        world.log.warn({ error }, 'the leases could not be looked at: they are looked at again')
      })
      flights.add(flight)
      await flight
      flights.delete(flight)
      if (!stopped) timer = setTimeout(() => void turn(), pauseMs()).unref()
    }
    let timer = setTimeout(() => void turn(), pauseMs()).unref()
    return () => clearTimeout(timer)
  }
  let tookMs = 0
  const refresh = async () => {
    const at = world.monotonic()
    await ledger.refresh()
    tookMs = world.monotonic() - at
    await ledger.pack(parts.clock())
  }
  const stops = [
    round(
      () => sweepDue(parts),
      () => SWEEP_MS,
    ),
    round(watch, () => LOOK_MS),
    round(refresh, () => Math.max(REFRESH_MS, tookMs * REFRESH_SHARE)),
  ]
  return async () => {
    stopped = true
    for (const stop of stops) stop()
    await Promise.all(flights)
    await revoker.idle()
  }
}

async function find(ledger: Ledger, leaseId: string): Promise<Lease | undefined> {
  const id = idOf(leaseId)
  const kept = id === undefined ? undefined : await ledger.read(id)
  return kept?.value.leaseId === leaseId ? kept.value : undefined
}

// begin, confirm, abandon

async function begin(parts: Parts, asked: Begin): Promise<Begun> {
  const { ledger, clock, world } = parts
  const at = clock()
  const id = asked.request === undefined ? idFrom(world.random(32).toString('hex')) : requestId(asked.request, at)
  if (asked.request !== undefined) await clear(parts, requestId(asked.request, at - PENDING_SECONDS))
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
  }
  try {
    await ledger.create(lease)
  } catch (error) {
    if (!isConflict(error)) throw error
    await clear(parts, id)
    await ledger.create(lease)
  }
  return {
    leaseId: lease.leaseId,
    confirm: (handle, expiresAt) => confirm(parts, lease, handle, expiresAt),
    abandon: certain => abandon(parts, lease, certain),
  }
}

/** The same request has the same id within a minute of the clock. */
const requestId = (request: string, at: number) => idFrom(request, String(Math.floor(at / PENDING_SECONDS)))

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
  const id = idOf(begun.leaseId) ?? ''
  try {
    const lease = await changeLease(parts.ledger, id, lease => {
      if (lease.txn !== begun.txn || lease.state !== 'pending') return undefined
      const ends = Math.min(lease.expiresAt, expiresAt)
      const { maxExpiresAt } = lease
      return { ...lease, state: 'active', handle, expiresAt: ends, maxExpiresAt: Math.min(maxExpiresAt, expiresAt), due: ends }
    })
    if (lease) return lease
    await handOver(parts, begun, handle)
  } catch (error) {
    await parts.provider.revoke(begun, handle).catch((again: unknown) => {
      parts.world.log.error(
        { error: again, lease: begun.leaseId },
        'a credential that could not be recorded could not be revoked either',
      )
    })
    throw error
  }
  throw new BrokerError('unavailable', 'the credential was revoked while it was made: ask again')
}

/** What was made for a lease that was revoked, or taken for lost, meanwhile: it is known how to end it now. */
async function handOver(parts: Parts, begun: Lease, handle: Handle): Promise<void> {
  const { ledger, revoker, clock } = parts
  const { claim: _, ...rest } = begun
  const lease: Lease = { ...rest, state: 'revoking', handle, due: Math.min(begun.due, clock()) }
  const changed = await changeLease(ledger, idOf(begun.leaseId) ?? '', now => (now.txn === begun.txn ? lease : undefined))
  if (!changed) await ledger.create(lease)
  revoker.take(nameOf(lease))
  revoker.pump()
}

async function abandon(parts: Parts, begun: Lease, certain: boolean): Promise<void> {
  if (certain) return parts.ledger.remove(begun)
  await accept(parts, [entryIn(begun)])
}

// revocation

const entryIn = (lease: Lease): Pick<Entry, 'id'> => ({ id: idOf(lease.leaseId) ?? '' })

/** Makes it durable that these are to be revoked, and begins. */
async function accept(parts: Parts, entries: readonly Pick<Entry, 'id'>[]): Promise<readonly string[]> {
  const { ledger, revoker, clock } = parts
  const names = await inParallel(entries, AT_ONCE, async ({ id }) => {
    const changed = await changeLease(ledger, id, lease =>
      lease.state === 'revoking' ? undefined : { ...lease, state: 'revoking', due: Math.min(lease.due, clock()) },
    )
    const lease = changed ?? (await ledger.read(id))?.value
    return lease && nameOf(lease)
  })
  const there = names.filter(name => name !== undefined)
  for (const name of there) revoker.take(name)
  revoker.pump()
  return there
}

async function end(parts: Parts, entries: readonly Pick<Entry, 'id'>[], { sync = false, force = false }: How): Promise<number> {
  const names = await accept(parts, entries)
  if (!sync && !force) return names.length
  const until = parts.world.monotonic() + (force ? FORCE_MS : SYNC_MS)
  const ended = await inParallel(names, AT_ONCE, async name => {
    const done = await settled(parts, name, until)
    if (!done && force) await forget(parts, name)
    return done || force
  })
  return ended.filter(done => !done).length
}

/** Waits until it is gone, or until so long. */
async function settled({ ledger, revoker, world }: Parts, name: string, until: number): Promise<boolean> {
  if ((await revoker.now(name)) === 'failed') return false
  for (;;) {
    if (!(await ledger.read(idIn(name)))) return true
    if (world.monotonic() >= until) return false
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}

async function forget({ ledger, onEnd }: Parts, name: string): Promise<void> {
  const kept = await ledger.read(idIn(name))
  if (!kept) return
  await ledger.remove(kept.value, [name])
  onEnd(kept.value, 'forced')
}

// renewal

async function renew(parts: Parts, tokens: Tokens, leaseId: string, increment: number) {
  const before = await find(parts.ledger, leaseId)
  if (before?.state !== 'active') throw new BrokerError('bad_request', 'lease not found')
  const token = before.accessor === '' ? undefined : await tokens(before.accessor)
  if (token?.alive === false) throw new BrokerError('bad_request', 'lease not found')
  const now = parts.clock()
  let capped = false
  const lease = await changeLease(parts.ledger, idOf(leaseId) ?? '', lease => {
    if (lease.state !== 'active' || lease.expiresAt <= now) throw new BrokerError('bad_request', 'lease expired')
    const bound = Math.min(lease.maxExpiresAt, now + (token?.ttlSeconds ?? 0), ...(token ? [] : [lease.expiresAt]))
    if (lease.maxExpiresAt <= now) throw new BrokerError('bad_request', 'past the max TTL, cannot renew')
    const wanted = now + (increment > 0 ? increment : lease.ttlSeconds)
    capped = wanted > bound
    const expiresAt = Math.floor(Math.min(wanted, bound))
    return { ...lease, expiresAt, due: expiresAt, renewedAt: now }
  })
  if (!lease) throw new BrokerError('bad_request', 'lease not found')
  return { lease, capped }
}

// which, and what is below

function matcher(which: Which): (entry: Entry) => boolean {
  if ('accessor' in which) return byTag('accessorTag', which.accessor)
  if ('tpmId' in which) return byTag('tpmTag', which.tpmId)
  const prefix = 'mount' in which ? which.mount.path : which.prefix
  return ({ path, id }) => `${path}/${id}`.startsWith(prefix)
}

function byTag(name: 'accessorTag' | 'tpmTag', value: string): (entry: Entry) => boolean {
  const tag = tagOf(value)
  return entry => tag !== '' && entry[name] === tag
}

const slashed = (prefix: string) => (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`)

/** The next parts of the ids below a prefix, as Vault lists: folders end in a slash. */
function below(prefix: string, entries: readonly Entry[]): readonly string[] {
  const start = slashed(prefix).length
  const rests = entries.map(({ path, id }) => `${path}/${id}`.slice(start))
  return [...new Set(rests.map(rest => rest.replace(/\/.*$/, '/')))].toSorted()
}
