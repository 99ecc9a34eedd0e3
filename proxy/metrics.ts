import { counter, gauge, histogram, type MeterOptions, type Meters, openMeters, processRows, processWords } from '#engine'
import { refusals } from './refusals.ts'

/** Services are those that an operator declared: nobody who asks can make a new series. */
const words = { ...processWords, service: undefined, code: Object.keys(refusals) } as const

const seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

const own = {
  swaps: counter('proxy_swaps_total', 'Requests and sessions that went out with a real credential', ['service']),
  refusals: counter('proxy_refusals_total', 'Refusals by code', ['code']),
  answers: histogram(
    'proxy_upstream_seconds',
    'Time from a request that went out until the head of its answer came',
    ['service', 'outcome'],
    seconds,
  ),
  connections: gauge('proxy_connections', 'Connections of agents that are open, tunnels and WebSockets among them', []),
  sessions: gauge('proxy_sessions', 'Connections that are open at the ports of other protocols', []),
  opened: counter('proxy_tokens_opened_total', 'Sealed tokens that were opened, as they were not remembered', ['outcome']),
} as const

/** Every metric of the proxy, once. Names get the prefix `assay_`. */
export const rows = { ...own, ...processRows }

export type ProxyMetrics = Meters<typeof own>

export function openMetrics(options: MeterOptions): ProxyMetrics {
  return openMeters(own, words, options)
}
