import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Hands each new connection to the server that is `to` by then. Those that are there stay where they are. */
export type Balancer = AsyncDisposable & {
  readonly address: string
  to: string
  /** The connections that are there say nothing any more, and nobody is told. */
  readonly swallow: () => void
}

export async function startBalancer(first: string, host = '127.0.0.1', port = 0): Promise<Balancer> {
  const pairs = new Set<readonly [Socket, Socket]>()
  const server = createServer(client => {
    const to = new URL(balancer.to)
    const pair = [client, connect(Number(to.port), to.hostname)] as const
    pairs.add(pair)
    client.once('close', () => pairs.delete(pair))
    for (const [one, other] of [pair, pair.toReversed() as [Socket, Socket]]) {
      one.pipe(other)
      one.on('error', () => {}).once('close', () => other.destroy())
    }
  })
  await new Promise<void>(resolve => server.listen(port, host, resolve))
  const balancer: Balancer = {
    address: `http://${host}:${(server.address() as AddressInfo).port}`,
    to: first,
    swallow: () => {
      for (const socket of [...pairs].flat()) socket.unpipe().resume()
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of [...pairs].flat()) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
  return balancer
}
