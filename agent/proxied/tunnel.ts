import { connect as connectPlain, isIP } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { SSL_REQUEST } from './declined.ts'
import type { Identity } from './identity.ts'

/** Where the proxy is and how it is known. */
export type ProxyPlace = {
  readonly host: string
  /** that its certificate has to be for */
  readonly name: string
  readonly port: number
  readonly ca: string | undefined
  readonly deadlineMs: number
}

/** How TLS is spoken to the proxy: what we show, and what it has to show. No server is named by an address (RFC 6066 3). */
function tlsOf({ name, ca }: Pick<ProxyPlace, 'name' | 'ca'>, { cert, key }: Identity) {
  const named = isIP(name) === 0 ? { servername: name } : {}
  return { cert, key, minVersion: 'TLSv1.3', ...named, ...(ca === undefined ? {} : { ca }) } as const
}

/** Why there is none, for a person: what the system calls it, or else in words. */
export function unreachable(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return `the proxy could not be reached: ${code ?? message}`
}

/** A connection to the proxy that shows our certificate. */
export function dial(place: ProxyPlace, identity: Identity): Promise<TLSSocket> {
  const { host, port, deadlineMs } = place
  return settled(connect({ host, port, ...tlsOf(place, identity) }), deadlineMs)
}

/** The same where PostgreSQL is spoken: its own question for TLS comes first. @see PostgreSQL documentation, 55.2.11 SSL Session Encryption */
export async function dialPostgres(place: ProxyPlace, identity: Identity): Promise<TLSSocket> {
  const { host, port, deadlineMs } = place
  const socket = connectPlain({ host, port })
  const answer = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the proxy did not answer in time')), deadlineMs)
    socket.once('connect', () => socket.write(SSL_REQUEST))
    socket.once('readable', () => resolve(String(socket.read(1))))
    socket.once('error', reject).once('close', () => reject(new Error('the proxy closed the connection')))
    socket.once('close', () => clearTimeout(timer)).once('readable', () => clearTimeout(timer))
  }).catch((error: unknown) => {
    socket.destroy()
    throw error
  })
  if (answer !== 'S') {
    socket.destroy()
    throw new Error('the proxy speaks no TLS there')
  }
  return settled(connect({ socket, host, ...tlsOf(place, identity) }), deadlineMs)
}

function settled(socket: TLSSocket, deadlineMs: number): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => socket.destroy(new Error('the proxy did not answer in time')), deadlineMs)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      resolve(socket)
    })
    socket.once('error', error => {
      clearTimeout(timer)
      reject(error)
    })
  })
}
