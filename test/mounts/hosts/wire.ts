import { connect, createServer, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { onTestFinished } from 'vitest'

/** One end of a connection, byte for byte: what was sent by the other end is in `text`. */
export type Line = {
  readonly socket: Socket
  readonly text: () => string
  readonly write: (bytes: string | Buffer) => void
  /** Resolves with the text once it holds the pattern; throws when the other end closes before. */
  readonly until: (pattern: RegExp | string) => Promise<string>
  /** Resolves with the text once the other end has closed. */
  readonly closed: Promise<string>
}

function lineOf(socket: Socket): Line {
  const chunks: Buffer[] = []
  const text = () => Buffer.concat(chunks).toString('latin1')
  const watchers = new Set<() => void>()
  const told = () => {
    for (const watcher of watchers) watcher()
  }
  socket.on('data', chunk => {
    chunks.push(chunk)
    told()
  })
  socket.on('error', () => {}) // a reset is an end too
  const closed = new Promise<string>(resolve => socket.once('close', () => resolve(text())))
  socket.once('close', told)
  const until = (pattern: RegExp | string) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        const found = typeof pattern === 'string' ? text().includes(pattern) : pattern.test(text())
        if (!found && !socket.destroyed) return
        watchers.delete(look)
        if (found) resolve(text())
        else reject(new Error(`the connection closed without ${pattern}:\n${text()}`))
      }
      watchers.add(look)
      look()
    })
  return { socket, text, until, closed, write: bytes => void socket.write(bytes) }
}

/** Connects to a URL's host and port; for https, with these options. */
export async function dial(url: string, tls: ConnectionOptions = {}): Promise<Line> {
  const { protocol, hostname, port } = new URL(url)
  const place = { host: hostname, port: Number(port) }
  const socket = protocol === 'https:' ? connectTls({ ...place, ...tls }) : connect(place)
  onTestFinished(() => void socket.destroy())
  await new Promise((resolve, reject) => {
    socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', resolve).once('error', reject)
  })
  // who hangs up first may be told so by the other's reset
  socket.on('error', () => undefined)
  return lineOf(socket)
}

/** A server that does with each connection what it is told: for upstreams that Node's own server would not be. */
export async function listenRaw(serve: (line: Line) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    serve(lineOf(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}

/** The text of a request: lines end as they must, Host and the empty line are added. */
export function requestText(line: string, headers: readonly string[] = [], body = ''): string {
  return [`${line} HTTP/1.1`, 'Host: door.example', ...headers, '', body].join('\r\n')
}

/** Of a reply as it was on the wire. */
export const headerOf = (text: string, name: string) => new RegExp(`^${name}: (.*)\r$`, 'im').exec(text)?.[1]
export const bodyOf = (text: string) => text.slice(text.indexOf('\r\n\r\n') + 4)
