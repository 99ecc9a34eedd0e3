import { Agent, type Dispatcher, request } from 'undici'
import { isMetadata, lookup } from './issuers/metadata.ts'

/** A service outside did not give a usable answer. `reason` is a word or two; nothing that was sent or received is in it. */
export class Unanswered extends Error {
  readonly reason: string
  constructor(reason: string) {
    super(`no usable answer: ${reason}`)
    this.name = 'Unanswered'
    this.reason = reason
  }
}

export type HttpCall = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal?: AbortSignal | undefined
}
export type HttpAnswer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** parsed JSON; undefined when the body is empty or is no JSON */
  readonly json: unknown
}

/** Calls services outside: no redirect is followed, replies are bounded, no time-out outlives the deadline.
 *  @throws Unanswered */
export type Http = { readonly call: (call: HttpCall) => Promise<HttpAnswer>; readonly close: () => Promise<void> }

export type HttpOptions = {
  /** milliseconds for one call, its reply included */
  readonly deadlineMs: number
  /** PEM bundle that certificates must lead to; the system's when absent */
  readonly ca?: string | undefined
}

const MAX_BYTES = 1024 * 1024
const CONNECTIONS = 16

export function openHttp({ deadlineMs, ca }: HttpOptions): Http {
  const connect = { timeout: deadlineMs, lookup, ...(ca ? { ca } : {}) }
  const dispatcher = new Agent({ connections: CONNECTIONS, keepAliveTimeout: 30_000, connect })
  return {
    call: async call => {
      try {
        return await exchange(dispatcher, call, deadlineMs)
      } catch (error) {
        throw error instanceof Unanswered ? error : new Unanswered(reasonOf(error))
      }
    },
    close: () => dispatcher.close(),
  }
}

async function exchange(dispatcher: Dispatcher, { url, signal, ...call }: HttpCall, deadlineMs: number): Promise<HttpAnswer> {
  if (isMetadata(new URL(url).hostname)) throw new Unanswered('its address is one of a metadata service')
  const deadline = AbortSignal.timeout(deadlineMs)
  const reply = await request(url, {
    dispatcher,
    method: call.method,
    headers: call.headers ?? {},
    body: call.body ?? null,
    signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
  })
  const headers = Object.entries(reply.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value])
  return { status: reply.statusCode, headers: Object.fromEntries(headers), json: parsed(await bounded(reply.body)) }
}

async function bounded(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BYTES) throw new Unanswered('the reply is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size).toString('utf8')
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Errors of the HTTP client may hold what was sent: of them only the code goes on. */
function reasonOf(error: unknown): string {
  const { name, code } = error as NodeJS.ErrnoException
  if (name === 'TimeoutError' || name === 'AbortError') return 'it did not answer in time'
  return typeof code === 'string' ? code : 'the connection failed'
}
