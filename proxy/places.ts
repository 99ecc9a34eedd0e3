import type { Duplex } from 'node:stream'
import type { Holder } from '#engine'

/** Connections that each agent has open, at all ports together: one certificate does not hold the places of all others. */
export type Places = {
  /** Until the connection is closed. @returns whether there is one; without a certificate all are one agent */
  readonly take: (socket: Duplex, holder: Holder | undefined) => boolean
}

export function openPlaces(most: number): Places {
  const taken = new Map<string, number>()
  return {
    take: (socket, holder) => {
      const name = holder?.x5tS256 ?? ''
      const before = taken.get(name) ?? 0
      if (before >= most) return false
      // nobody would tell of the end of one that has ended
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
