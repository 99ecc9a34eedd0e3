import type { Duplex } from 'node:stream'

/** How long the other end has to take what is said last, and to go. */
const LINGER_MS = 1000

/** Says the last words of a connection that no deadline is for any more: whoever holds it open all the same does not hold it here. */
export function leave(socket: Duplex, words: Uint8Array | string): void {
  socket.end(words).resume()
  expire(socket)
}

/** Leaves a connection that was told to end once all is on its way: nobody reads what comes from there, and unread its end would not be seen. */
export function linger(socket: Duplex): void {
  socket.resume()
  if (socket.writableFinished) expire(socket)
  else socket.once('finish', () => expire(socket))
}

function expire(socket: Duplex): void {
  const late = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(late))
}
