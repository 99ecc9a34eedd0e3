import { isConflict } from './errors.ts'

// What to do when somebody else changed the same record at the same time: the store writes over nothing that was not read (check-and-set).

/** Does it again for as long as somebody else was faster: it has to read anew what it changes.
 *  @param tries how often at the most. @throws BrokerError conflict when all of them were in vain, and at once whatever else goes wrong */
export async function retryConflicts<T>(tries: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (tries === 1 || !isConflict(error)) throw error
    return retryConflicts(tries - 1, work)
  }
}

/** For `catch`, where what somebody else wrote will do as well. */
export function ignoreConflict(error: unknown): void {
  if (!isConflict(error)) throw error
}

/** Whether this write was made, and not one of somebody else in its place. */
export async function wasFirst(write: Promise<unknown>): Promise<boolean> {
  try {
    await write
    return true
  } catch (error) {
    if (isConflict(error)) return false
    throw error
  }
}
