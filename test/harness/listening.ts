import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'

/** A server that listens. Disposing of it ends it, and the connections to it. */
export type Listening = AsyncDisposable & { readonly port: number }

/** Has a server of HTTP listen on the loopback, at a port that the system chooses unless one is given. */
export async function listening(
  server: Server & { closeAllConnections(): void },
  port = 0,
  host = '127.0.0.1',
): Promise<Listening> {
  await once(server.listen(port, host), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
