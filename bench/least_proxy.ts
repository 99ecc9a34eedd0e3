import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { Pool } from 'undici'

// What Node itself takes for mutual TLS in and plain TCP out, as many processes as there are processors, and nothing written down. Its arguments are which of
// the two it is, a port, the origin to go to, and files of a certificate, its key and an authority.
const [kind, port, origin = '', cert = '', key = '', ca = ''] = process.argv.slice(2)

/** By the sides of the benchmark. */
const floors: Readonly<Record<string, (options: TlsOptions) => void>> = { bytes: forwardBytes, least: forwardRequests }

if (cluster.isPrimary) {
  const workers = Array.from({ length: availableParallelism() }, () => cluster.fork())
  await Promise.all(workers.map(worker => new Promise(resolve => worker.once('listening', resolve))))
  process.stdout.write('serves\n')
} else {
  const [certPem, keyPem, caPem] = [cert, key, ca].map(file => readFileSync(file))
  floors[kind ?? '']?.({
    cert: certPem,
    key: keyPem,
    ca: caPem,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
  })
}

/** A connection out for each that comes in; what the bytes say is not looked at. No JavaScript can do less. */
function forwardBytes(options: TlsOptions): void {
  const to = new URL(origin)
  const server = createTlsServer(options, inner => {
    const outer = connect(Number(to.port), to.hostname).setNoDelay(true)
    inner.setNoDelay(true).on('error', () => outer.destroy())
    outer.on('error', () => inner.destroy())
    inner.pipe(outer).pipe(inner)
  })
  server.listen(Number(port), '127.0.0.1')
}

/** The least proxy that Node's HTTP and undici allow: another Authorization out, nothing else looked at. */
function forwardRequests(options: TlsOptions): void {
  const pool = new Pool(origin, { connections: 256, pipelining: 1, allowH2: false })
  const server = createHttpsServer(options, (incoming, outgoing) => {
    const headers = ['Authorization', 'Bearer in-place-of-the-real-one']
    pool.dispatch(
      { path: incoming.url ?? '', method: 'GET', headers },
      {
        onRequestStart: () => undefined,
        onResponseStart: (controller, status, told) => {
          outgoing.on('drain', () => controller.resume())
          outgoing.writeHead(status, told)
        },
        onResponseData: (controller, chunk) => {
          if (!outgoing.write(chunk)) controller.pause()
        },
        onResponseEnd: () => outgoing.end(),
        onResponseError: () => outgoing.destroy(),
      },
    )
  })
  server.listen(Number(port), '127.0.0.1')
}
