import type { IncomingMessage } from 'node:http'
import { openCollected } from '#engine'
import { hasBody } from './replies.ts'

/** Bytes that a body may have that is ours, but for what a path says that it has beside: the logs of a machine, bundles of certificates. */
export const BODY_BYTES = 2 ** 20

export type BodyLimits = { readonly bytes: number; readonly withinMs: number }

/** What a large body costs is spread over several turns of the event loop. */
export const othersTurn = () => new Promise<void>(resolve => setImmediate(resolve))

/** How much may be held at the same time of bodies that are larger than others. */
export type Room = { readonly take: (bytes: number) => boolean; readonly give: (bytes: number) => void }

export function openRoom(bytes: number): Room {
  let free = bytes
  return {
    take: wanted => {
      if (wanted > free) return false
      free -= wanted
      return true
    },
    give: given => {
      free += given
    },
  }
}

export type Body =
  | { readonly ok: true; readonly bytes: Buffer }
  | { readonly ok: false; readonly status: 400 | 408 | 413; readonly message: string }

const TOO_LARGE: Body = { ok: false, status: 413, message: 'the request body is too large' }
const TOO_SLOW: Body = { ok: false, status: 408, message: 'the request body did not arrive in time' }
const CUT_OFF: Body = { ok: false, status: 400, message: 'the request body ended early' }

const NOTHING: Body = { ok: true, bytes: Buffer.alloc(0) }

/** Reads a whole body, or says why not. A length that is too large is believed at once; what has no length is counted as it comes.
 *  `welcome` is called when the body is wanted and the client waits to hear so (`Expect: 100-continue`).
 *  On a refusal the rest of the body is left on the connection. */
export function readBody(
  incoming: IncomingMessage,
  { bytes, withinMs }: BodyLimits,
  welcome: () => void = () => {},
): Promise<Body> {
  if (!hasBody(incoming)) return Promise.resolve(NOTHING)
  if (Number(incoming.headers['content-length'] ?? 0) > bytes) return Promise.resolve(TOO_LARGE)
  if (incoming.headers.expect !== undefined) welcome()
  const { promise, resolve } = Promise.withResolvers<Body>()
  const collected = openCollected()
  const settle = (body: Body) => {
    clearTimeout(timer)
    incoming.off('data', count)
    resolve(body)
  }
  const count = (chunk: Buffer) => {
    if (collected.size() + chunk.length > bytes) settle(TOO_LARGE)
    else collected.add(chunk)
  }
  const timer = setTimeout(settle, withinMs, TOO_SLOW)
  incoming.on('data', count)
  incoming.once('end', () => settle({ ok: true, bytes: collected.bytes() }))
  incoming.once('close', () => settle(CUT_OFF))
  return promise
}
