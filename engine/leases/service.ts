import type { Mount } from '../mount_table.ts'
import type { Time } from '../time.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { openAdrift } from './adrift.ts'
import { type Begin, type Begun, begin } from './begin.ts'
import { accept, end, entryIn, type How } from './end.ts'
import type { Lease } from './lease.ts'
import { openLedger } from './ledger.ts'
import type { Entry } from './name.ts'
import { find, type Longest, type Parts } from './parts.ts'
import type { Ended, Provider } from './provider.ts'
import { renew } from './renewal.ts'
import { openRevoker } from './revoker.ts'
import { everySoOften, sweepDue } from './rounds.ts'
import { type Through, through } from './through.ts'
import { openTokenWatch, type Tokens } from './tokens.ts'
import { below, matcher, slashed, type Which } from './which.ts'

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
  /** What nothing could revoke any more without this integration. */
  readonly through: (mount: Mount, integration: string) => Promise<Through>
  /** what this replica could not revoke for so long that Vault would have given up, and why where that may be told: it goes on */
  readonly stuck: () => readonly (Pick<Entry, 'path' | 'id'> & { readonly why: string | undefined })[]
  /** Looks now, of which tokens with leases are gone. */
  readonly lookAtTokens: () => Promise<void>
  readonly tidy: () => Promise<{ readonly named: number; readonly dropped: number }>
  /** One round of what happens by itself every second. */
  readonly sweep: () => Promise<void>
  /** seconds since the epoch, by the clock of the leases */
  readonly now: () => number
  readonly stop: () => Promise<void>
}

export type LeasesOptions = {
  readonly world: World
  readonly time: Pick<Time, 'earlier'>
  readonly store: Store
  readonly provider: Provider
  readonly tokens: Tokens
  readonly longest: Longest
  readonly onEnd: (lease: Lease, how: Ended) => void
  readonly onFailure: (lease: Lease, error: unknown) => void
  /** read when it is asked for: what is held, and what is due and not done */
  readonly observe?: (read: { readonly held: () => number; readonly overdue: () => number }) => void
  /** what makes rounds by itself, and ends that; every so often when left out */
  readonly rounds?: typeof everySoOften
}

/** Vault gives up after six tries. */
const STUCK = 6

/** Leases of this broker's own. Ends when it knows all there are. @throws BrokerError unavailable when the store does not answer */
export async function openLeases(options: LeasesOptions): Promise<Leases> {
  const { world, time, tokens, provider, longest, onEnd, rounds = everySoOften } = options
  const clock = () => Math.floor(time.earlier() / 1000)
  const ledger = openLedger(options.store)
  const me = world.random(9).toString('base64url')
  const revoker = openRevoker({ ...options, ledger, clock, me })
  const adrift = openAdrift(world)
  const parts: Parts = { world, clock, ledger, revoker, adrift, provider, longest, onEnd }
  const byTag = (tag: string) =>
    accept(
      parts,
      ledger.calendar.where(entry => entry.accessorTag === tag),
    )
  const watch = openTokenWatch(ledger, tokens, world, byTag)
  options.observe?.({ held: ledger.calendar.size, overdue: () => revoker.waiting().length })
  await ledger.refresh()
  const stop = rounds(parts, watch)
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
    through: (mount, integration) => through(parts, mount, integration),
    stuck: () => {
      const stuck = new Map(revoker.waiting().flatMap(({ id, failures, why }) => (failures >= STUCK ? [[id, why]] : [])))
      return ledger.calendar.where(({ id }) => stuck.has(id)).map(({ path, id }) => ({ path, id, why: stuck.get(id) }))
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
      await adrift.round()
      sweepDue(parts)
      await revoker.idle()
    },
    now: clock,
    stop,
  }
}
