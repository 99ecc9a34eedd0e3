import type { EventEmitter } from 'node:events'

/** All that the commands have of the process they run in. */
export type World = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** how this program is started, without arguments */
  readonly program: readonly string[]
  /** milliseconds since 1970 */
  readonly now: () => number
  /** unpredictable bytes */
  readonly random: (size: number) => Buffer
  /** Results, for scripts. @throws AgentError of `file` when they cannot be written */
  readonly out: (text: string) => void | Promise<void>
  /** Messages, for people. */
  readonly err: (text: string) => void
  readonly exit: (code: number) => void | Promise<void>
  /** whether what is typed to interrupt reaches the command by itself */
  readonly terminal: boolean
  /** what signals arrive at */
  readonly signals: EventEmitter
  /** where private files may live for a while, the best first: memory before disk */
  readonly directories: readonly string[]
}
