import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { BrokerError } from '#engine'
import type { StreamPorts, StreamService } from './connectors/connector.ts'

/** The ports of services that do not speak HTTP. */
export type Streams = {
  readonly ports: () => Readonly<Record<string, number>>
  /** connections that are open */
  readonly count: () => number
  /** Listens for the services that are declared now; what is under way goes on. @throws BrokerError unavailable when a port cannot be had */
  readonly renew: () => Promise<void>
  readonly close: () => Promise<void>
}

type Listening = { readonly server: Server; readonly where: string; service: StreamService }

/** @throws BrokerError unavailable when a port cannot be had */
export async function openStreams(
  services: () => readonly StreamService[],
  lent: StreamPorts,
  connections: number,
): Promise<Streams> {
  const sockets = new Set<Socket>()
  const listening = new Map<string, Listening>()
  const renew = async () => {
    const wanted = new Map(services().map(service => [service.name, service]))
    for (const [name, { server, where }] of listening) {
      const next = wanted.get(name)
      if (next && placeOf(next) === where) continue
      server.close()
      listening.delete(name)
    }
    for (const [name, service] of wanted) {
      const there = listening.get(name)
      if (there) there.service = service
      else {
        const opened = await listen(service, listening, sockets, lent)
        opened.server.maxConnections = connections
        listening.set(name, opened)
      }
    }
  }
  await renew()
  return {
    renew,
    count: () => sockets.size,
    ports: () => Object.fromEntries([...listening].map(([name, { server }]) => [name, (server.address() as AddressInfo).port])),
    close: async () => {
      for (const { server } of listening.values()) server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

const placeOf = ({ listen }: StreamService) => `${listen.host} ${listen.port}`

async function listen(
  service: StreamService,
  listening: ReadonlyMap<string, Listening>,
  sockets: Set<Socket>,
  lent: StreamPorts,
): Promise<Listening> {
  const server = createServer(socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.setNoDelay(true)
    listening.get(service.name)?.service.begin(socket, lent)
  })
  try {
    await new Promise<void>((resolve, reject) =>
      server.once('error', reject).listen(service.listen.port, service.listen.host, resolve),
    )
  } catch (cause) {
    throw new BrokerError('unavailable', `the service ${service.name} cannot listen on ${placeOf(service)}`, { cause })
  }
  return { server, where: placeOf(service), service }
}
