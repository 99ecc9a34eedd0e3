import type { ServicePorts } from '../connectors/sessions.ts'
import type { Door } from '../tls/secure.ts'
import type { HostTrust } from './host.ts'

/** What an SSH service is, and what of the world its sessions need. */
export type SessionPorts = ServicePorts & {
  readonly door: Door
  readonly trust: HostTrust
  /** users that are served; any when empty */
  readonly users: readonly string[]
  /** what certificates may permit beyond running a command: names of their extensions */
  readonly permitted: readonly string[]
}
