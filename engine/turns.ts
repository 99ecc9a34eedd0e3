/** Requests of a connection, one after the other. A client may send them ahead of answers (RFC 9112, 9.3.2), and Node hands out each as it comes: all of them
 *  under way at once would be done in any order, and take as many places at the upstream server, where a connection is to be counted for one. */
export type Turns<Reply> = {
  /** Begins once those before it on its connection are answered. @returns false when as many wait there as may */
  readonly take: (connection: Connection, reply: Reply, begin: () => void) => boolean
  /** the reply that goes out next on a connection */
  readonly current: (connection: Connection) => Reply | undefined
}

type Connection = { readonly writable: boolean }
type Closing = { readonly once: (event: 'close', listener: () => void) => unknown }
type Turn<Reply> = { readonly reply: Reply; readonly begin: () => void }

const AHEAD = 16

export function openTurns<Reply extends Closing>(): Turns<Reply> {
  const due = new WeakMap<Connection, Reply>()
  const waiting = new WeakMap<Connection, Turn<Reply>[]>()
  const start = (connection: Connection, { reply, begin }: Turn<Reply>) => {
    due.set(connection, reply)
    reply.once('close', () => {
      due.delete(connection)
      // of a connection that ends nobody waits for more
      const next = connection.writable ? waiting.get(connection)?.shift() : undefined
      if (next) start(connection, next)
    })
    begin()
  }
  const wait = (connection: Connection, turn: Turn<Reply>) => {
    const line = waiting.get(connection) ?? []
    waiting.set(connection, line)
    return line.length < AHEAD && line.push(turn) > 0
  }
  return {
    take: (connection, reply, begin) => {
      if (due.has(connection)) return wait(connection, { reply, begin })
      start(connection, { reply, begin })
      return true
    },
    current: connection => due.get(connection),
  }
}
