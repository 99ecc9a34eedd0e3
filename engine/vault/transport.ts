import { Agent, type Dispatcher } from 'undici'
import { call, GivenUp } from '../call.ts'
import type { Secret } from '../secret.ts'
import { isOutOfService, openWays } from '../ways.ts'
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
  /** PEM bundle that the server's certificate must lead to; Node's own roots when absent */
  readonly ca?: string | undefined
  readonly deadlineMs: number
  /** @param date what the server's clock says, where it answered */
  readonly observe?: ((method: string, status: number, seconds: number, date?: string) => void) | undefined
  /** the server gave no answer, or is out of service: others may have connections to it, too */
  readonly onDoubt?: (() => void) | undefined
}

/** A reply that arrived and is not in Vault's protocol. */
export class Unusable extends Error {}

const MAX_REPLY_BYTES = 4 * 1024 * 1024
const CONNECTIONS = 64

export function openTransport({ address, ca, deadlineMs, observe, onDoubt }: TransportOptions): Transport {
  const { origin, pathname } = new URL(address)
  const base = pathname.replace(/\/$/, '')
  const connect = { timeout: deadlineMs, ...(ca === undefined ? {} : { ca }) }
  const options = { connections: CONNECTIONS, pipelining: 1, allowH2: false, keepAliveTimeout: 30_000 } as const
  const ways = openWays(lookup => new Agent({ ...options, connect: { ...connect, lookup } }))
  return {
    close: ways.close,
    send: async outgoing => {
      const started = performance.now()
      let status = 0
      let date: string | undefined
      const agent = ways.current()
      try {
        const reply = await call(agent, optionsOf(origin, base, outgoing), { deadlineMs, bytes: MAX_REPLY_BYTES }).catch(tooLong)
        status = reply.status
        date = reply.headers['date']?.toString()
        const text = reply.body.toString('utf8')
        // a question is answered, if only with 404; what is done may have nothing to tell
        const mayBeEmpty = status === 204 ? outgoing.method !== 'GET' : status >= 300
        return { status, body: text === '' && mayBeEmpty ? undefined : envelope(text, status) }
      } finally {
        if (status === 0 || isOutOfService(status)) {
          ways.doubt(agent)
          onDoubt?.()
        }
        observe?.(outgoing.method, status, (performance.now() - started) / 1000, date)
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

function tooLong(error: unknown): never {
  throw error instanceof GivenUp && error.why === 'long' ? new Unusable('the reply is too long') : error
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
