import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'

const LINGER_MS = 500

/** An error of the front door's own in Vault's shape. No message: an empty list, as Vault has for what is not there. */
export function errorBody(message: string): string {
  return `${JSON.stringify({ errors: message ? [message] : [] })}\n`
}

/** The headers of an error of the front door's own, name and value by turns. */
export function errorHeaders(status: number, body: string): string[] {
  const headers = [
    'Content-Type',
    'application/json',
    'Cache-Control',
    'no-store',
    'Content-Length',
    String(Buffer.byteLength(body)),
  ]
  return status === 503 ? [...headers, 'Retry-After', '1'] : headers
}

const refused = new WeakSet<ServerResponse>()

/** Answers with an error. The first one stands; an answer of another kind that is already on its way is cut off, so that nobody takes it
 *  for whole. */
export function replyError(outgoing: ServerResponse, status: number, message: string): void {
  if (refused.has(outgoing)) return
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy()
    return
  }
  refused.add(outgoing)
  const body = errorBody(message)
  const close = awaitsBody(outgoing.req) ? ['Connection', 'close'] : []
  outgoing.writeHead(status, [...errorHeaders(status, body), ...close])
  endReply(outgoing, body)
}

/** Answers that the request is to be sent again, as it is, to another path. */
export function replyElsewhere(outgoing: ServerResponse, location: string): void {
  const close = awaitsBody(outgoing.req) ? ['Connection', 'close'] : []
  outgoing.writeHead(307, ['Location', location, 'Cache-Control', 'no-store', 'Content-Length', '0', ...close])
  endReply(outgoing)
}

/** Answers on a connection whose next request could not be read. */
export function replyErrorRaw(socket: Socket, status: number, message: string): void {
  const body = errorBody(message)
  const headers = [...errorHeaders(status, body), 'Connection', 'close']
  const lines = headers.map((text, at) => (at % 2 === 0 ? `${text}: ` : `${text}\r\n`))
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`)
  socket.resume()
  const cut = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(cut))
}

/** Ends a reply. To close what the client still writes to would reset it, and the reply is lost on its way: so while it sends, it gets
 *  a moment to stop. */
export function endReply(outgoing: ServerResponse, last?: string): void {
  const { req } = outgoing
  if (!awaitsBody(req) || req.socket.readableEnded) {
    outgoing.end(last)
    return
  }
  if (last !== undefined) outgoing.write(last)
  const done = () => {
    clearTimeout(cut)
    outgoing.end()
    if (!req.complete) req.socket.destroySoon()
  }
  const cut = setTimeout(done, LINGER_MS)
  req.once('close', done)
  req.resume()
}

/** Whether part of the request's body has still to come. Until its head is dealt with, a request without a body is not complete either. */
export function awaitsBody(incoming: IncomingMessage): boolean {
  return hasBody(incoming) && !incoming.complete
}

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}
