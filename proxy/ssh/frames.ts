import type { Duplex } from 'node:stream'

/** What goes over the connection of a companion: pieces, each a kind, a length of four bytes and so many bytes. */
export const kinds = {
  /** whom the token is of and where it is to lead, JSON: the first, once */
  hello: 0,
  /** of the session itself, either way */
  data: 1,
  /** one message to an ssh-agent, or its answer */
  agent: 2,
  /** why the session does not go on: `CODE: a sentence` */
  refused: 3,
} as const
export type Kind = (typeof kinds)[keyof typeof kinds]
export type Frame = { readonly kind: number; readonly body: Buffer }

const HEAD = 5
const LONGEST = 131_072

export function frame(kind: Kind, body: Buffer): Buffer {
  const head = Buffer.alloc(HEAD)
  head.writeUInt8(kind)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

/** Takes frames off a stream until it ends. @throws Error when one says that it is too long, and what the stream throws */
export async function* framesOf(stream: Duplex): AsyncGenerator<Frame, void> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= HEAD) {
      const length = rest.readUInt32BE(1)
      if (length > LONGEST) throw new Error('a frame of an impossible length')
      if (rest.length < HEAD + length) break
      yield { kind: rest.readUInt8(), body: rest.subarray(HEAD, HEAD + length) }
      rest = rest.subarray(HEAD + length)
    }
  }
}

/** Writes, and waits until the other side takes it. */
export function written(stream: Duplex, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, error => (error ? reject(error) : resolve()))
  })
}
