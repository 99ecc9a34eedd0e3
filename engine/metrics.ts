import { codes } from './errors.ts'
import { expiryStates } from './integrations/expiry.ts'
import { issuers } from './issuers/index.ts'
import { endings } from './leases/provider.ts'
import { reasons } from './lifecycle/machine.ts'
import { counter, gauge, histogram, type MeterOptions, type Meters, openMeters, processRows, processWords } from './meters.ts'
import { mountTypes } from './mount_table.ts'
import { refusals } from './refusals.ts'
import { stores } from './stores/index.ts'

/** What a label may say. Anything else counts as `other`: nobody who asks can make a new series. */
const words = {
  ...processWords,
  mount_type: [...Object.keys(mountTypes), 'sys'],
  operation: ['create', 'read', 'update', 'delete', 'list', 'help'],
  reason: Object.keys(reasons),
  code: [...Object.keys(refusals), ...Object.keys(codes)],
  issuer: Object.keys(issuers),
  ending: endings,
  store: Object.keys(stores),
  state: expiryStates,
} as const

const waits = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

const own = {
  requests: counter('requests_total', 'Requests to mounts of this broker that were answered', [
    'mount_type',
    'operation',
    'outcome',
  ]),
  passed: counter('passed_requests_total', 'Requests that were passed through to Vault', ['outcome']),
  refusals: counter('refusals_total', 'Refusals by code', ['code']),
  issues: counter('issues_total', 'Credentials that were issued', ['issuer']),
  leasesHeld: gauge('leases_held', 'Leases of this broker that are not ended, of all replicas', []),
  leasesOverdue: gauge('leases_overdue', 'Leases that are due and that this replica has not ended yet', []),
  leaseEndings: counter('lease_endings_total', 'Leases that ended here, by how', ['ending']),
  leaseFailures: counter(
    'lease_revocation_failures_total',
    'Tries to end a credential that its provider did not answer with success',
    ['issuer'],
  ),
  storeCalls: counter('store_calls_total', 'Calls to stores of root credentials', ['store', 'outcome']),
  staleReads: counter('stale_root_reads_total', 'Credentials made from a root credential whose store did not answer', []),
  integrations: gauge('integrations', 'Integrations by the state of their root credentials', ['state']),
  challengesDrawn: counter('challenges_drawn_total', 'Challenges that were drawn', []),
  challengesRedeemed: counter('challenges_redeemed_total', 'Challenges that were answered', ['outcome']),
  challengesHeld: gauge('challenges_held', 'Challenges that are kept in memory now', []),
  revocationSeconds: histogram(
    'revocation_seconds',
    'Time from the quote or the order that ended what a machine had until its last token was revoked',
    ['reason'],
    waits,
  ),
  machinesOverdue: gauge(
    'machines_overdue',
    'Machines whose tokens or leases were to be revoked half a minute ago and that this replica could not revoke yet',
    [],
  ),
  webhookPushes: counter('webhook_pushes_total', 'Security events that were pushed to webhooks', ['outcome']),
} as const

/** Every metric, once. Names get the prefix `assay_`. */
export const rows = { ...own, ...processRows }

export type Metrics = Meters<typeof own>

/** The metrics of one service, in a registry of its own. */
export function openMetrics(options: MeterOptions): Metrics {
  return openMeters(own, words, options)
}
