import { LRUCache } from 'lru-cache'
import { Pool } from 'undici'
import { type DialOptions, openDial } from './dial.ts'
import { resetGivenUp } from './resets.ts'

/** Connections to upstream servers, kept apart by tenant: what one has opened carries nothing of another. */
export type Upstreams = {
  /** @param upgrade for what becomes another protocol: over HTTP/1.1, whatever the server speaks beside it */
  readonly of: (tenant: string, origin: string, upgrade?: 'upgrade') => Pool
  /** how long a request may wait for a connection: no other deadline of it has begun until then */
  readonly placeWithinMs: number
  /** Leaves each connection to end with what is under way on it. */
  readonly retire: () => void
  readonly close: () => Promise<void>
}

export type UpstreamOptions = DialOptions & {
  readonly connections: number
  /** from the last byte of a request to the head of its answer */
  readonly headWithinMs: number
  /** between two pieces of an answer */
  readonly stallMs: number
}

const POOLS = 512
const KEPT_MS = 30_000

export function openUpstreams(options: UpstreamOptions): Upstreams {
  if (options.http2) resetGivenUp()
  const pools = new LRUCache<string, Pool>({ max: POOLS, dispose: pool => void pool.close() })
  const connects = { all: openDial(options), upgrade: openDial({ ...options, http2: false }) }
  const open = (origin: string, upgrade: 'upgrade' | undefined) =>
    new Pool(origin, {
      connect: connects[upgrade ?? 'all'],
      connections: options.connections,
      pipelining: 1,
      allowH2: options.http2 && upgrade === undefined,
      keepAliveTimeout: KEPT_MS,
      headersTimeout: options.headWithinMs,
      bodyTimeout: options.stallMs,
      maxHeaderSize: 64 * 1024,
    })
  return {
    placeWithinMs: options.timeoutMs + options.headWithinMs,
    of: (tenant, origin, upgrade) => {
      const name = `${upgrade ?? ''} ${origin} ${tenant}`
      const kept = pools.get(name)
      if (kept) return kept
      const made = open(origin, upgrade)
      pools.set(name, made)
      return made
    },
    retire: () => pools.clear(),
    close: async () => {
      const open = [...pools.values()]
      pools.clear()
      await Promise.all(open.map(pool => pool.destroy()))
    },
  }
}
