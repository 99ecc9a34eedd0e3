import type { Socket } from 'node:net'
import { parseAuthority } from '#engine'
import { blockListOf } from '../egress/addresses.ts'
import { openDial, openSocket } from '../egress/dial.ts'
import type { ConnectorPorts, StreamPorts } from './connector.ts'

/** What every service on a port of its own is, and what of the world its sessions need. */
export type ServicePorts = Omit<StreamPorts, 'tls'> & {
  readonly service: string
  readonly place: { readonly host: string; readonly port: number }
  /** a connection to the server */
  readonly dial: () => Promise<Socket>
  /** from the connection to the login */
  readonly startWithinMs: number
  /** how often a session that goes on is looked at: whether its token still counts */
  readonly watchMs: number
}

type Declared = {
  readonly name: string
  readonly server: string
  readonly addresses: readonly string[]
  readonly start_within_ms: number
  readonly watch_ms: number
}

/** @param port of the server, where it says none */
export function servicePorts(declared: Declared, port: number, { resolve }: ConnectorPorts, lent: StreamPorts): ServicePorts {
  const { tls: _, ...shared } = lent
  const place = parseAuthority(declared.server, port)
  if (!place) throw new Error('the schema lets no other server through')
  const { start_within_ms: timeoutMs, watch_ms: watchMs } = declared
  const connect = openDial({ resolve, listed: blockListOf(declared.addresses), timeoutMs, http2: false })
  const dial = () => openSocket(connect, place)
  return { ...shared, service: declared.name, place, dial, startWithinMs: timeoutMs, watchMs }
}
