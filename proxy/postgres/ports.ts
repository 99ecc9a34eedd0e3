import type { Socket } from 'node:net'
import type { Secret } from '#engine'
import type { StreamPorts } from '../connectors/connector.ts'
import type { Door } from '../tls/secure.ts'
import type { Upstream } from './upstream.ts'

/** What a PostgreSQL service is, and what of the world its sessions need. */
export type SessionPorts = Omit<StreamPorts, 'tls'> & {
  readonly service: string
  readonly place: { readonly host: string; readonly port: number }
  /** databases that are served; any when empty */
  readonly databases: readonly string[]
  readonly door: Door
  readonly connect: (login: Login) => Promise<Upstream>
  /** a connection to the same server, for a request to cancel */
  readonly dial: () => Promise<Socket>
  readonly startWithinMs: number
  /** how often a session that goes on is looked at: whether its token still counts */
  readonly watchMs: number
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
