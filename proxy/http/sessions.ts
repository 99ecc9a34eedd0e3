import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Session } from './gate.ts'

/** Connections of agents that requests are read from, and whose each of them is. */
export class Sessions {
  readonly #of = new WeakMap<Duplex, Session>()
  readonly #read = new Set<Duplex>()

  add(socket: Duplex, session: Session): void {
    this.#of.set(socket, session)
    this.#read.add(socket)
    socket.once('close', () => this.#read.delete(socket))
  }

  get(socket: Duplex): Session | undefined {
    return this.#of.get(socket)
  }

  /** A tunnel or a WebSocket begins on it: no more requests are read there. */
  letGo(socket: Duplex): void {
    this.#read.delete(socket)
  }

  /** Who was let in by what is no longer trusted asks nothing more: what is idle closes now, and the rest after the answer that is due. */
  retire(due: (socket: Duplex) => ServerResponse | undefined): void {
    for (const socket of this.#read) {
      const reply = due(socket)
      if (reply) closeAfter(reply)
      else socket.destroy()
    }
  }
}

/** The agent is told so when the head of the answer has not gone out yet. */
function closeAfter(reply: ServerResponse): void {
  const { socket } = reply.req
  if (!reply.headersSent) reply.shouldKeepAlive = false
  reply.once('finish', () => socket.destroySoon())
}
