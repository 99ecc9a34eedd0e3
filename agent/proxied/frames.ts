import type { Duplex } from 'node:stream'

/** What goes over a connection to an SSH port of the proxy: pieces, each a kind, a length of four bytes and so many bytes. */
export const kinds = {
  /** our token and where it is to lead, JSON: the first, once */
  hello: 0,
  /** of the session itself, either way */
  data: 1,
  /** one message to an ssh-agent, or its answer */
  agent: 2,
  /** why the session does not go on: `CODE: a sentence` */
  refused: 3,
} as const

const HEAD = 5

export function frame(kind: number, body: Buffer): Buffer {
  const head = Buffer.alloc(HEAD)
  head.writeUInt8(kind)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

/** Takes frames off a stream until it ends. @throws what the stream throws */
export async function* framesOf(stream: Duplex): AsyncGenerator<{ readonly kind: number; readonly body: Buffer }, void> {
  for await (const whole of pieces(stream, 1, HEAD)) yield { kind: whole.readUInt8(), body: whole.subarray(HEAD) }
}

/** Messages to an ssh-agent, each behind its length. @see draft-miller-ssh-agent, 3 */
export function messagesOf(stream: Duplex): AsyncGenerator<Buffer, void> {
  return pieces(stream, 0, 4)
}

/** An ssh-agent takes no longer ones; the proxy sends none. */
const LONGEST = 262_144

async function* pieces(stream: Duplex, lengthAt: number, head: number): AsyncGenerator<Buffer, void> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= head) {
      const length = head + rest.readUInt32BE(lengthAt)
      if (length > LONGEST) throw new Error('a message of an impossible length')
      if (rest.length < length) break
      yield rest.subarray(0, length)
      rest = rest.subarray(length)
    }
  }
}

/** Writes, and waits until the other side takes it. */
export function written(stream: Duplex, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, error => (error ? reject(error) : resolve()))
  })
}
