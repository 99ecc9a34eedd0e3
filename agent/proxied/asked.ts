import type { IncomingMessage } from 'node:http'
import { sameBytes } from '#attestation'

/** What a request to the companion asks the proxy for. */
export type Asked = {
  readonly path: string
  /** what a `Location` begins with that leads back there, and what the command has to read in its place to come back here */
  readonly back: readonly [from: string, to: string]
}

/** Undefined for who does not know the secret. Some clients send a base URL on the loopback to their proxy, too. */
export function askedOf(incoming: IncomingMessage, secret: string): Asked | undefined {
  const own = `http://127.0.0.1:${incoming.socket.localPort}`
  const { url: asked = '' } = incoming
  const url = asked.startsWith(`${own}/`) ? asked.slice(own.length) : asked
  const [, given = '', rest] = /^\/([^/]+)(\/_\/.*)$/.exec(url) ?? []
  if (rest !== undefined) return same(given, secret) ? { path: rest, back: ['/', `${own}/${secret}/`] } : undefined
  // some ask so for `https:`, too, in place of a tunnel
  const [, scheme, authority, path = '/'] = /^(https?):\/\/([^/?#]+)(\/.*)?$/.exec(url) ?? []
  if (scheme === undefined || !admitted(incoming, secret)) return undefined
  const base = `/_/${scheme === 'http' ? 'http:' : ''}${authority}`
  return { path: `${base}${path}`, back: [`${base}/`, `${scheme}://${authority}/`] }
}

/** Whether a tunnel is asked for that leads here. */
export const isOwn = ({ url, socket }: IncomingMessage): boolean => url === `127.0.0.1:${socket.localPort}`

/** As clients ask a proxy. */
export const isAbsolute = ({ url = '' }: IncomingMessage): boolean => /^https?:\/\//.test(url)

export const USER = 'assay'
/** What a client that has not said who it is is asked for. */
export const ASKS = 'Basic realm="assay"'

/** Whether a client of the companion as a proxy knows the secret. */
export function admitted({ headers }: IncomingMessage, secret: string): boolean {
  const given = /^Basic ([A-Za-z0-9+/=]+)$/.exec(headers['proxy-authorization'] ?? '')?.[1] ?? ''
  return same(Buffer.from(given, 'base64').toString(), `${USER}:${secret}`)
}

const same = (given: string, wanted: string) => sameBytes(Buffer.from(given), Buffer.from(wanted))
