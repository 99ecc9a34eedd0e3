import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// A token endpoint that does nothing but answer, in a process of its own: what a provider takes is not what is measured.
const server = createServer((incoming, outgoing) => {
  incoming.resume().on('end', () => {
    const body = JSON.stringify({ access_token: 'upstream', token_type: 'Bearer', expires_in: 600 })
    outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body)
  })
})
server.listen(0, '127.0.0.1', () => process.stdout.write(`listens on ${(server.address() as AddressInfo).port}\n`))
