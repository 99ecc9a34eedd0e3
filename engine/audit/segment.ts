import { FILE_OPENED, type Head, link } from './chain.ts'
import type { Disk, DiskFile } from './disk.ts'
import { systemMembers } from './record.ts'

/** The file that the log is written to: what is in its first `length` bytes is durable and was told so. */
export type Segment = { readonly file: DiskFile; length: number }

/** What is appended to the name of a file that is not finished, that failed and ends there, that no chain continues. */
export const UNFINISHED = '.unfinished'
const SEALED = '.sealed-'
export const BROKEN = '.broken-'

/** Why a file was begun: the log is new or its file was gone, was renamed by an operator, or failed. */
export type Why = 'start' | 'rotated' | 'failed'

/** Somebody took from the file what was durable in it, or the file itself: what is written there would go the same way. */
export class Lost extends Error {}

/** Writes and makes durable, in one write and one fdatasync. Whoever gets an error must not use the segment again: after a failed sync nobody knows what the disk holds. */
export async function extend(segment: Segment, bytes: Uint8Array): Promise<void> {
  const { file, length } = segment
  const written = await file.write(bytes)
  if (written !== bytes.length) throw new Error(`short write: ${written} of ${bytes.length} bytes`)
  const [{ size, names }] = await Promise.all([file.state(), file.sync()])
  if (names === 0) throw new Lost('its file was removed')
  if (size < length + bytes.length) {
    // what is left of it may be worth something
    await file.truncate(Math.max(0, size - bytes.length))
    throw new Lost('its file was cut short')
  }
  segment.length += bytes.length
}

/**
 * Begins a file with a record that says so and names, as every record does, the hash of the last record before it. The file
 * gets its name when that record is durable, so an attempt that failed leaves nothing where the log is looked for.
 */
export async function begin(
  disk: Disk,
  path: string,
  after: Head,
  why: Why,
  time: number,
): Promise<{ segment: Segment; head: Head }> {
  await disk.remove(`${path}${UNFINISHED}`)
  const segment = { file: await disk.open(`${path}${UNFINISHED}`), length: 0 }
  try {
    const { line, head } = link(after, systemMembers(FILE_OPENED, time, { why }))
    await extend(segment, Buffer.from(line))
    await clear(disk, path, after)
    await named(disk, path)
    return { segment, head }
  } catch (error) {
    // somebody may have renamed it in the moment when it had its name already: what no record follows is in no file
    await segment.file.truncate(0).catch(() => undefined)
    await segment.file.close().catch(() => undefined)
    throw error
  }
}

async function named(disk: Disk, path: string): Promise<void> {
  await disk.rename(`${path}${UNFINISHED}`, path)
  try {
    await disk.syncNames(path)
  } catch (error) {
    // what cannot be removed either is moved aside by the next attempt
    await disk.remove(path).catch(() => undefined)
    throw error
  }
}

/** Something that the log did not put there: it is neither continued nor lost. */
async function clear(disk: Disk, path: string, after: Head): Promise<void> {
  if ((await disk.size(path)) > 0) await disk.moveAside(path, `${path}${BROKEN}${numbered(after)}`)
}

/**
 * Takes a failed segment out of use: cuts off what nobody was told to be durable, and gives the rest a name of its own,
 * `<path>.sealed-<index of the record after it>`. Nothing is moved when the path names another file by now. May be called again.
 */
export async function seal(disk: Disk, path: string, segment: Segment, last: Head): Promise<string | undefined> {
  // never above what is there: a file that someone else truncated must not grow by zeros
  if ((await segment.file.state()).size > segment.length) await segment.file.truncate(segment.length)
  if (!(await segment.file.isAt(path))) return undefined
  return disk.moveAside(path, `${path}${SEALED}${numbered(last)}`)
}

function numbered({ index }: Head): string {
  return String(index + 1).padStart(12, '0')
}
