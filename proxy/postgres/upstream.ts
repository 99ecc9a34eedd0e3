import type { Socket } from 'node:net'
import type { Client, Connection } from 'pg'
import type { Secret } from '#engine'

export type Upstream = {
  readonly socket: Socket
  readonly parameters: ReadonlyMap<string, string>
  readonly processId: number
  readonly secretKey: number
}

export type UpstreamOptions = {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: Secret
  readonly applicationName: string
  readonly options: string
  readonly encoding: string | undefined
  /** undefined: without TLS, as an operator declared it */
  readonly tls: { readonly ca: string | undefined } | undefined
  /** a connection to an address that was checked */
  readonly socket: Socket
  readonly timeoutMs: number
}

/** Authenticates with what the agent never sees (SCRAM-SHA-256, RFC 5802 and 7677), and hands over the session when it is ready.
 *  @throws Error of the server or the network; its message may hold names of the database, never the password */
export async function logIn(options: UpstreamOptions): Promise<Upstream> {
  const { default: pg } = await import('pg')
  const { port, database, user, password, applicationName, options: settings, encoding, tls } = options
  const host = options.host.replace(/^\[|\]$/g, '')
  const client = new pg.Client({
    host,
    port,
    database,
    user,
    password: password.reveal(),
    application_name: applicationName,
    ...(settings === '' ? {} : { options: settings }),
    // whose certificate it has to be; the library names it in the handshake where that is no address
    ssl: tls ? { rejectUnauthorized: true, host, ...(tls.ca === undefined ? {} : { ca: tls.ca }) } : false,
    connectionTimeoutMillis: options.timeoutMs,
    stream: () => connected(options.socket),
  }) as Client & { readonly connection: Connection & { readonly stream: Socket } }
  client.on('error', () => undefined)
  const parameters = new Map<string, string>()
  const key = { processId: 0, secretKey: 0 }
  client.connection.on('parameterStatus', ({ parameterName, parameterValue }) => parameters.set(parameterName, parameterValue))
  client.connection.on('backendKeyData', ({ processID, secretKey }) => Object.assign(key, { processId: processID, secretKey }))
  try {
    await client.connect()
    // the library says UTF8 to begin with
    if (encoding !== undefined && !/^utf-?8$/i.test(encoding))
      await client.query("select pg_catalog.set_config('client_encoding', $1, false)", [encoding])
  } catch (error) {
    // the library leaves it to the server to end what it refused
    options.socket.destroy()
    throw error
  }
  const socket = client.connection.stream
  // from here on its bytes are the agent's: the library reads no more of them
  socket.removeAllListeners('data').pause()
  return { socket, parameters, ...key }
}

/** The library connects what it is given; this is connected already, to an address that was looked at. */
function connected(socket: Socket): Socket {
  return Object.assign(socket, {
    connect: () => {
      queueMicrotask(() => socket.emit('connect'))
      return socket
    },
  })
}
