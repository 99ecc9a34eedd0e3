import { createServer, type ServerResponse } from 'node:http'
import { BrokerError } from '#engine'
import { listen, urlOf } from './listen.ts'
import type { ProxyMetrics } from './metrics.ts'

/** Where operators look: a port of its own, which agents need not reach. */
export type Lookout = { readonly url: string; readonly close: () => Promise<void> }

export type LookoutPorts = {
  readonly listen: { readonly host: string; readonly port: number }
  readonly metrics: Pick<ProxyMetrics, 'text' | 'contentType'>
  /** what has to hold to serve anybody, by name */
  readonly checks: () => Readonly<Record<string, boolean>>
}

/** Serves `/metrics`, `/healthz` and `/readyz`. Asks nobody: what it says is known. @throws BrokerError unavailable when it cannot listen there */
export async function openLookout({ listen: where, metrics, checks }: LookoutPorts): Promise<Lookout> {
  const json = (outgoing: ServerResponse, status: number, body: object) =>
    outgoing.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }).end(JSON.stringify(body))
  const pages: Readonly<Record<string, (outgoing: ServerResponse) => unknown>> = {
    '/metrics': async outgoing => {
      const text = await metrics.text()
      outgoing.writeHead(200, { 'Content-Type': metrics.contentType, 'Cache-Control': 'no-store' }).end(text)
    },
    '/healthz': outgoing => json(outgoing, 200, { live: true }),
    '/readyz': outgoing => {
      const all = checks()
      const ready = Object.values(all).every(Boolean)
      json(outgoing, ready ? 200 : 503, { ready, checks: all })
    },
  }
  const server = createServer(
    { maxHeaderSize: 8192, headersTimeout: 5000, requestTimeout: 5000 },
    ({ method, url = '' }, outgoing) => {
      const page = method === 'GET' && Object.hasOwn(pages, url) ? pages[url] : undefined
      if (page) void page(outgoing)
      else json(outgoing, 404, { errors: ['wanted GET of /metrics, /healthz or /readyz'] })
    },
  )
  server.maxConnections = 64
  // each worker has a port of its own: what one says is of itself alone
  await listen(server, { ...where, exclusive: true }).catch((cause: unknown) => {
    throw new BrokerError('unavailable', `metrics: cannot listen on ${where.host} ${where.port}`, { cause })
  })
  return {
    url: urlOf('http', server),
    close: async () => {
      server.close().closeAllConnections()
    },
  }
}
