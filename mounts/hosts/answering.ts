import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { belongsToVault, type CanonicalPath, canonicalise } from '../path.ts'
import { openRoom, othersTurn, readBody } from './body.ts'
import { openClientAddresses } from './client_address.ts'
import { type Connections, closeAfter } from './connections.ts'
import { faultInHead, isRootNamespace } from './headers.ts'
import { type Passed, passThrough } from './pass_through.ts'
import { errorBody, replyElsewhere, replyError, replyErrorRaw } from './replies.ts'
import { remember } from './request_facts.ts'
import type { Upstream } from './upstream.ts'

export type AnswerPorts = {
  readonly upstream: Upstream
  /** addresses and networks of proxies whose `X-Forwarded-For` is believed; none when absent */
  readonly trustedProxies?: readonly string[]
  /** which requests are ours; asked only about the root namespace */
  readonly owns: (method: string, path: CanonicalPath, headers: IncomingHttpHeaders) => boolean
  /** how large the body may be of a request that is ours, when it says how large it is; undefined is as large as any */
  readonly bodyBytes?: (path: CanonicalPath) => number | undefined
  /** answers them: Hono's `fetch`. The body has arrived and is bounded; the URL is the canonical one */
  readonly own: (request: Request, env: Bindings) => Response | Promise<Response>
  readonly log?: { readonly error: (fields: object, message: string) => void }
  readonly onPassThrough?: (passed: Passed) => void
}

/** As the front door has them. */
export type AnswerLimits = { readonly [name in 'bodyBytes' | 'largeBytes' | 'bodyWithinMs']: number }

/** What @hono/node-server puts into `c.env`. */
export type Bindings = { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse }

/** Hands each request either to `own` or, untouched, to Vault. */
export function answerRequests(server: Server, connections: Connections, options: AnswerPorts, limits: AnswerLimits): void {
  const room = openRoom(limits.largeBytes)
  const addressOf = openClientAddresses(options.trustedProxies ?? [])
  const own = getRequestListener((request, env) => options.own(request, env as Bindings), {
    errorHandler: failed(options.log),
    hostname: 'localhost', // stands in for a Host that is empty, or absent from HTTP/1.0; nothing is read off it
  })

  const take = (incoming: IncomingMessage, outgoing: ServerResponse) =>
    connections.began(incoming, outgoing, () => answer(incoming, outgoing))

  function answer(incoming: IncomingMessage, outgoing: ServerResponse): void {
    try {
      route(incoming, outgoing)
    } catch (error) {
      options.log?.error({ error: nameOf(error) }, 'the front door could not route a request')
      replyError(outgoing, 500, 'internal error')
    }
  }

  function route(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { url = '', method = '', headers } = incoming
    const fault = faultInHead(incoming)
    const read = canonicalise(url)
    const client = addressOf(incoming)
    if (fault) replyError(outgoing, fault.status, fault.message)
    else if (!read.ok && read.status === 307) replyElsewhere(outgoing, read.location)
    else if (!read.ok) replyError(outgoing, read.status, read.message)
    else if (!client.ok) replyError(outgoing, client.status, client.message)
    else if (isRootNamespace(headers) && options.owns(method, read.path, headers))
      void answerOwn(incoming, outgoing, { path: read.path, from: client.address })
    else if (belongsToVault(read.path) && connections.crowded(incoming.socket)) replyError(outgoing, 503, CROWDED)
    else if (belongsToVault(read.path))
      passThrough(options.upstream, incoming, outgoing, { path: read.path, from: client.address }, options.onPassThrough)
    else replyError(outgoing, 404, '')
  }

  async function answerOwn(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    { path, from }: { readonly path: CanonicalPath; readonly from: string },
  ): Promise<void> {
    const large = largeOf(incoming, path)
    if (large > 0 && !room.take(large))
      return replyError(outgoing, 503, 'too many large requests are being answered: try again in some seconds')
    try {
      const bounds = { bytes: Math.max(large, limits.bodyBytes), withinMs: limits.bodyWithinMs }
      const body = await readBody(incoming, bounds, () => outgoing.writeContinue())
      if (!body.ok) return replyError(outgoing, body.status, body.message)
      remember(incoming, path, from, body.bytes)
      if (large > 0) await othersTurn()
      await own(incoming, outgoing)
    } finally {
      room.give(large)
    }
  }

  /** What a body says that it has, where that is more than others may have, and the path has more. */
  function largeOf({ headers }: IncomingMessage, path: CanonicalPath): number {
    const declared = Number(headers['content-length'] ?? 0)
    return declared > limits.bodyBytes && declared <= (options.bodyBytes?.(path) ?? 0) ? declared : 0
  }

  server.on('request', take)
  server.on('checkContinue', take)
  server.on('checkExpectation', (incoming, outgoing) => {
    const refuse = () => replyError(outgoing, 417, 'the only expectation that is met is 100-continue')
    connections.began(incoming, outgoing, refuse)
  })
  server.on('connect', (_, socket: Socket) => replyErrorRaw(socket, 405, 'this is no tunnel'))
}

const CROWDED = 'too many requests wait for Vault to answer: try again in some seconds'

/** The last resort: what `own` lets through is a mistake of ours, and its message may hold anything. */
function failed(log: AnswerPorts['log']): (error: unknown) => Response {
  return error => {
    log?.error({ error: nameOf(error) }, 'a request failed unexpectedly')
    const [status, message] =
      nameOf(error) === 'RequestError' ? [400, 'the Host header is not well-formed'] : [500, 'internal error']
    return new Response(errorBody(message), {
      status,
      headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' },
    })
  }
}

/** What the parser refuses, and what took too long, by the code of the error. */
const BROKEN: readonly (readonly [RegExp, number, string])[] = [
  [/^HPE_HEADER_OVERFLOW$/, 431, 'the head of the request is too large'],
  [/^HPE_CHUNK_EXTENSIONS_OVERFLOW$/, 413, 'the chunk extensions of the request are too large'],
  [/^ERR_HTTP_REQUEST_TIMEOUT$/, 408, 'the request did not arrive in time'],
  [/^HPE_/, 400, 'the request is not well-formed HTTP/1.1'],
]

/** Says what is wrong with what never became a request, where somebody still listens. */
export function answerBrokenRequests(server: Server, connections: Connections): void {
  const broken = new WeakSet<Socket>()
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const socket = stream as Socket
    if (broken.has(socket)) return // more of the same bytes
    broken.add(socket)
    const [, status, message] = BROKEN.find(([code]) => code.test(error.code ?? '')) ?? []
    const due = connections.due(socket)
    if (status === undefined || message === undefined || !socket.writable) socket.destroy()
    else if (!due) replyErrorRaw(socket, status, message)
    else if (due.req.complete) closeAfter(due)
    else replyError(due, status, message)
  })
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error
}
