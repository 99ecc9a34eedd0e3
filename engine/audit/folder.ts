import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { BrokerError } from '../errors.ts'

/** Makes the folder of a log, for its owner alone. @throws BrokerError unavailable when it is not there and cannot be made */
export async function makeFolderOf(file: string): Promise<void> {
  const folder = dirname(file)
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    // of a file system that may only be read, too, Node says that there is no such folder
    const message = `the folder of the audit log is not there, and ${folder} cannot be made here (${cause.code})`
    throw new BrokerError('unavailable', message, { cause })
  })
}
