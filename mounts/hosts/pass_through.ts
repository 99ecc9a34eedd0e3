import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import type { CanonicalPath } from '../path.ts'
import { fromVault, pairs } from './headers.ts'
import { endReply, hasBody, replyError } from './replies.ts'
import { explain, type Heard, type ReplyHead, type Upstream } from './upstream.ts'

/** What became of a request that was passed on. `status` is 0 when the client left before there was one. */
export type Passed = {
  readonly status: number
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
  { path, from }: { readonly path: CanonicalPath; readonly from: string },
  done: (passed: Passed) => void = () => {},
): void {
  let failure: string | undefined
  const upload = hasBody(incoming) ? incoming.pipe(new PassThrough()) : undefined
  const { method = '', rawHeaders: headers } = incoming
  const request = { method, target: path.target, headers, from, length: lengthOf(incoming), body: upload }
  const asked = upstream.ask(request, {
    ...relay(upstream.origin, outgoing, () => asked.abort()),
    failed: error => {
      // a reply that has begun cannot be taken back: it is cut off, so that nobody takes the half for the whole
      if (!outgoing.headersSent) failure = explain(error)
      replyError(outgoing, 503, failure ?? '')
    },
  })
  if (upload) {
    // the parser of replies on the other side takes no interim ones, so it is we who ask for the body
    if (incoming.headers.expect !== undefined) outgoing.writeContinue()
    incoming.on('data', asked.progress)
  }
  outgoing.once('close', () => {
    asked.abort()
    const status = outgoing.headersSent ? outgoing.statusCode : 0
    done({ status, whole: outgoing.writableFinished, failure })
  })
}

/** A counted body stays counted; a chunked one is counted when it is all there before it goes on. Trailers of a request end here, as they may (RFC 9110, 6.5.1). */
function lengthOf({ headers }: IncomingMessage): number | 'chunked' {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : 'chunked'
}

function relay(origin: string, outgoing: ServerResponse, abort: () => void): Omit<Heard, 'failed'> {
  let flows = false
  return {
    head: reply => {
      if (outgoing.headersSent || outgoing.destroyed || !head(origin, reply, outgoing)) {
        abort()
        return
      }
      outgoing.on('drain', reply.resume)
      // a stream may have nothing to say for long; its head goes out with the first bytes if these are already here, else now
      setImmediate(() => flows || outgoing.writableEnded || outgoing.flushHeaders())
    },
    data: chunk => {
      flows = true
      return outgoing.write(chunk)
    },
    end: trailers => {
      if (trailers.length > 0) outgoing.addTrailers(pairs(trailers))
      endReply(outgoing)
    },
  }
}

/** False, and an error on its way to the client, when the reply's head cannot be passed on. */
function head(origin: string, { status, reason, headers }: ReplyHead, outgoing: ServerResponse): boolean {
  try {
    outgoing.writeHead(status, reason, fromVault(headers, origin))
    return true
  } catch {
    replyError(outgoing, 503, 'Vault sent a reply that cannot be passed on')
    return false
  }
}
