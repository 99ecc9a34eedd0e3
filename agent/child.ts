import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { reasonOf } from './client.ts'
import { AgentError } from './exits.ts'

export type ChildOptions = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** beyond 0 to 2, which are this process's own */
  readonly descriptors: readonly (number | null)[]
  /** whether the keyboard's signals reach the child by themselves: they go to every process of a terminal's foreground group */
  readonly terminal: boolean
  /** what signals arrive at: `process` */
  readonly signals: NodeJS.EventEmitter
}

const KEYBOARD = ['SIGINT', 'SIGQUIT'] as const
const OTHERS = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
/** What a shell adds to the number of the signal that ended a command. */
const SIGNALLED = 128

/**
 * Runs a command to its end, handing on the signals that come meanwhile.
 * @returns its exit code; 128 and the signal's number when a signal ended it @throws AgentError of `child` when it does not start
 */
export async function runChild(command: string, args: readonly string[], options: ChildOptions): Promise<number> {
  const child = await started(command, args, options)
  const stop = handOn(child, options)
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    return code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])
  } finally {
    stop()
  }
}

async function started(command: string, args: readonly string[], { env, descriptors }: ChildOptions): Promise<ChildProcess> {
  try {
    const extra = descriptors.map(descriptor => descriptor ?? ('ignore' as const))
    const child = spawn(command, args, { env, stdio: ['inherit', 'inherit', 'inherit', ...extra] })
    await once(child, 'spawn')
    return child.on('error', () => {}) // from here on it means that a signal could not be sent
  } catch (error) {
    throw new AgentError('child', `could not start ${command} (${reasonOf(error)})`, { cause: error })
  }
}

function handOn(child: ChildProcess, { terminal, signals }: ChildOptions): () => void {
  const pass = (signal: NodeJS.Signals) => void child.kill(signal)
  const leave = () => {}
  for (const signal of OTHERS) signals.on(signal, pass)
  for (const signal of KEYBOARD) signals.on(signal, terminal ? leave : pass)
  return () => {
    for (const signal of OTHERS) signals.off(signal, pass)
    for (const signal of KEYBOARD) signals.off(signal, terminal ? leave : pass)
  }
}
