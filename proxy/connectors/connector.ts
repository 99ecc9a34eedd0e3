import type { Socket } from 'node:net'
import type { z } from 'zod'
import type { Destination, Holder } from '#engine'
import type { Resolve } from '../egress/dial.ts'
import type { HttpService } from '../http/service.ts'
import type { Places } from '../places.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import type { Held } from '../tls/holder.ts'
import type { OwnTls } from '../tls/secure.ts'
import type { Known, Tokens } from '../tokens.ts'

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
  readonly http?: HttpService
  /** what has a port of its own */
  readonly stream?: StreamService
  /** Another took its place: what is under way ends as it began, and what it holds with that. */
  readonly retire?: () => void
  /** Ends what is under way; what takes its part in nothing longer than a session has nothing to end. */
  readonly close?: () => Promise<void>
}

/** A service that speaks another protocol, on a port of its own. */
export type StreamService = {
  readonly name: string
  readonly listen: { readonly host: string; readonly port: number }
  readonly begin: (socket: Socket, ports: StreamPorts) => void
}

/** What the proxy lends to a session: who is let in, and what of it is on record. */
export type StreamPorts = {
  readonly tls: OwnTls
  readonly tokens: Tokens
  readonly places: Places
  readonly now: () => number
  readonly newId: () => string
  /** Ends when the record of the session is durable; nothing goes out when it cannot be. */
  readonly record: (swap: StreamSwap, held: Held, txn: string) => Promise<Verdict<void>>
  readonly refused: (code: RefusalCode, detail: string, txn: string, holder: Holder | undefined) => void
  readonly broken: (error: unknown) => void
  /** Tells the other processes that serve the same, where there are any. */
  readonly tellOthers: (text: string) => void
}

export type StreamSwap = {
  readonly known: Known
  readonly service: string
  readonly destination: Destination
  readonly rule: string
}
