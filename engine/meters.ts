import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Sync } from './audit/writer.ts'
import { openProcessState } from './process_state.ts'

/** What a label may say; undefined for labels that only we write. Anything else counts as `other`: nobody who asks can make a new series. */
export type Words = Readonly<Record<string, readonly string[] | undefined>>
type Row = { readonly kind: string; readonly name: string; readonly help: string; readonly labels: readonly string[] }
type Rows = Readonly<Record<string, Row>>
type Labels<R extends Row> = Readonly<Record<R['labels'][number], string>>
type Meter<R extends Row> = R['kind'] extends 'counter'
  ? { readonly inc: (labels: Labels<R>, by?: number) => void }
  : R['kind'] extends 'histogram'
    ? { readonly observe: (labels: Labels<R>, value: number) => void }
    : {
        readonly set: (labels: Labels<R>, value: number) => void
        readonly follow: (labels: Labels<R>, read: () => number) => void
      }
type MetersOf<R extends Rows> = { readonly [name in keyof R]: Meter<R[name]> }

/** The meters of one process, by the names of their rows. */
export type Meters<R extends Rows> = MetersOf<R & typeof processRows> & {
  /** for the Vault client: method, status (0 when there was no answer), seconds, what Vault's clock said */
  readonly upstream: (method: string, status: number, seconds: number, date?: string) => void
  /** for the audit log */
  readonly audit: { readonly onSync: (sync: Sync) => void }
  /** the text that Prometheus reads, and its content type */
  readonly text: () => Promise<string>
  readonly contentType: string
  readonly close: () => void
}

const seconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

/** What every process of ours tells of itself. */
export const processRows = {
  upstreamCalls: counter('upstream_calls_total', 'Calls to Vault', ['outcome']),
  upstreamSeconds: histogram('upstream_call_seconds', 'Time that Vault took to answer', ['outcome'], seconds),
  auditAppendSeconds: histogram(
    'audit_append_seconds',
    'Time that somebody waited for an audit record to be durable',
    [],
    seconds,
  ),
  auditSyncSeconds: histogram('audit_sync_seconds', 'Time that one write and fdatasync took', [], seconds),
  auditSyncRecords: histogram('audit_sync_records', 'Audit records that became durable together', [], sizes),
  auditProblems: counter('audit_problems_total', 'Problems of the audit log', ['kind']),
  eventLoopLag: gauge('event_loop_lag_seconds', 'Lag of the event loop since the last scrape', ['quantile']),
  clockAhead: gauge('clock_ahead_seconds', 'How far the clock here is ahead of Vault’s, which tells whole seconds', []),
  memory: gauge(
    'memory_bytes',
    'Memory of objects and of what they hold outside of the heap, what is garbage by now included',
    [],
  ),
  openFiles: gauge('open_files', 'Files that this process has open, connections among them', []),
  mostFiles: gauge('open_files_limit', 'Files that this process may have open', []),
  certificateEnd: gauge(
    'certificate_end_timestamp_seconds',
    'When the first of the certificates ends that the file of a setting has, in seconds since 1970',
    ['setting'],
  ),
  buildInfo: gauge('build_info', 'Always 1; the labels say what is running', ['version', 'node']),
} as const

/** and the words of its labels */
export const processWords = {
  outcome: ['ok', 'refused', 'failed', 'unreachable', 'given up'],
  kind: ['torn', 'broken', 'sealed', 'stalled', 'unwritable', 'lost'],
  quantile: ['0.5', '0.99', '1'],
  setting: undefined,
  version: undefined,
  node: undefined,
} as const satisfies Words

/** `now`: the wall clock, which is compared with Vault's; without it nothing is said of it */
export type MeterOptions = {
  readonly version: string
  readonly registry?: Registry | undefined
  readonly now?: (() => number) | undefined
}

/** Makes the meters of these rows and of `processRows`, in a registry of their own. */
export function openMeters<R extends Rows>(
  rows: R,
  words: Words & Readonly<Record<R[keyof R]['labels'][number], readonly string[] | undefined>>,
  { version, registry = new Registry(), now = () => Number.NaN }: MeterOptions,
): Meters<R> {
  const all = Object.entries({ ...rows, ...processRows }).map(([name, row]) => [name, meterOf(row, words, registry)])
  const meters = Object.fromEntries(all) as MetersOf<R & typeof processRows>
  const common: MetersOf<typeof processRows> = meters
  common.buildInfo.set({ version, node: process.version }, 1)
  followState(common)
  let seen: { readonly date: string; readonly at: number } | undefined
  common.clockAhead.follow({}, () => (seen ? (seen.at - Date.parse(seen.date)) / 1000 : Number.NaN))
  const stop = followLag(common.eventLoopLag)
  return {
    ...meters,
    upstream: (_method, status, took, date) => {
      if (date !== undefined) seen = { date, at: now() }
      const outcome = outcomeOf(status)
      common.upstreamCalls.inc({ outcome })
      common.upstreamSeconds.observe({ outcome }, took)
    },
    audit: { onSync: sync => observeSync(common, sync) },
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

function observeSync(meters: MetersOf<typeof processRows>, { records, tookMs, waitedMs }: Sync): void {
  meters.auditSyncSeconds.observe({}, tookMs / 1000)
  meters.auditSyncRecords.observe({}, records)
  for (const waited of waitedMs) meters.auditAppendSeconds.observe({}, waited / 1000)
}

function followState({ memory, openFiles, mostFiles }: MetersOf<typeof processRows>): void {
  const state = openProcessState()
  memory.follow({}, state.memoryBytes)
  openFiles.follow({}, state.openFiles)
  mostFiles.follow({}, state.mostFiles)
}

const RESOLUTION_MS = 10

/** The monitor counts from timer to timer, so its own interval is taken off. */
function followLag(lag: MetersOf<typeof processRows>['eventLoopLag']): () => void {
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

export function counter<const L extends readonly string[]>(name: string, help: string, labels: L) {
  return { kind: 'counter', name, help, labels } as const
}

export function gauge<const L extends readonly string[]>(name: string, help: string, labels: L) {
  return { kind: 'gauge', name, help, labels } as const
}

export function histogram<const L extends readonly string[]>(name: string, help: string, labels: L, buckets: number[]) {
  return { kind: 'histogram', name, help, labels, buckets } as const
}

type Given = Readonly<Record<string, string>>
type Bound = (labels: Given) => Given

function meterOf(row: Row & { readonly buckets?: number[] }, words: Words, registry: Registry): object {
  const options = { name: `assay_${row.name}`, help: row.help, labelNames: [...row.labels], registers: [registry] }
  const bound = boundBy(row.labels, words)
  if (row.kind === 'counter') return counts(new Counter(options), bound)
  if (row.kind === 'histogram')
    return observes(new Histogram({ ...options, ...(row.buckets === undefined ? {} : { buckets: row.buckets }) }), bound)
  return gauges(options, bound)
}

/** Labels as they count: made once for all that say the same, of which there are few, as no label says whatever it likes. */
function boundBy(names: readonly string[], words: Words): Bound {
  const made = new Map<string, Given>()
  return labels => {
    let said = ''
    for (const name of names) said += `${labels[name]}\n`
    const known = made.get(said)
    if (known) return known
    const bound = Object.fromEntries(names.map(name => [name, wordOf(words[name], labels[name] ?? '')]))
    if (made.size < MOST) made.set(said, bound)
    return bound
  }
}
const MOST = 1000

function wordOf(allowed: readonly string[] | undefined, word: string): string {
  return allowed === undefined || allowed.includes(word) ? word : 'other'
}

function counts(metric: Counter, bound: Bound) {
  return { inc: (labels: Given, by = 1) => metric.inc(bound(labels), by) }
}

function observes(metric: Histogram, bound: Bound) {
  return { observe: (labels: Given, value: number) => metric.observe(bound(labels), value) }
}

/** A gauge is set, or asked for when it is read. */
function gauges(options: ConstructorParameters<typeof Gauge>[0], bound: Bound) {
  const reads: (() => void)[] = []
  const metric = new Gauge({
    ...options,
    collect: () => {
      for (const read of reads) read()
    },
  })
  const set = (labels: Given, value: number) => metric.set(bound(labels), value)
  return { set, follow: (labels: Given, read: () => number) => void reads.push(() => set(labels, read())) }
}
