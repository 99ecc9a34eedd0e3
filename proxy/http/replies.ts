import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { leave } from '../leave.ts'
import { type RefusalCode, rowOf, toldOf } from '../refusals.ts'

/** What a refusal says: Vault's shape of errors, the code beside it, nothing of what was sent. All tokens that open nothing get one answer. */
function refusalBody(code: RefusalCode, txn: string): { readonly status: number; readonly json: string } {
  const { code: shown, sentence } = toldOf(code)
  return {
    status: rowOf(code).status,
    json: JSON.stringify({ code: shown, errors: [`${shown}: ${sentence}; correlation id ${txn}`] }),
  }
}

/** Ends the connection too when a body is still on its way that nobody will read. */
export function replyRefused(incoming: IncomingMessage, outgoing: ServerResponse, code: RefusalCode, txn: string): void {
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy()
    return
  }
  const { status, json } = refusalBody(code, txn)
  const owed = isOwed(incoming)
  const { socket } = incoming
  outgoing.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(json),
    'Cache-Control': 'no-store',
    ...(owed ? { Connection: 'close' } : {}),
    ...(status === 503 ? { 'Retry-After': '1' } : {}),
    ...(status === 401 ? { 'WWW-Authenticate': `${code === 'NO_PASSWORD' ? 'Basic' : 'Bearer'} realm="assay"` } : {}),
  })
  if (owed) outgoing.once('finish', () => socket.destroySoon())
  // what is not well-formed has no body that could be read to its end
  if (!owed || code === 'REQUEST_FORM') return void outgoing.end(json)
  outgoing.write(json)
  drained(incoming, OWED_MS, () => outgoing.end())
}

/** How long somebody whose request was refused may go on to send it. */
const OWED_MS = 30_000

/** Many read an answer once their body is out, and what is closed with a part of it unread is reset: of the answer they would hear nothing. */
export function drained(incoming: IncomingMessage, withinMs: number, then: () => void): void {
  if (incoming.destroyed) {
    then()
    return
  }
  const late = setTimeout(then, withinMs)
  incoming
    .removeAllListeners('data')
    .resume()
    .once('close', () => {
      clearTimeout(late)
      then()
    })
}

/** For connections that are no longer, or not yet, in the hands of the HTTP server. */
export function replyRefusedRaw(socket: Duplex, code: RefusalCode, txn: string): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const { status, json } = refusalBody(code, txn)
  const head = [
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(json)}`,
    'Cache-Control: no-store',
    'Connection: close',
  ]
  leave(socket, `HTTP/1.1 ${status} Refused\r\n${head.join('\r\n')}\r\n\r\n${json}`)
}

/** Whether a part of the body is still to come. */
export function isOwed(incoming: IncomingMessage): boolean {
  return !incoming.complete && hasBody(incoming)
}

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}
