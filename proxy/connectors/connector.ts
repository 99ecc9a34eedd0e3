import type { z } from 'zod'
import type { Resolve } from '../egress/dial.ts'
import type { HttpService } from '../http/service.ts'

/** A kind of upstream service. A new one is a file beside this and a line in `index.ts`. */
export type Connector<Schema extends z.ZodType<{ readonly name: string; readonly kind: string }>> = {
  readonly summary: string
  /** what an operator may declare of a service of this kind */
  readonly schema: Schema
  /** Makes the declared service ready. @throws BrokerError when a file it names cannot be used */
  readonly open: (declared: z.output<Schema>, ports: ConnectorPorts) => Promise<OpenService>
}

export type ConnectorPorts = {
  readonly resolve: Resolve
  /** the text of a file that the configuration names. @throws BrokerError unavailable when it cannot be read */
  readonly read: (file: string) => Promise<string>
}

export type OpenService = {
  /** what takes part in the HTTP side of the proxy */
  readonly http: HttpService
  readonly close: () => Promise<void>
}
