import { writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BrokerError } from '../errors.ts'

/**
 * Keeps a log for this writer alone, as two would break each other's chain. What is held is a lock on an empty file beside the log:
 * SQLite's, as Node gives no other. It goes with its process, however that ends, and only who may write the file can hold it.
 * The result lets it go. Throws `BrokerError` unavailable when somebody else has it.
 */
export async function hold(path: string): Promise<() => void> {
  const beside = join(dirname(path), `.${basename(path)}.lock`)
  // never opened when it is there: a process that closes a file lets go of all its locks on it (fcntl(2))
  await writeFile(beside, '', { flag: 'wx', mode: 0o600 }).catch(unlessThere)
  try {
    const lock = locked(beside)
    return () => lock.isOpen && lock.close()
  } catch (cause) {
    const busy = `the audit log ${path} is written by another process: give each a file of its own`
    throw new BrokerError('unavailable', isBusy(cause) ? busy : `${beside} cannot be locked: ${(cause as Error).message}`, {
      cause,
    })
  }
}

function locked(file: string): DatabaseSync {
  const database = new DatabaseSync(file)
  try {
    database.exec('BEGIN EXCLUSIVE')
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

const SQLITE_BUSY = 5
const isBusy = (error: unknown) => (error as { errcode?: number }).errcode === SQLITE_BUSY
