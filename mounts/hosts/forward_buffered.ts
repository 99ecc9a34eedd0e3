import type { IncomingMessage } from 'node:http'
import { fromVault, pairs, type RawHeaders, without } from './headers.ts'
import { errorBody, errorHeaders } from './replies.ts'
import { explain, type Upstream, UpstreamError } from './upstream.ts'

export type BufferedRequest = {
  readonly method: string
  /** path and query, as `canonicalise` gives them */
  readonly target: string
  /** the client's, as they came (`incoming.rawHeaders`) */
  readonly headers: RawHeaders
  readonly body: Buffer
}

/** `headers` have their names as Vault wrote them; the one that counts the body is not among them. */
export type BufferedReply = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer }

/** The body has arrived, and whoever reads the reply reads it plain. */
const OF_THE_CLIENT: ReadonlySet<string> = new Set(['expect', 'accept-encoding'])
const OF_THE_BODY: ReadonlySet<string> = new Set(['content-length'])
const MOST_BYTES = 32 * 2 ** 20

/** Passes on a request whose body had to be read before it was clear whose it is, by the same rules as what is passed on unread.
 *  When there is no reply of Vault's, it is a 503 in Vault's shape, like there. */
export async function forwardBuffered(
  upstream: Upstream,
  { method, target, headers, body }: BufferedRequest,
): Promise<BufferedReply> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const request = upstream.ask({ method, target, headers: without(headers, OF_THE_CLIENT), length: body.length })
  request.once('response', resolve).on('error', reject).end(body)
  try {
    const reply = await promise
    const received = await collect(reply)
    const kept = without(fromVault(reply.rawHeaders, upstream.origin), OF_THE_BODY)
    return { status: reply.statusCode ?? 502, headers: Object.fromEntries(pairs(kept)), body: received }
  } catch (error) {
    request.destroy()
    return unavailable(explain(error as Error))
  }
}

async function collect(reply: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MOST_BYTES) throw new UpstreamError('Vault sent more than can be kept')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function unavailable(message: string): BufferedReply {
  const body = errorBody(message)
  return {
    status: 503,
    headers: Object.fromEntries(pairs(without(errorHeaders(503, body), OF_THE_BODY))),
    body: Buffer.from(body),
  }
}
