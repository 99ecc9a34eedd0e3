import { createServer, type IncomingMessage } from 'node:http'
import { Agent } from 'node:https'
import { type AddressInfo, createServer as createSocketServer, type Server } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { ASKS, admitted, askedOf, isOwn, USER } from './asked.ts'
import { declineEncryption } from './declined.ts'
import { forward } from './forward.ts'
import type { Identity } from './identity.ts'
import { relay } from './pipes.ts'
import { dial, dialPostgres, type ProxyPlace, unreachable } from './tunnel.ts'

/** Stands beside the command: programs that know nothing of client certificates reach the proxy through it. */
export type Companion = AsyncDisposable & {
  /** for `https_proxy` and the like */
  readonly proxyUrl: string
  /** itself, as `no_proxy` has it */
  readonly place: string
  /** a base URL: `<base>/api.example.com/v1` goes to https://api.example.com/v1 */
  readonly baseUrl: string
}

export type CompanionOptions = {
  readonly proxy: ProxyPlace
  readonly identity: Identity
  /** who may use it: unguessable, safe in a URL */
  readonly secret: string
  /** PostgreSQL: the proxy's port for it, and the private folder where the socket goes */
  readonly postgres?: { readonly port: number; readonly folder: string } | undefined
  readonly say: (message: string) => void
}

/** Listens on the loopback and, for PostgreSQL, at a socket that only its owner reaches. */
export async function openCompanion(options: CompanionOptions): Promise<Companion> {
  const { proxy, identity, secret, postgres } = options
  const sockets = new Set<Duplex>()
  const agent = new Agent({ keepAlive: true })
  agent.createConnection = (_, done) => {
    const dialled = done as (error: Error | null, socket?: Duplex) => void
    dial(proxy, identity).then(socket => dialled(null, socket), dialled)
    return undefined
  }
  // an upload may last: Node would end it after five minutes
  const settings = { requestTimeout: 0, shouldUpgradeCallback: opensWebSocket }
  const http = createServer(settings, (incoming, outgoing) => forward(options, agent, incoming, outgoing))
  http.on('connect', (incoming: IncomingMessage, socket: Duplex, rest: Buffer) => {
    if (!admitted(incoming, secret)) refuse(socket, UNKNOWN)
    else if (isOwn(incoming)) serveTunnelled(http, socket, rest)
    else void tunnel(options, connectHead(incoming), socket, rest)
  })
  http.on('upgrade', (incoming: IncomingMessage, socket: Duplex, rest: Buffer) => {
    const asked = askedOf(incoming, secret)
    if (asked === undefined) refuse(socket, FORBIDDEN)
    else void tunnel(options, upgradeHead(incoming, asked.path, proxy), socket, rest)
  })
  const servers: Server[] = [http]
  await listening(http, { port: 0, host: '127.0.0.1' })
  if (postgres) {
    const place = { ...proxy, port: postgres.port }
    const server = createSocketServer(socket => void joined(options, socket, () => dialPostgres(place, identity)))
    servers.push(server)
    await listening(server, { path: join(postgres.folder, `.s.PGSQL.${POSTGRES_PORT}`) })
  }
  for (const server of servers) {
    server.on('connection', (socket: Duplex) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
  }
  const { port } = http.address() as AddressInfo
  return {
    place: `127.0.0.1:${port}`,
    proxyUrl: `http://${USER}:${secret}@127.0.0.1:${port}`,
    baseUrl: `http://127.0.0.1:${port}/${secret}/_`,
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) server.close()
      for (const socket of sockets) socket.destroy()
      agent.destroy()
    },
  }
}

/** git, and others on top of curl, say who they are only when they were asked; curl comes back when it was told that the connection ends. */
const UNKNOWN = [
  'HTTP/1.1 407 Proxy Authentication Required',
  `Proxy-Authenticate: ${ASKS}`,
  'Content-Length: 0',
  'Connection: close',
  '\r\n',
].join('\r\n')
const FORBIDDEN = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
export const POSTGRES_PORT = 5432

function listening(server: Server, where: { port: number; host: string } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen(where, resolve))
}

function refuse(socket: Duplex, answer: string): void {
  socket.on('error', () => socket.destroy()).end(answer)
}

/** Some clients send a base URL on the loopback to their proxy, too: those of WebSockets through a tunnel. */
function serveTunnelled(http: Server, socket: Duplex, rest: Buffer): void {
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (rest.length > 0) socket.unshift(rest)
  http.emit('connection', socket)
}

/** The proxy answers this, and looks into what follows with a certificate that the command was told to trust. */
function connectHead({ url }: IncomingMessage): string {
  return `CONNECT ${url} HTTP/1.1\r\nHost: ${url}\r\n\r\n`
}

/** What else a request asks to be upgraded to is not heeded, here as at the proxy. */
function opensWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket'
}

/** What is between the command and this server, or asked of it, goes no further. */
const OURS = new Set(['host', 'proxy-authorization', 'proxy-connection'])

function upgradeHead({ method, rawHeaders }: IncomingMessage, path: string, { host, port }: ProxyPlace): string {
  const fields = rawHeaders.flatMap((name, at) =>
    at % 2 === 0 && !OURS.has(name.toLowerCase()) ? [`${name}: ${rawHeaders[at + 1]}`] : [],
  )
  return [`${method} ${path} HTTP/1.1`, `Host: ${host}:${port}`, ...fields, '\r\n'].join('\r\n')
}

/** A connection to the proxy for the command alone. @param head what is said there first */
async function tunnel({ proxy, identity, say }: CompanionOptions, head: string, socket: Duplex, rest: Buffer): Promise<void> {
  socket.on('error', () => socket.destroy())
  try {
    const upstream = await dial(proxy, identity)
    upstream.write(head, 'latin1')
    if (rest.length > 0) upstream.write(rest)
    relay(socket, upstream)
  } catch (error) {
    say(unreachable(error))
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
  }
}

async function joined({ say }: CompanionOptions, socket: Duplex, dialled: () => Promise<Duplex>): Promise<void> {
  socket.on('error', () => socket.destroy())
  try {
    await declineEncryption(socket)
    relay(socket, await dialled())
  } catch (error) {
    say(unreachable(error))
    socket.destroy()
  }
}
