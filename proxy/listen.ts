import type { AddressInfo, ListenOptions, Server } from 'node:net'

/** @throws Error when it cannot listen there */
export function listen(server: Server, where: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen(where, resolve))
}

/** Where a server listens that does, for a client beside it. */
export function urlOf(scheme: 'http' | 'https', server: Server): string {
  const { address, family, port } = server.address() as AddressInfo
  return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
