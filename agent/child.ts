import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { reasonOf } from './client.ts'
import { AgentError } from './exits.ts'
import type { Relay } from './relay.ts'

export type ChildOptions = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** beyond 0 to 2, which are this process's own */
  readonly descriptors: readonly (number | null)[]
  /** hands on the signals that come meanwhile */
  readonly relay: Relay
}

/** What a shell adds to the number of the signal that ended a command. */
const SIGNALLED = 128

/**
 * Runs a command to its end.
 * @returns its exit code; 128 and the signal's number when a signal ended it @throws AgentError of `child` when it does not start
 */
export async function runChild(command: string, args: readonly string[], options: ChildOptions): Promise<number> {
  const child = await started(command, args, options)
  options.relay.to(signal => child.kill(signal))
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])
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
