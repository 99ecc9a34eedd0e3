import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export type CrowdLimits = { readonly connections: number; readonly connectionsPerPeer: number }

/** Of the connections that a peer may have, and of all, so many may wait for Vault. While that hangs, the rest are for what needs no Vault: whether this
 *  service is well, and what it says of itself. */
const SHARE = 3 / 4
/** Who waits is counted once in so many requests, of all that may wait. */
const PART = 1 / 8

/** Tells whether as many requests wait as may, of this peer or of all: they are here, whole, and nothing has been answered yet.
 *  @param due the reply that goes out next on a connection */
export function openCrowds(
  { connections, connectionsPerPeer }: CrowdLimits,
  sockets: () => Iterable<Socket>,
  due: (socket: Socket) => ServerResponse | undefined,
): (socket: Socket) => boolean {
  const [most, mostOfPeer] = [Math.ceil(connections * SHARE), Math.ceil(connectionsPerPeer * SHARE)]
  const between = Math.floor(Math.min(most, mostOfPeer) * PART)
  let crowds: readonly string[] | 'all' = []
  let since = Number.POSITIVE_INFINITY

  function countBut(asking: Socket): readonly string[] | 'all' {
    const waiting = new Map<string, number>()
    let all = 0
    for (const socket of sockets()) {
      const reply = due(socket)
      if (socket === asking || !reply || reply.headersSent || !reply.req.complete) continue
      const peer = socket.remoteAddress ?? ''
      waiting.set(peer, (waiting.get(peer) ?? 0) + 1)
      all += 1
    }
    return all >= most ? 'all' : [...waiting].flatMap(([peer, some]) => (some >= mostOfPeer ? [peer] : []))
  }

  return socket => {
    since += 1
    // nobody is sent away by a count of before
    if (since >= between || crowds.length > 0) {
      crowds = countBut(socket)
      since = 0
    }
    return crowds === 'all' || crowds.includes(socket.remoteAddress ?? '')
  }
}
