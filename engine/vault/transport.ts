import { Agent, type Dispatcher } from 'undici'
import type { Secret } from '../secret.ts'
import { Presented } from './presented.ts'

/** In whose name a call is made and how: `as` undefined means without a token, and then `from` is the address of whoever it is made for. */
export type CallOptions = {
  readonly as?: Secret | undefined
  readonly from?: string | undefined
  readonly wrapTtl?: string | undefined
  readonly namespace?: string | undefined
}
export type Outgoing = { readonly method: string; readonly path: string; readonly json?: object | undefined } & CallOptions
/** `body` is undefined when the reply was empty and may be. */
export type Incoming = { readonly status: number; readonly body: object | undefined }

/** The way to one server: keep-alive, a deadline for each call, no redirects, errors without token or body. */
export type Transport = {
  /** @throws Unusable for a reply that is not in Vault's protocol; Error with a `code` when there is none */
  readonly send: (outgoing: Outgoing) => Promise<Incoming>
  readonly close: () => Promise<void>
}

export type TransportOptions = {
  /** `http://127.0.0.1:8200` */
  readonly address: string
  /** PEM bundle that the server's certificate must lead to; the system's when absent */
  readonly ca?: string | undefined
  readonly deadlineMs: number
  readonly observe?: ((method: string, status: number, seconds: number) => void) | undefined
}

/** A reply that arrived and is not in Vault's protocol. */
export class Unusable extends Error {}

const MAX_REPLY_BYTES = 4 * 1024 * 1024
const CONNECTIONS = 64

export function openTransport({ address, ca, deadlineMs, observe }: TransportOptions): Transport {
  const { origin, pathname } = new URL(address)
  const base = pathname.replace(/\/$/, '')
  const connect = { timeout: deadlineMs, ...(ca === undefined ? {} : { ca }) }
  const agent = new Agent({ connections: CONNECTIONS, pipelining: 1, allowH2: false, keepAliveTimeout: 30_000, connect })
  return {
    close: () => agent.close(),
    send: async outgoing => {
      const started = performance.now()
      let status = 0
      try {
        const reply = await exchange(agent, optionsOf(origin, base, outgoing), deadlineMs)
        status = reply.status
        // a question is answered, if only with 404; what is done may have nothing to tell
        const mayBeEmpty = status === 204 ? outgoing.method !== 'GET' : status >= 300
        return { status, body: reply.text === '' && mayBeEmpty ? undefined : envelope(reply.text, status) }
      } finally {
        observe?.(outgoing.method, status, (performance.now() - started) / 1000)
      }
    },
  }
}

function optionsOf(origin: string, base: string, { method, path, json, ...how }: Outgoing): Dispatcher.DispatchOptions {
  const body = json === undefined ? null : JSON.stringify(json)
  const headers = headersOf(how, body !== null)
  return { origin, path: `${base}/v1/${path}`, method: method as Dispatcher.HttpMethod, headers, body }
}

function headersOf({ as, from, wrapTtl, namespace }: CallOptions, hasBody: boolean): Record<string, string> {
  const address = as instanceof Presented ? as.from : from
  return {
    'X-Vault-Request': 'true',
    ...(hasBody ? { 'Content-Type': 'application/json' } : {}),
    ...(as ? { 'X-Vault-Token': as.reveal() } : {}),
    ...(address ? { 'X-Forwarded-For': address } : {}),
    ...(wrapTtl ? { 'X-Vault-Wrap-TTL': wrapTtl } : {}),
    ...(namespace ? { 'X-Vault-Namespace': namespace } : {}),
  }
}

type Reply = { readonly status: number; readonly text: string }

/** One request by undici's `dispatch`: no stream and no abort signal is made for it, which halves its cost. */
function exchange(agent: Agent, options: Dispatcher.DispatchOptions, deadlineMs: number): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  let under: Dispatcher.DispatchController | undefined
  let late: Error | undefined
  const timer = setTimeout(() => {
    late = Object.assign(new Error('no reply within the deadline'), { code: 'DEADLINE' })
    under?.abort(late)
    reject(late)
  }, deadlineMs)
  let status = 0
  const chunks: Buffer[] = []
  let size = 0
  agent.dispatch(options, {
    onRequestStart: controller => {
      under = controller
      if (late) controller.abort(late)
    },
    onResponseStart: (_, code) => {
      status = code
    },
    onResponseData: (controller, chunk) => {
      size += chunk.length
      if (size > MAX_REPLY_BYTES) controller.abort(new Unusable('the reply is too long'))
      else chunks.push(chunk)
    },
    onResponseEnd: () => {
      clearTimeout(timer)
      resolve({ status, text: textOf(chunks, size) })
    },
    onResponseError: (_, error) => {
      clearTimeout(timer)
      reject(error)
    },
  })
  return promise
}

function textOf(chunks: readonly Buffer[], size: number): string {
  return chunks.length === 1 ? (chunks[0]?.toString('utf8') ?? '') : Buffer.concat(chunks, size).toString('utf8')
}

/** A success that also holds errors is a server that contradicts itself: nothing in it counts. */
function envelope(text: string, status: number): object {
  const body = parsed(text)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Unusable('the reply is no JSON object')
  if (status < 300 && 'errors' in body) throw new Unusable('the reply holds both data and errors')
  return body
}

/** What the parser says quotes the text, which may hold a token. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Unusable('the reply is no JSON')
  }
}
