import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { availableParallelism } from 'node:os'
import { Pool } from 'undici'

// The least proxy that Node's HTTP and undici allow, as many processes as there are processors: mutual TLS in, another Authorization out, nothing looked at and
// nothing written down. What it takes is not ours.
const [port, origin = '', cert = '', key = '', ca = ''] = process.argv.slice(2)
const workers = availableParallelism()

if (cluster.isPrimary) {
  const listening = Array.from({ length: workers }, () => new Promise(resolve => cluster.fork().once('listening', resolve)))
  await Promise.all(listening)
  process.stdout.write('serves\n')
} else serve()

function serve(): void {
  const pool = new Pool(origin, { connections: 256, pipelining: 1, allowH2: false })
  const [certPem, keyPem, caPem] = [cert, key, ca].map(file => readFileSync(file))
  const options = {
    cert: certPem,
    key: keyPem,
    ca: caPem,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3' as const,
  }
  const server = createServer(options, (incoming, outgoing) => {
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
