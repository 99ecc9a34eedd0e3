import { type BlockList, isIP, type Socket } from 'node:net'
import { buildConnector } from 'undici'
import { SUITES } from '#engine'
import { bareHost, mayDial } from './addresses.ts'

/** All addresses of a name, in the order in which they are to be tried. */
export type Resolve = (host: string) => Promise<readonly string[]>

/** The address that a name leads to may not be dialled. */
export class AddressRefused extends Error {
  readonly code = 'ADDRESS_REFUSED'
  constructor() {
    super('the address may not be dialled')
    this.name = 'AddressRefused'
  }
}

/** What a request or session is refused with that could not reach its server. */
export function unreached(error: unknown): 'ADDRESS' | 'UPSTREAM' {
  return error instanceof AddressRefused ? 'ADDRESS' : 'UPSTREAM'
}

export type DialOptions = {
  readonly resolve: Resolve
  readonly listed: BlockList
  readonly timeoutMs: number
  readonly http2: boolean
  /** PEM: whom the server's certificate must lead to; Node's own roots when left out */
  readonly ca?: string | undefined
  /** PEM: what we show the server */
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

/** Connects to an address that was checked: the name is resolved once per connection, every address of it is looked at, and the socket goes to one of
 *  those. Names and IP literals take the same way. The certificate is checked against the name. */
export function openDial(options: DialOptions): buildConnector.connector {
  const connect = buildConnector({
    timeout: options.timeoutMs,
    allowH2: options.http2,
    rejectUnauthorized: true,
    ciphers: SUITES,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.cert === undefined ? {} : { cert: options.cert, key: options.key }),
  })
  return (target, hand) => {
    // what undici is told after its deadline for connecting it has forgotten
    void dial(options, connect, target).then(
      socket => hand(null, socket),
      (error: Error) => hand(error, null),
    )
  }
}

/** A plain connection, for protocols that begin encryption themselves. */
export function openSocket(
  connect: buildConnector.connector,
  place: { readonly host: string; readonly port: number },
): Promise<Socket> {
  return attempt(connect, { hostname: place.host, protocol: 'http:', port: String(place.port) })
}

async function dial(options: DialOptions, connect: buildConnector.connector, target: buildConnector.Options): Promise<Socket> {
  const name = bareHost(target.hostname)
  const addresses = isIP(name) ? [name] : await inTime(options.resolve(name), options.timeoutMs)
  if (!addresses.every(address => mayDial(address, options.listed))) throw new AddressRefused()
  let failure: Error | undefined
  for (const address of addresses.slice(0, ATTEMPTS)) {
    try {
      return checked(await attempt(connect, { ...target, hostname: address, servername: isIP(name) ? '' : name }), options)
    } catch (error) {
      failure = error as Error
    }
  }
  // of a name that leads nowhere there was nothing to try
  throw failure ?? new AddressRefused()
}

const ATTEMPTS = 3

/** The system's resolver has its own time, of ten seconds and more. */
function inTime<T>(work: Promise<T>, ms: number): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const late = Object.assign(new Error('the name was not resolved in time'), { code: 'ETIMEDOUT' })
  const timer = setTimeout(reject, ms, late)
  return Promise.race([work, promise]).finally(() => clearTimeout(timer))
}

function attempt(connect: buildConnector.connector, target: buildConnector.Options): Promise<Socket> {
  return new Promise((resolve, reject) => {
    connect(target, (error, socket) => (error || !socket ? reject(error ?? new Error('no socket')) : resolve(socket)))
  })
}

/** Where the socket really leads. */
function checked(socket: Socket, { listed }: DialOptions): Socket {
  if (mayDial(socket.remoteAddress ?? '', listed)) return socket
  socket.destroy()
  throw new AddressRefused()
}
