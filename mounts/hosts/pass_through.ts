import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import type { CanonicalPath } from '../path.ts'
import { fromVault, pairs } from './headers.ts'
import { endReply, hasBody, replyError } from './replies.ts'
import { explain, type Upstream } from './upstream.ts'

/** What became of a request that was passed on. `status` is 0 when the client left before there was one. */
export type Passed = {
  readonly method: string
  readonly status: number
  readonly durationMs: number
  /** the client got the whole of Vault's reply */
  readonly whole: boolean
  /** why there was no reply of Vault's; undefined when there was one */
  readonly failure: string | undefined
}

/** Hands a request to Vault and its reply back as they are: bytes are neither looked into nor kept, in either direction.
 *  Whichever side goes away takes the other one with it. `done` is called once, whatever happens. */
export function passThrough(
  upstream: Upstream,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  path: CanonicalPath,
  done: (passed: Passed) => void = () => {},
): void {
  const method = incoming.method ?? ''
  const began = performance.now()
  let failure: string | undefined
  let reply: IncomingMessage | undefined
  const request = upstream.ask({ method, target: path.target, headers: incoming.rawHeaders, length: lengthOf(incoming) })
  request.once('response', begun => {
    reply = begun
    relay(upstream.origin, request, reply, outgoing)
  })
  if (incoming.headers.expect !== undefined) request.once('continue', () => outgoing.writeContinue())
  request.on('error', error => {
    if (reply) return // the reply itself tells whether it came whole
    failure = explain(error)
    replyError(outgoing, 503, failure)
  })
  outgoing.once('close', () => {
    if (!reply?.complete) request.destroy()
    const status = outgoing.headersSent ? outgoing.statusCode : 0
    done({ method, status, durationMs: performance.now() - began, whole: outgoing.writableFinished, failure })
  })
  send(incoming, request)
}

function send(incoming: IncomingMessage, request: ClientRequest): void {
  if (!hasBody(incoming)) {
    request.end()
    return
  }
  incoming.on('data', () => request.emit('progress'))
  incoming.pipe(request)
}

/** A chunked body stays chunked, a counted one counted. Trailers of a request end here, as they may (RFC 9110, 6.5.1). */
function lengthOf({ headers }: IncomingMessage): number | 'chunked' {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : 'chunked'
}

function relay(origin: string, request: ClientRequest, reply: IncomingMessage, outgoing: ServerResponse): void {
  reply.once('close', () => reply.complete || outgoing.destroy())
  if (outgoing.headersSent || outgoing.destroyed || !head(origin, reply, outgoing)) {
    request.destroy()
    return
  }
  reply.once('end', () => {
    if (reply.rawTrailers.length > 0) outgoing.addTrailers(pairs(reply.rawTrailers))
    endReply(outgoing)
  })
  reply.pipe(outgoing, { end: false })
  // a stream may have nothing to say for long; its head goes out with the first bytes if these are already here, else now
  setImmediate(() => outgoing.writableEnded || reply.readableDidRead || outgoing.flushHeaders())
}

/** False, and an error on its way to the client, when the reply's head cannot be passed on. */
function head(origin: string, reply: IncomingMessage, outgoing: ServerResponse): boolean {
  try {
    outgoing.writeHead(reply.statusCode ?? 502, reply.statusMessage ?? '', fromVault(reply.rawHeaders, origin))
    return true
  } catch {
    replyError(outgoing, 503, 'Vault sent a reply that cannot be passed on')
    return false
  }
}
