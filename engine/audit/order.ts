import { open, stat } from 'node:fs/promises'
import { indexOf } from './chain.ts'

/** Files of one log from the oldest to the newest, by the first record of each, as names tell it only sometimes. Where one cannot be looked at twice, or
 *  does not begin with a record, they stay as they were given. Throws when a file cannot be read. */
export async function inOrder(files: readonly string[]): Promise<readonly string[]> {
  if (files.length < 2) return files
  const begun = await Promise.all(files.map(async file => ({ file, index: await firstIndexOf(file) })))
  if (begun.some(({ index }) => index === undefined)) return files
  return begun.toSorted((one, other) => Number(one.index) - Number(other.index)).map(({ file }) => file)
}

/** What holds nothing comes last. */
async function firstIndexOf(path: string): Promise<number | undefined> {
  if (!(await stat(path)).isFile()) return undefined
  await using file = await open(path, 'r')
  const bytes = Buffer.alloc(HEAD_BYTES)
  const { bytesRead } = await file.read(bytes, 0, HEAD_BYTES, 0)
  return bytesRead === 0 ? Number.MAX_SAFE_INTEGER : indexOf(bytes.subarray(0, bytesRead))
}

const HEAD_BYTES = 256
