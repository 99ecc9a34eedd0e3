import type { ServicePorts } from '../connectors/sessions.ts'
import type { Door } from '../tls/secure.ts'
import type { Login, Upstream } from './upstream.ts'

/** What a PostgreSQL service is, and what of the world its sessions need. */
export type SessionPorts = ServicePorts & {
  readonly door: Door
  /** databases that are served; any when empty */
  readonly databases: readonly string[]
  readonly connect: (login: Login) => Promise<Upstream>
}
