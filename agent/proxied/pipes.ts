import type { IncomingMessage } from 'node:http'
import type { Duplex, Readable } from 'node:stream'

/** What comes from one goes to the other, until either has nothing more to say or is not there any more. */
export function relay(one: Duplex, other: Duplex): void {
  if (one.destroyed) return void other.destroy() // it left while the other was dialled
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on('error', () => to.destroy())
    from.once('close', () => {
      if (from.readableEnded) left(to)
      else to.destroy()
    })
    from.pipe(to)
  }
}

/** Who is refused in the middle of an upload may read that only once all of it was taken; what is closed with a part of it unread is reset. */
export function drained(incoming: IncomingMessage, then: () => void): void {
  if (incoming.complete || incoming.destroyed) {
    then()
    return
  }
  drain(incoming)
  const late = setTimeout(then, LONGEST_MS)
  incoming.once('close', () => {
    clearTimeout(late)
    then()
  })
}

/** Nobody wants the rest. */
function drain(from: Readable): void {
  from.unpipe()
  from.resume()
}

const LONGEST_MS = 30_000

/** The last that it was sent is still on its way, to who reads slowly. */
function left(to: Duplex): void {
  drain(to)
  const expire = () => {
    const late = setTimeout(() => to.destroy(), LONGEST_MS)
    to.once('close', () => clearTimeout(late))
  }
  if (to.writableFinished) expire()
  else to.once('finish', expire)
}
