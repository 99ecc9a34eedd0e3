import type { Socket } from 'node:net'
import type { Holder } from '#engine'

/** Connections that each agent has open, at all ports together: one certificate does not hold the places of all others, nor does one address that shows none. */
export type Places = {
  /** Until the connection has shown a certificate, or is closed. @returns whether there is one: an address has as many as an agent */
  readonly arrive: (socket: Socket) => boolean
  /** From then on until it is closed. @returns whether there is one; without a certificate all are one agent */
  readonly take: (socket: Socket, holder: Holder | undefined) => boolean
}

export function openPlaces(most: number): Places {
  const taken = new Map<string, number>()
  const arriving = new Map<string, Set<number>>()
  const arrived = ({ address, port }: Peer) => {
    const ports = arriving.get(address)
    ports?.delete(port)
    if (ports?.size === 0) arriving.delete(address)
  }
  return {
    arrive: socket => {
      const peer = peerOf(socket)
      const ports = arriving.get(peer.address) ?? new Set()
      if (ports.size >= most) return false
      // nobody would tell of the end of one that has ended
      if (socket.closed) return true
      arriving.set(peer.address, ports.add(peer.port))
      socket.once('close', () => arrived(peer))
      return true
    },
    take: (socket, holder) => {
      arrived(peerOf(socket))
      const name = holder?.x5tS256 ?? ''
      const before = taken.get(name) ?? 0
      if (before >= most) return false
      if (socket.closed) return true
      taken.set(name, before + 1)
      socket.once('close', () => {
        const rest = (taken.get(name) ?? 0) - 1
        if (rest > 0) taken.set(name, rest)
        else taken.delete(name)
      })
      return true
    },
  }
}

/** The same for a connection and for the TLS on it. */
type Peer = { readonly address: string; readonly port: number }
const peerOf = ({ remoteAddress: address = '', remotePort: port = 0 }: Socket): Peer => ({ address, port })
