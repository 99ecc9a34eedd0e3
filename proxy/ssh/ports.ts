import type { Socket } from 'node:net'
import type { StreamPorts } from '../connectors/connector.ts'
import type { Door } from '../tls/secure.ts'
import type { HostTrust } from './host.ts'

/** What an SSH service is, and what of the world its sessions need. */
export type SessionPorts = Omit<StreamPorts, 'tls'> & {
  readonly service: string
  readonly place: { readonly host: string; readonly port: number }
  readonly door: Door
  readonly trust: HostTrust
  /** users that are served; any when empty */
  readonly users: readonly string[]
  /** what certificates may permit beyond running a command: names of their extensions */
  readonly permitted: readonly string[]
  readonly dial: () => Promise<Socket>
  /** from the connection to the login */
  readonly startWithinMs: number
  /** how often a session that goes on is looked at: whether its token still counts */
  readonly watchMs: number
}
