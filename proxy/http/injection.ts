import type { Secret } from '#engine'
import type { Verdict } from '../refusals.ts'
import type { Head } from './head.ts'

/** What goes out: made by the injections one after the other. */
export type Outgoing = {
  /** name, value, name, value, ... */
  readonly headers: string[]
  query: string
  /** the body, when it had to be held to be looked at; undefined while it flows */
  body: Buffer | undefined
}
export type Fields = Readonly<Record<string, Secret>>

export type Asked = {
  readonly head: Head
  readonly fields: Fields
  /** wall clock, milliseconds since the epoch */
  readonly now: number
  /** the whole body, up to a limit. */
  readonly body: () => Promise<Verdict<Buffer>>
}

/** A place where the real credential goes. */
export type Injection = {
  /** headers that it sets, in lower case: the client's own are dropped */
  readonly slots: readonly string[]
  /** Puts the credential in. A promise only where the body is needed. */
  readonly apply: (outgoing: Outgoing, asked: Asked) => Verdict<void> | Promise<Verdict<void>>
  /** What of the fields is sent in another spelling than its own, and so has to be looked for in the answer too. */
  readonly spelled?: (fields: Fields) => readonly string[]
}
