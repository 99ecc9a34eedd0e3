import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Agent, request } from 'node:https'
import { finished } from 'node:stream'
import { ASKS, type Asked, askedOf, isAbsolute } from './asked.ts'
import { drained } from './pipes.ts'
import { type ProxyPlace, unreachable } from './tunnel.ts'

export type ForwardOptions = {
  readonly proxy: ProxyPlace
  /** of who may ask */
  readonly secret: string
  readonly say: (message: string) => void
}

/** Requests with our base URL, and those that a client sends to a proxy for plain HTTP. */
export function forward(
  { proxy, secret, say }: ForwardOptions,
  agent: Agent,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): void {
  const asked = askedOf(incoming, secret)
  if (asked === undefined) {
    const [status, asks] = isAbsolute(incoming) ? [407, { 'Proxy-Authenticate': ASKS }] : [403, {}]
    outgoing.writeHead(status, { ...asks, Connection: 'close' }).end()
    return
  }
  const { host: _, 'proxy-authorization': __, 'proxy-connection': ___, trailer: ____, ...headers } = incoming.headers
  const { host: hostname, port } = proxy
  const { path } = asked
  const upstream = request({ agent, hostname, port, method: incoming.method, path, headers }, answer => {
    if (!begun(outgoing, answer, asked)) return void answer.destroy()
    answer.pipe(outgoing, { end: false })
    finished(answer, error => {
      if (error)
        outgoing.destroy() // what breaks off breaks off for the command, too
      else drained(incoming, () => outgoing.end())
    })
  })
  upstream.once('upgrade', (_, socket) => {
    socket.destroy()
    outgoing.destroy() // nobody asked for another protocol here, and no answer comes any more
  })
  upstream.on('error', error => {
    if (outgoing.destroyed) return // the command has left, and ended it
    say(unreachable(error))
    if (outgoing.headersSent) outgoing.destroy()
    else outgoing.writeHead(502, { Connection: 'close' }).end()
  })
  outgoing.once('close', () => upstream.destroy())
  incoming.pipe(upstream)
}

/** False for what Node reads and does not write, such as the status 000: with such an answer the connection ends, and nothing else. */
function begun(outgoing: ServerResponse, { statusCode, headers }: IncomingMessage, { back: [from, to] }: Asked): boolean {
  // how trailers are announced is between us and the proxy: none are handed on
  const { trailer: _, ...rest } = headers
  for (const name of ['location', 'content-location'] as const) {
    const led = rest[name]
    if (led?.startsWith(from)) rest[name] = `${to}${led.slice(from.length)}`
  }
  try {
    outgoing.writeHead(statusCode ?? 502, rest)
    return true
  } catch {
    outgoing.destroy()
    return false
  }
}
