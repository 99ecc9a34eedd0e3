import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Hands each new connection to the server that is `to` by then. Those that are there stay where they are. */
export type Balancer = AsyncDisposable & {
  readonly address: string
  to: string
  /** The connections that are there say nothing any more, and nobody is told. */
  readonly swallow: () => void
}

export async function startBalancer(first: string): Promise<Balancer> {
  const pairs = new Set<readonly [Socket, Socket]>()
  const server = createServer(client => {
    const { hostname, port } = new URL(balancer.to)
    const pair = [client, connect(Number(port), hostname)] as const
    pairs.add(pair)
    client.once('close', () => pairs.delete(pair))
    for (const [one, other] of [pair, pair.toReversed() as [Socket, Socket]]) {
      one.pipe(other)
      one.on('error', () => {}).once('close', () => other.destroy())
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const balancer: Balancer = {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
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
