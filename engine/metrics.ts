import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Sync } from './audit/writer.ts'
import { codes } from './errors.ts'
import { expiryStates } from './integrations/expiry.ts'
import { issuers } from './issuers/index.ts'
import { endings } from './leases/revoker.ts'
import { reasons } from './lifecycle/machine.ts'
import { mountTypes } from './mount_table.ts'
import { refusals } from './refusals.ts'
import { stores } from './stores/index.ts'

/** What a label may say. Anything else counts as `other`: nobody who asks can make a new series. */
const words = {
  mount_type: [...Object.keys(mountTypes), 'sys'],
  operation: ['create', 'read', 'update', 'delete', 'list', 'help'],
  outcome: ['ok', 'refused', 'failed', 'unreachable', 'given up'],
  reason: Object.keys(reasons),
  code: [...Object.keys(refusals), ...Object.keys(codes)],
  issuer: Object.keys(issuers),
  ending: endings,
  store: Object.keys(stores),
  state: expiryStates,
  kind: ['torn', 'broken', 'sealed', 'stalled', 'unwritable'],
  quantile: ['0.5', '0.99', '1'],
  version: undefined,
  node: undefined,
} as const satisfies Record<string, readonly string[] | undefined>
type Label = keyof typeof words

const seconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const waits = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]
const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

/** Every metric, once. Names get the prefix `assay_`. */
export const rows = {
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
  upstreamCalls: counter('upstream_calls_total', 'Calls to Vault', ['outcome']),
  upstreamSeconds: histogram('upstream_call_seconds', 'Time that Vault took to answer', ['outcome'], seconds),
  storeCalls: counter('store_calls_total', 'Calls to stores of root credentials', ['store', 'outcome']),
  staleReads: counter('stale_root_reads_total', 'Credentials made from a root credential whose store did not answer', []),
  integrations: gauge('integrations', 'Integrations by the state of their root credentials', ['state']),
  auditAppendSeconds: histogram('audit_append_seconds', 'Time from appending an audit record until it was durable', [], seconds),
  auditSyncSeconds: histogram('audit_sync_seconds', 'Time that one write and fdatasync took', [], seconds),
  auditSyncRecords: histogram('audit_sync_records', 'Audit records that became durable together', [], sizes),
  auditProblems: counter('audit_problems_total', 'Problems of the audit log', ['kind']),
  challengesDrawn: counter('challenges_drawn_total', 'Challenges that were drawn', []),
  challengesRedeemed: counter('challenges_redeemed_total', 'Challenges that were answered', ['outcome']),
  challengesHeld: gauge('challenges_held', 'Challenges that are kept in memory now', []),
  revocationSeconds: histogram(
    'revocation_seconds',
    'Time from the quote or the order that ended what a machine had until its last token was revoked',
    ['reason'],
    waits,
  ),
  webhookPushes: counter('webhook_pushes_total', 'Security events that were pushed to webhooks', ['outcome']),
  eventLoopLag: gauge('event_loop_lag_seconds', 'Lag of the event loop since the last scrape', ['quantile']),
  buildInfo: gauge('build_info', 'Always 1; the labels say what is running', ['version', 'node']),
} as const

type Row = { readonly kind: string; readonly name: string; readonly help: string; readonly labels: readonly Label[] }
type Labels<R extends Row> = Readonly<Record<R['labels'][number], string>>
type Meter<R extends Row> = R['kind'] extends 'counter'
  ? { readonly inc: (labels: Labels<R>, by?: number) => void }
  : R['kind'] extends 'histogram'
    ? { readonly observe: (labels: Labels<R>, value: number) => void }
    : {
        readonly set: (labels: Labels<R>, value: number) => void
        readonly follow: (labels: Labels<R>, read: () => number) => void
      }
type Meters = { readonly [name in keyof typeof rows]: Meter<(typeof rows)[name]> }

export type Metrics = Meters & {
  /** for the Vault client: method, status (0 when there was no answer), seconds */
  readonly upstream: (method: string, status: number, seconds: number) => void
  /** for the audit log */
  readonly audit: { readonly onSync: (sync: Sync) => void }
  /** the text that Prometheus reads, and its content type */
  readonly text: () => Promise<string>
  readonly contentType: string
  readonly close: () => void
}

/** The metrics of one service, in a registry of its own. */
export function openMetrics({ version, registry = new Registry() }: { version: string; registry?: Registry }): Metrics {
  const made = Object.entries(rows).map(([name, row]) => [name, meterOf(row, registry)])
  const meters = Object.fromEntries(made) as Meters
  meters.buildInfo.set({ version, node: process.version }, 1)
  const stop = followLag(meters.eventLoopLag)
  return {
    ...meters,
    upstream: (_method, status, took) => {
      const outcome = outcomeOf(status)
      meters.upstreamCalls.inc({ outcome })
      meters.upstreamSeconds.observe({ outcome }, took)
    },
    audit: { onSync: sync => observeSync(meters, sync) },
    text: () => registry.metrics(),
    contentType: registry.contentType,
    close: stop,
  }
}

/** How a call ended, by the status of the answer; 0 is none. */
export function outcomeOf(status: number): 'ok' | 'refused' | 'failed' | 'unreachable' {
  if (status < 100) return 'unreachable'
  if (status < 400) return 'ok'
  return status < 500 ? 'refused' : 'failed'
}

function observeSync(meters: Meters, { records, tookMs, waitedMs }: Sync): void {
  meters.auditSyncSeconds.observe({}, tookMs / 1000)
  meters.auditSyncRecords.observe({}, records)
  for (const waited of waitedMs) meters.auditAppendSeconds.observe({}, waited / 1000)
}

const RESOLUTION_MS = 10

/** The monitor counts from timer to timer, so its own interval is taken off. */
function followLag(lag: Meters['eventLoopLag']): () => void {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  monitor.enable()
  const secondsOf = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1e3)
  lag.follow({ quantile: '0.5' }, () => secondsOf(monitor.percentile(50)))
  lag.follow({ quantile: '0.99' }, () => secondsOf(monitor.percentile(99)))
  lag.follow({ quantile: '1' }, () => {
    const max = secondsOf(monitor.max)
    monitor.reset()
    return max
  })
  return () => void monitor.disable()
}

function counter<const L extends readonly Label[]>(name: string, help: string, labels: L) {
  return { kind: 'counter', name, help, labels } as const
}

function gauge<const L extends readonly Label[]>(name: string, help: string, labels: L) {
  return { kind: 'gauge', name, help, labels } as const
}

function histogram<const L extends readonly Label[]>(name: string, help: string, labels: L, buckets: number[]) {
  return { kind: 'histogram', name, help, labels, buckets } as const
}

function meterOf(row: (typeof rows)[keyof typeof rows], registry: Registry): object {
  const options = { name: `assay_${row.name}`, help: row.help, labelNames: [...row.labels], registers: [registry] }
  if (row.kind === 'counter') return counts(new Counter(options))
  if (row.kind === 'histogram') return observes(new Histogram({ ...options, buckets: row.buckets }))
  return gauges(options)
}

type Given = Readonly<Record<string, string>>

function counts(metric: Counter): Meter<typeof rows.requests> {
  return { inc: (labels: Given, by = 1) => metric.inc(bounded(labels), by) }
}

function observes(metric: Histogram): Meter<typeof rows.upstreamSeconds> {
  return { observe: (labels: Given, value) => metric.observe(bounded(labels), value) }
}

/** A gauge is set, or asked for when it is read. */
function gauges(options: ConstructorParameters<typeof Gauge>[0]): Meter<typeof rows.eventLoopLag> {
  const reads: (() => void)[] = []
  const metric = new Gauge({
    ...options,
    collect: () => {
      for (const read of reads) read()
    },
  })
  const set = (labels: Given, value: number) => metric.set(bounded(labels), value)
  return { set, follow: (labels, read) => void reads.push(() => set(labels, read())) }
}

function bounded(labels: Given): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([label, word]) => [label, isWord(label as Label, word) ? word : 'other']))
}

function isWord(label: Label, word: string): boolean {
  const allowed: readonly string[] | undefined = words[label]
  return allowed === undefined || allowed.includes(word)
}
