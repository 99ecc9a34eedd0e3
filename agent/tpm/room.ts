import { flushContext, handlesFrom } from './commands.ts'
import { TpmError } from './errors.ts'
import { rc } from './response_codes.ts'
import type { Command, Tpm } from './tpm.ts'
import { inTurn } from './turn.ts'

/** Where the handles begin of what there is no room for. */
const FULL: ReadonlyMap<number, number> = new Map([
  [rc.OBJECT_MEMORY, 0x80000000], // transient keys
  [rc.SESSION_MEMORY, 0x02000000], // loaded sessions
])

/**
 * A TPM without a resource manager keeps what a program left that was ended in the middle, or that lost its connection, until there is room for nothing.
 * Such a TPM has one client at a time: what is there and was not made here is nobody's, and is flushed when its room is wanted.
 * A resource manager finds room by itself.
 */
export function withRoom(tpm: Tpm): Tpm {
  const turn = inTurn()
  const own = new Set<number>()
  const run = <T>(command: Command<T>): Promise<T> =>
    tpm.run({
      ...command,
      read: (reader, handle) => {
        if (command.givesHandle) own.add(handle)
        return command.read(reader, handle)
      },
    })
  const runWithRoom = async <T>(command: Command<T>): Promise<T> => {
    try {
      return await run(command)
    } catch (error) {
      const first = error instanceof TpmError ? FULL.get(error.code) : undefined
      if (first === undefined || !(await flushOthers(tpm, first, own))) throw error
      return await run(command)
    }
  }
  return { ...tpm, run: command => turn(() => runWithRoom(command)) }
}

/** @returns whether there was anything */
async function flushOthers(tpm: Tpm, first: number, own: ReadonlySet<number>): Promise<boolean> {
  const others = (await handlesFrom(tpm, first)).filter(handle => !own.has(handle))
  for (const handle of others) await flushContext(tpm, handle)
  return others.length > 0
}
