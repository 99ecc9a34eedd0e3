import type { Socket } from 'node:net'
import type { Client, Connection } from 'pg'
import type { Secret } from '#engine'
import { bareHost } from '../egress/addresses.ts'

export type Upstream = {
  readonly socket: Socket
  readonly parameters: ReadonlyMap<string, string>
  readonly processId: number
  readonly secretKey: number
}

export type Login = {
  readonly database: string
  readonly user: string
  readonly password: Secret
  readonly applicationName: string
  readonly options: string
  /** what texts are encoded in, where the client says so; UTF8 else */
  readonly encoding: string | undefined
}

export type UpstreamOptions = Login & {
  readonly host: string
  readonly port: number
  /** undefined: without TLS, as an operator declared it */
  readonly tls: { readonly ca: string | undefined } | undefined
  /** a connection to an address that was checked */
  readonly socket: Socket
  readonly timeoutMs: number
}

/** The server wants the password in another way than SCRAM, or more than once, or did not prove that it knows it. */
class NotScram extends Error {
  readonly code = 'NOT_SCRAM'
  constructor() {
    super('the server does not authenticate with SCRAM')
    this.name = 'NotScram'
  }
}

/** A message of the server goes on and on. */
class TooLong extends Error {
  readonly code = 'MESSAGE_TOO_LONG'
  constructor() {
    super('a message of the server is longer than any of a login')
    this.name = 'TooLong'
  }
}

/** As the library is, where its types do not say it. */
type Connecting = Connection & { readonly stream: Socket }

/** Authenticates with what the agent never sees (SCRAM-SHA-256, RFC 5802 and 7677), and hands over the session when it is ready.
 *  @throws NotScram when the server asks for something else; the password stays here then
 *  @throws TooLong when it says more than a login takes
 *  @throws Error of the server or the network; its message may hold names of the database, never the password */
export async function logIn(options: UpstreamOptions): Promise<Upstream> {
  const { default: pg } = await import('pg')
  const { port, database, user, password, applicationName, options: settings, encoding, tls } = options
  const host = bareHost(options.host)
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
    // to the certificate of this very connection, where the server can (SCRAM-SHA-256-PLUS, RFC 5929, 4): else it hears that we could
    enableChannelBinding: tls !== undefined,
    connectionTimeoutMillis: options.timeoutMs,
    stream: () => connected(options.socket),
  }) as Client & { readonly connection: Connecting }
  client.on('error', () => undefined)
  const parameters = new Map<string, string>()
  const key = { processId: 0, secretKey: 0 }
  client.connection.on('parameterStatus', ({ parameterName, parameterValue }) => parameters.set(parameterName, parameterValue))
  client.connection.on('backendKeyData', ({ processID, secretKey }) => Object.assign(key, { processId: processID, secretKey }))
  const behind = behindReady(client.connection, tls ? 'sslconnect' : 'connect')
  try {
    const connecting = client.connect()
    const proven = scramAlone(client.connection)
    await connecting
    if (!proven()) throw new NotScram()
    // the library says UTF8 to begin with
    if (encoding !== undefined && !/^utf-?8$/i.test(encoding))
      await client.query("select pg_catalog.set_config('client_encoding', $1, false)", [encoding])
  } catch (error) {
    // the library leaves it to the server to end what it refused
    options.socket.destroy()
    throw error
  }
  const socket = client.connection.stream
  // from here on its bytes are the agent's: the library reads no more of them, and what it has read of them is put back
  socket.removeAllListeners('data').pause()
  const read = behind()
  if (read.length > 0) socket.unshift(read)
  return { socket, parameters, ...key }
}

/** The library would answer whoever asks for the password in clear, or for a hash of it, also in the middle of SCRAM: what it has for that is taken away. And it
 *  would answer each challenge of SCRAM: as that is a hundred thousand hashes at most, a server that sends hundreds would hold up whatever else waits for Node's
 *  threads, so that one is answered.
 *  @returns whether the server has proven that it knows the password */
function scramAlone(connection: Connecting): () => boolean {
  let isProven = false
  const refuse = (asked: string) => connection.removeAllListeners(asked).on(asked, () => connection.emit('error', new NotScram()))
  for (const asked of ['authenticationCleartextPassword', 'authenticationMD5Password']) refuse(asked)
  // behind the library, which answers the first
  connection.once('authenticationSASLContinue', () => refuse('authenticationSASLContinue'))
  // behind the library, which looks at the server's signature and ends the connection when it is wrong
  connection.on('authenticationSASLFinal', () => {
    isProven = true
  })
  return () => isProven
}

const READY = 'Z'.charCodeAt(0)
/** What waits to be a whole message, here and in the library, is copied with each piece of it. */
const MOST = 262_144

/** @returns what the server has said behind its last ReadyForQuery: a message that came with it, or a part of one
 *  @see PostgreSQL documentation, 55.7 Message Formats */
function behindReady(connection: Connecting, begins: 'connect' | 'sslconnect'): () => Buffer {
  let [held, whole, isReady]: [Buffer, number, boolean] = [Buffer.alloc(0), 0, false]
  const read = (chunk: Buffer) => {
    held = Buffer.concat([held, chunk])
    if (held.length > MOST) connection.emit('error', new TooLong())
    while (held.length >= whole + 5) {
      const end = whole + 1 + held.readUInt32BE(whole + 1)
      if (end > held.length) return
      const isNow = held[whole] === READY
      isReady ||= isNow
      if (isReady && !isNow) whole = end
      else [held, whole] = [held.subarray(end), 0]
    }
  }
  connection.once(begins, () => connection.stream.on('data', read))
  return () => held
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
