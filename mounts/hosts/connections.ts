import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import { openTurns } from '#engine'
import { openCrowds } from './crowds.ts'
import { awaitsBody, replyError } from './replies.ts'

export type ConnectionLimits = {
  readonly connections: number
  readonly connectionsPerPeer: number
  /** without a byte either way where the client owes one */
  readonly stallMs: number
}

/** Keeps count of who is connected and of what is being answered, and ends connections in good order. */
export type Connections = {
  /** Call for every request before anything else is done with it. It is answered once those before it on its connection are, as Vault does it. */
  readonly began: (incoming: IncomingMessage, outgoing: ServerResponse, answer: () => void) => void
  /** The reply that goes out next on a connection. */
  readonly due: (socket: Socket) => ServerResponse | undefined
  /** Whether so many requests of this peer, or of all, wait for an answer that no more may wait for Vault. */
  readonly crowded: (socket: Socket) => boolean
  /** Closes what is idle now, and everything else after the reply that is due. */
  readonly retire: () => void
  /** Closes everything now. */
  readonly destroy: () => void
}

export function keepConnections(server: Server, limits: ConnectionLimits): Connections {
  const sockets = new Map<string, Socket>()
  const turns = openTurns<ServerResponse>()
  const due = turns.current
  const peers = countPeers(limits.connectionsPerPeer)
  server.maxConnections = limits.connections
  server.setTimeout(limits.stallMs, socket => endStalled(socket, due(socket)))
  server.on('connection', socket => {
    keep(socket)
    peers.add(socket)
  })
  if (server instanceof TlsServer) server.on('secureConnection', keep)

  // a TLS connection takes the place of the bare one that it stands on: they have the same peer
  function keep(socket: Socket): void {
    const name = `${socket.remoteAddress} ${socket.remotePort}`
    sockets.set(name, socket)
    // a client that resets a connection may open the next one from the same port before we hear of the end of the first
    socket.once('close', () => sockets.get(name) === socket && sockets.delete(name))
  }

  function began({ socket }: IncomingMessage, reply: ServerResponse, answer: () => void): void {
    reply.on('error', () => {}) // what is written to a client that has left; `close` says so too
    if (!turns.take(socket, reply, answer)) socket.destroy()
  }

  function retire(): void {
    for (const socket of sockets.values()) {
      const reply = due(socket)
      if (reply) closeAfter(reply)
      else socket.destroy()
    }
  }

  function destroy(): void {
    for (const socket of sockets.values()) socket.destroy()
  }

  const crowded = openCrowds(limits, () => sockets.values(), due)
  return { began, due, crowded, retire, destroy }
}

/** The client is told so when the head of the reply has not gone out yet. */
export function closeAfter(reply: ServerResponse): void {
  const { socket } = reply.req
  if (!reply.headersSent) reply.shouldKeepAlive = false
  reply.once('finish', () => socket.destroySoon())
}

function countPeers(most: number): { add: (socket: Socket) => void } {
  const counts = new Map<string, number>()
  function add(socket: Socket): void {
    const peer = socket.remoteAddress ?? ''
    const count = (counts.get(peer) ?? 0) + 1
    counts.set(peer, count)
    socket.once('close', () => remove(peer))
    if (count > most) socket.destroy()
  }
  function remove(peer: string): void {
    const count = (counts.get(peer) ?? 0) - 1
    if (count > 0) counts.set(peer, count)
    else counts.delete(peer)
  }
  return { add }
}

/** Nothing moved. It is the client's fault when it owes us a body that we want, or does not take what we have for it; Vault may think as
 *  long as it likes. */
function endStalled(socket: Socket, reply: ServerResponse | undefined): void {
  if (!reply) socket.destroy()
  else if (reply.writableLength > 0 || socket.writableLength > 0) socket.destroy()
  else if (awaitsBody(reply.req) && !reply.req.isPaused()) replyError(reply, 408, 'the request body did not arrive in time')
}
