import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { BrokerError } from '#engine'
import type { StreamPorts, StreamService } from './connectors/connector.ts'
import { listen } from './listen.ts'

/** The ports of services that do not speak HTTP. */
export type Streams = {
  readonly ports: () => Readonly<Record<string, number>>
  /** connections that are open */
  readonly count: () => number
  /** Listens for these services from now on; what is under way goes on. @throws BrokerError unavailable when a port cannot be had: then all stays as it is */
  readonly renew: (services: readonly StreamService[]) => Promise<void>
  /** Takes no more sessions, lets those that are open end, and after `withinMs` cuts off what is left. */
  readonly close: (withinMs: number) => Promise<void>
}

type Listening = { readonly server: Server; readonly place: string; service: StreamService }

/** @throws BrokerError unavailable when a port cannot be had */
export async function openStreams(
  services: readonly StreamService[],
  lend: () => StreamPorts,
  connections: number,
): Promise<Streams> {
  const sockets = new Set<Socket>()
  let listening: readonly Listening[] = []
  const open = async (service: StreamService): Promise<Listening> => {
    const opened = await serve(service, sockets, lend)
    opened.server.maxConnections = connections
    return opened
  }
  const renew = async (wanted: readonly StreamService[]) => {
    const kept = new Map(wanted.map(service => [service, listening.find(one => one.place === placeOf(service))]))
    const fresh = await allOrNone(wanted.filter(service => kept.get(service) === undefined).map(open))
    // from here on nothing fails: what is there takes its new service over, what is not wanted any more is closed
    const still = [...kept].flatMap(([service, there]) => (there ? [Object.assign(there, { service })] : []))
    for (const one of listening) if (!still.includes(one)) one.server.close()
    listening = [...still, ...fresh]
  }
  await renew(services)
  return {
    renew,
    count: () => sockets.size,
    ports: () =>
      Object.fromEntries(listening.map(({ server, service }) => [service.name, (server.address() as AddressInfo).port])),
    close: async withinMs => {
      for (const { server } of listening) server.close()
      const ended = [...sockets].map(socket => new Promise(resolve => socket.once('close', resolve)))
      const cut = setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, withinMs)
      await Promise.all(ended)
      clearTimeout(cut)
    },
  }
}

/** @throws BrokerError of the first that failed, when all others are closed */
async function allOrNone(opening: readonly Promise<Listening>[]): Promise<readonly Listening[]> {
  const all = await Promise.allSettled(opening)
  const opened = all.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []))
  const failed = all.find(one => one.status === 'rejected')
  if (!failed) return opened
  for (const { server } of opened) server.close()
  throw failed.reason
}

/** A port that the system chooses belongs to the service. */
const placeOf = ({ name, listen: { host, port } }: StreamService) => `${host} ${port}${port === 0 ? ` ${name}` : ''}`

async function serve(service: StreamService, sockets: Set<Socket>, lend: () => StreamPorts): Promise<Listening> {
  const server = createServer(socket => {
    const lent = lend()
    if (!lent.places.arrive(socket)) return void socket.destroy()
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.setNoDelay(true)
    opened.service.begin(socket, lent)
  })
  const opened: Listening = { server, place: placeOf(service), service }
  const { host, port } = service.listen
  try {
    await listen(server, { host, port })
  } catch (cause) {
    throw new BrokerError('unavailable', `the service ${service.name} cannot listen on ${host} ${port}`, { cause })
  }
  return opened
}
