import { type Command, InvalidArgumentError } from 'commander'

/** Our own refusals and what the system refuses read as one sentence; anything else is a bug and shows its stack. */
export async function reported(command: Command, run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    const { BrokerError, VaultRefusal } = await import('#engine')
    if (error instanceof VaultRefusal)
      command.error(`assay: vault answered ${error.status}: ${oneLine(error.errors.join(', '))}`, { exitCode: 3 })
    const known = error instanceof BrokerError || error instanceof InvalidArgumentError || isOfSystem(error)
    if (known) command.error(`assay: ${oneLine(error.message)}`, { exitCode: error.code === 'unavailable' ? 3 : 1 })
    throw error
  }
}

const oneLine = (text: string) => text.replace(/\s+/g, ' ').trim()

/** A file that is not there, a port that is taken. */
function isOfSystem(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}
