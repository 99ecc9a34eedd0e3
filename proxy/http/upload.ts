import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'

/** The body of a request on its way to a server, in a stream of its own: what undici has not sent when the server has answered it ends, and of a request that is
 *  ended nobody can read the rest. */
export function uploadOf(incoming: IncomingMessage): Readable {
  const upload = new Readable({ read: () => void incoming.resume() })
  upload.on('error', () => undefined)
  incoming.pause() // until somebody wants it the client owes nothing
  incoming.on('data', (chunk: Buffer) => upload.push(chunk) || incoming.pause())
  incoming.once('end', () => upload.push(null))
  incoming.once('close', () => incoming.readableEnded || upload.destroy())
  return upload
}
