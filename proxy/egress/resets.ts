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
  // undici has heard of the end by then
  stream.once('end', () => process.nextTick(() => stream.writableFinished || reset(stream)))
}

/** What is destroyed by a signal is reset first. */
function reset(stream: ClientHttp2Stream): void {
  addAbortSignal(AbortSignal.abort(), stream)
}
