import { fromVault, pairs, type RawHeaders, without } from './headers.ts'
import { errorBody, errorHeaders } from './replies.ts'
import { type Ask, explain, type ReplyHead, type Upstream, UpstreamError } from './upstream.ts'

export type BufferedRequest = {
  readonly method: string
  /** path and query, as `canonicalise` gives them */
  readonly target: string
  /** the client's, as they came (`incoming.rawHeaders`) */
  readonly headers: RawHeaders
  /** the address that it came from */
  readonly from: string
  readonly body: Buffer
  /** milliseconds for the whole reply; without them Vault may take its time, as some of what it is told to do does */
  readonly withinMs?: number | undefined
}

/** `headers` have their names as Vault writes them; the one that counts the body is not among them. */
export type BufferedReply = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer }

/** The body has arrived, and whoever reads the reply reads it plain. */
const OF_THE_CLIENT: ReadonlySet<string> = new Set(['accept-encoding'])
const OF_THE_BODY: ReadonlySet<string> = new Set(['content-length'])
const MOST_BYTES = 32 * 2 ** 20

/** A client that went there would see Vault's tables without our mounts in them, and change them without us. */
const ELSEWHERE = 'Vault is a standby that does not reach its leader: what is put together here is not asked for there'

/** Passes on a request whose body had to be read before it was clear whose it is, by the same rules as what is passed on unread.
 *  When there is no reply of Vault's, it is a 503 in Vault's shape, like there. */
export async function forwardBuffered(
  upstream: Upstream,
  { body, headers, withinMs, ...rest }: BufferedRequest,
): Promise<BufferedReply> {
  try {
    const request = { ...rest, headers: without(headers, OF_THE_CLIENT), length: body.length }
    const reply = await collect(upstream, { ...request, body: body.length > 0 ? body : undefined }, withinMs)
    if (reply.status === 307) return unavailable(ELSEWHERE)
    const kept = pairs(without(fromVault(reply.headers, upstream.origin), OF_THE_BODY))
    const named = Object.fromEntries(kept.map(([name, value]) => [asVaultWrites(name), value]))
    return { status: reply.status, headers: named, body: Buffer.concat(reply.chunks) }
  } catch (error) {
    return unavailable(explain(error as Error))
  }
}

/** Whatever is between us and Vault may write names in lower case: here each of them is one name. */
function asVaultWrites(name: string): string {
  return name.toLowerCase().replaceAll(/(?<=^|-)[a-z]/g, letter => letter.toUpperCase())
}

type Collected = Pick<ReplyHead, 'status' | 'headers'> & { readonly chunks: readonly Buffer[] }

function collect(upstream: Upstream, request: Ask, withinMs: number | undefined): Promise<Collected> {
  const { promise, resolve, reject } = Promise.withResolvers<Collected>()
  const chunks: Buffer[] = []
  let size = 0
  let head: Pick<ReplyHead, 'status' | 'headers'> = { status: 502, headers: [] }
  const asked = upstream.ask(request, {
    head: reply => {
      head = reply
    },
    data: chunk => {
      size += chunk.length
      chunks.push(chunk)
      if (size <= MOST_BYTES) return true
      asked.abort()
      reject(new UpstreamError('Vault sent more than can be kept'))
      return false
    },
    end: () => resolve({ status: head.status, headers: head.headers, chunks }),
    failed: reject,
  })
  if (withinMs === undefined) return promise
  const late = setTimeout(() => {
    asked.abort()
    reject(new UpstreamError('Vault did not answer in time'))
  }, withinMs)
  return promise.finally(() => clearTimeout(late))
}

function unavailable(message: string): BufferedReply {
  const body = errorBody(message)
  return {
    status: 503,
    headers: Object.fromEntries(pairs(without(errorHeaders(503, body), OF_THE_BODY))),
    body: Buffer.from(body),
  }
}
