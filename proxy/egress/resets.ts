import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientHttp2Stream } from 'node:http2'
import { addAbortSignal } from 'node:stream'

/** Has each stream of HTTP/2 that is given up before all of it is sent be reset at its server, with CANCEL.
 *  Undici closes such a stream with NO_ERROR and destroys it at once, and where a server has answered it waits until the server takes the rest. Node resets
 *  what is closed with NO_ERROR once all of it is sent, and what is destroyed by then never: the stream would stay open at the server, and when that takes more
 *  of it, Node would write empty frames until there is no memory left. Undici shows its streams to nobody; Node tells of them. */
export function resetGivenUp(): void {
  unsubscribe(CREATED, heed) // once is enough
  subscribe(CREATED, heed)
}

const CREATED = 'http2.client.stream.created'

function heed(message: unknown): void {
  const { stream } = message as { readonly stream: ClientHttp2Stream }
  const close = stream.close.bind(stream)
  stream.close = (code, callback) => (code ? close(code, callback) : reset(stream))
  // undici listens for data beside the upload, too: what came together with the head would be lost
  stream.pause().once('response', () => process.nextTick(() => stream.resume()))
  const isWhole = heedEnd(stream)
  stream.once('end', () => {
    // Node ends what the server reset with NO_ERROR or CANCEL, and undici takes that for the end of the answer
    if (!isWhole()) stream.emit('error', new Error('the server reset it in the middle'))
    // undici has heard of the end by then
    process.nextTick(() => stream.writableFinished || reset(stream))
  })
}

/** Whether the server has said that the answer is at its end: Node ends what it reads then, before it closes the stream. */
function heedEnd(stream: ClientHttp2Stream): () => boolean {
  const push = stream.push.bind(stream)
  let isWhole = false
  stream.push = (chunk, encoding) => {
    isWhole ||= chunk === null && !stream.closed
    return push(chunk, encoding)
  }
  return () => isWhole
}

/** What is destroyed by a signal is reset first. */
function reset(stream: ClientHttp2Stream): void {
  addAbortSignal(AbortSignal.abort(), stream)
}
