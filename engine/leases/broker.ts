import { type Audit, plain } from '../audit/index.ts'
import type { Metrics } from '../metrics.ts'
import type { Time } from '../time.ts'
import type { OwnVault } from '../vault/own.ts'
import { openStore } from '../vault/store.ts'
import type { World } from '../world.ts'
import type { Lease } from './lease.ts'
import type { Longest } from './parts.ts'
import type { Provider } from './provider.ts'
import { type Leases, openLeases } from './service.ts'
import { openTokens } from './tokens.ts'

export type LeaseParts = {
  readonly world: World
  readonly time: Time
  readonly own: OwnVault
  readonly audit: Audit
  readonly metrics: Metrics
  /** the KV v2 mount with all durable state */
  readonly kv: string
  /** asked when it is needed: issuers want leases, and leases want issuers */
  readonly provider: () => Provider
  readonly longest: Longest
}

/** The leases of a running broker: kept in Vault, told to the audit log and to the metrics. */
export function openBrokerLeases({ world, time, own, audit, metrics, kv, provider, longest }: LeaseParts): Promise<Leases> {
  const told = (lease: Lease, result: string) =>
    audit.appendLazy({
      type: 'outcome',
      txn: lease.txn,
      operation: 'revoke',
      mount: 'sys/',
      path: 'leases/revoke',
      fields: { result: plain(result), lease_id: plain(lease.leaseId), tpm_id: plain(lease.tpmId), issuer: plain(lease.issuer) },
    })
  return openLeases({
    world,
    time,
    // a store of its own, as leases are read once and would push what is read often out of the cache
    store: openStore(own, kv, world.monotonic, 1),
    provider: { revoke: (lease, handle) => provider().revoke(lease, handle), find: lease => provider().find(lease) },
    tokens: openTokens(own),
    longest,
    onEnd: (lease, how) => {
      metrics.leaseEndings.inc({ ending: how })
      told(lease, how)
    },
    onFailure: (lease, error) => {
      metrics.leaseFailures.inc({ issuer: lease.issuer })
      const drop = `vault lease revoke -force -prefix ${lease.leaseId}`
      world.log.warn(
        { error, lease: lease.leaseId, drop },
        'a credential could not be revoked: it is tried again until it is, or is dropped',
      )
    },
    observe: ({ held, overdue }) => {
      metrics.leasesHeld.follow({}, held)
      metrics.leasesOverdue.follow({}, overdue)
    },
  })
}
