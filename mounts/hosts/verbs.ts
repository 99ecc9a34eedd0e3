import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'

/** Vault's verbs that Node's parser does not know, and verbs of the same length, without a meaning of their own, that it does. */
const STAND_INS: Readonly<Record<string, string>> = { LIST: 'LINK', SCAN: 'LOCK', HELP: 'BIND' }
const VERBS = Object.keys(STAND_INS)
const INITIALS: ReadonlySet<number | undefined> = new Set(VERBS.map(verb => verb.charCodeAt(0)))
const LENGTH = 'LIST '.length
const END_OF_HEAD = Buffer.from('\r\n\r\n')

/** Lets a server of node:http or node:https take LIST, SCAN and HELP. Call it before any other listener for requests is added.
 *
 *  llhttp has a fixed table of verbs. So where a message begins and only there, a known verb of the same length takes the place
 *  of Vault's in the bytes, and the request gets its own back before anybody sees it. No framing decision is taken here: when it
 *  is not certain that a message begins (requests sent ahead of their replies), the bytes stay as they are and the parser refuses.
 *  Stands on `socket.push`, through which Node hands over what it read as soon as somebody listens for `data`. */
export function acceptVaultVerbs(server: Server): void {
  const lines = new WeakMap<Socket, Line>()
  const watch = (socket: Socket) => {
    lines.set(socket, watchLine(socket))
    socket.on('data', () => {})
  }
  const restore = (incoming: IncomingMessage) => lines.get(incoming.socket)?.begun(incoming)
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', watch)
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.prependListener(event, restore)
}

type Line = { readonly begun: (incoming: IncomingMessage) => void }

function watchLine(socket: Socket): Line {
  const push = socket.push.bind(socket)
  let message = newMessage()
  let verb: string | undefined
  let held: Buffer = Buffer.alloc(0)

  function take(chunk: Buffer): boolean {
    if (message.ended()) message = newMessage()
    if (message.started()) return pass(chunk)
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    if (held.length < LENGTH && VERBS.some(name => `${name} `.startsWith(held.toString('latin1')))) return true
    const all = held
    held = Buffer.alloc(0)
    return pass(replaceVerb(all))
  }

  function replaceVerb(bytes: Buffer): Buffer {
    if (!INITIALS.has(bytes[0])) return bytes
    const name = bytes.toString('latin1', 0, LENGTH - 1)
    const standIn = bytes[LENGTH - 1] === 0x20 && Object.hasOwn(STAND_INS, name) ? STAND_INS[name] : undefined
    if (standIn === undefined) return bytes
    verb = name
    return Buffer.concat([Buffer.from(standIn), bytes.subarray(LENGTH - 1)])
  }

  function pass(chunk: Buffer): boolean {
    message.count(chunk)
    return push(chunk)
  }

  socket.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (Buffer.isBuffer(chunk)) return take(chunk)
    if (held.length > 0) pass(held)
    held = Buffer.alloc(0)
    return push(chunk, encoding)
  }
  return {
    begun: incoming => {
      if (verb !== undefined) incoming.method = verb
      verb = undefined
      message.is(incoming)
    },
  }
}

/** Counts the bytes of one message, to tell with certainty whether the parser stands at its very end. */
function newMessage() {
  let incoming: IncomingMessage | undefined
  let bytes = 0
  let headBytes: number | undefined
  let tail = Buffer.alloc(0)

  function count(chunk: Buffer): void {
    const unread = headBytes === undefined ? chunk : chunk.subarray(-END_OF_HEAD.length)
    const text = tail.length === 0 ? unread : Buffer.concat([tail, unread])
    const at = headBytes === undefined ? text.indexOf(END_OF_HEAD) : -1
    if (at >= 0) headBytes = bytes - tail.length + at + END_OF_HEAD.length
    tail = Buffer.from(text.subarray(-END_OF_HEAD.length)) // a copy: the packet itself may go
    bytes += chunk.length
  }

  function ended(): boolean {
    if (!incoming?.complete || headBytes === undefined) return false
    const length = incoming.headers['content-length']
    // without a length the head or the last chunk ends in an empty line; the head of a further message would not have ended yet
    return length === undefined ? tail.equals(END_OF_HEAD) : bytes === headBytes + Number(length)
  }

  const is = (begun: IncomingMessage) => {
    incoming = begun
  }
  return { count, ended, is, started: () => bytes > 0 }
}
