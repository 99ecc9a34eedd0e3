import type { Duplex } from 'node:stream'

/** Takes messages off a stream one at a time, and gives the stream back untouched behind the last. */
export type MessageReader = {
  /** @param lengthAt where in a message its length stands: 0 for the first, 1 for those with a type
   *  @throws Error when the stream ends, the time is up, or a message says that it is longer than `limit` */
  readonly next: (lengthAt: 0 | 1, limit: number) => Promise<Buffer>
}

export function openReader(stream: Duplex, signal: AbortSignal): MessageReader {
  return {
    next: async (lengthAt, limit) => {
      const head = await take(stream, lengthAt + 4, signal)
      const rest = head.readInt32BE(lengthAt) - 4
      if (rest < 0 || rest > limit) throw new Error('a message of an impossible length')
      return rest === 0 ? head : Buffer.concat([head, await take(stream, rest, signal)])
    },
  }
}

/** Exactly so many bytes. What comes behind them stays in the stream. */
function take(stream: Duplex, size: number, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void) => {
      stream.off('readable', look).off('end', ended).off('close', ended).off('error', ended)
      signal.removeEventListener('abort', ended)
      done()
    }
    const look = () => {
      const bytes = stream.read(size) as Buffer | null
      if (bytes?.length === size) settle(() => resolve(bytes))
      else if (bytes) ended()
    }
    const ended = () => settle(() => reject(new Error('the connection ended, or took too long')))
    if (signal.aborted) return ended()
    stream.on('readable', look).once('end', ended).once('close', ended).once('error', ended)
    signal.addEventListener('abort', ended, { once: true })
    look()
  })
}
