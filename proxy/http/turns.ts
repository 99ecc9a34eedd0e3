import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'

/** Requests of a connection, one after the other. A client may send them ahead of answers (RFC 9112, 9.3.2), and Node hands out each as it comes: all of them
 *  under way at once would take as many places at the upstream server, where a connection is to be counted for one. */
export type Turns = {
  /** Begins once those before it on its connection are answered. @returns false when as many wait there as may */
  readonly take: (socket: Duplex, reply: ServerResponse, begin: () => void) => boolean
  /** what is being answered on a connection */
  readonly current: (socket: Duplex) => ServerResponse | undefined
}

type Turn = { readonly reply: ServerResponse; readonly begin: () => void }

const AHEAD = 16

export function openTurns(): Turns {
  const due = new WeakMap<Duplex, ServerResponse>()
  const waiting = new WeakMap<Duplex, Turn[]>()
  const start = (socket: Duplex, { reply, begin }: Turn) => {
    due.set(socket, reply)
    reply.once('close', () => {
      due.delete(socket)
      // of a connection that ends nobody waits for more
      const next = socket.writable ? waiting.get(socket)?.shift() : undefined
      if (next) start(socket, next)
    })
    begin()
  }
  const wait = (socket: Duplex, turn: Turn) => {
    const line = waiting.get(socket) ?? []
    waiting.set(socket, line)
    return line.length < AHEAD && line.push(turn) > 0
  }
  return {
    take: (socket, reply, begin) => {
      if (due.has(socket)) return wait(socket, { reply, begin })
      start(socket, { reply, begin })
      return true
    },
    current: socket => due.get(socket),
  }
}
