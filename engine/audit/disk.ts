import { constants, type Stats } from 'node:fs'
import { access, type FileHandle, lstat, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** What the log needs of a file system. */
export type Disk = {
  /** Opens for appending; makes the file, readable by its owner only, when there is none. Throws when it is not a regular file. */
  readonly open: (path: string) => Promise<DiskFile>
  /** 0 when there is no such file */
  readonly size: (path: string) => Promise<number>
  readonly rename: (from: string, to: string) => Promise<void>
  /** Renames to this name, or to one made from it that nothing has; the name is the result. */
  readonly moveAside: (path: string, name: string) => Promise<string>
  /** Nothing happens when there is no such file. */
  readonly remove: (path: string) => Promise<void>
  /** Makes the names in the folder of this file durable. */
  readonly syncNames: (path: string) => Promise<void>
}

export type DiskFile = {
  /** one write, the number of bytes that were taken is the result */
  readonly write: (bytes: Uint8Array) => Promise<number>
  readonly sync: () => Promise<void>
  /** `names`: how many this file has; none when it was removed */
  readonly state: () => Promise<{ readonly size: number; readonly names: number }>
  readonly truncate: (length: number) => Promise<void>
  /** whether this path still names this file */
  readonly isAt: (path: string) => Promise<boolean>
  readonly close: () => Promise<void>
}

const { O_APPEND, O_CREAT, O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants

export const realDisk: Disk = {
  open: async path => {
    // without O_NONBLOCK a FIFO that nobody reads would hold a thread for ever; on a regular file it changes nothing
    const handle = await open(path, O_APPEND | O_CREAT | O_WRONLY | O_NONBLOCK | O_NOCTTY, 0o600)
    if ((await handle.stat()).isFile()) return diskFile(handle)
    await handle.close()
    throw new Error(`${path} is not a regular file`)
  },
  size: async path => (await statOf(path))?.size ?? 0,
  rename,
  moveAside: async (path, name) => {
    const free = await freeName(name)
    await rename(path, free)
    return free
  },
  remove: path => rm(path, { force: true }),
  syncNames: async path => {
    await using folder = await open(dirname(path), constants.O_RDONLY)
    await folder.sync()
  },
}

function diskFile(handle: FileHandle): DiskFile {
  return {
    write: async bytes => (await handle.write(bytes)).bytesWritten,
    sync: () => handle.datasync(),
    state: async () => {
      const { size, nlink } = await handle.stat()
      return { size, names: nlink }
    },
    truncate: length => handle.truncate(length),
    isAt: async path => same(await handle.stat(), await statOf(path)),
    close: () => handle.close(),
  }
}

/** Of the name itself, links are not followed. Nothing when there is no such file. */
export async function statOf(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}

function same(file: Stats, other: Stats | undefined): boolean {
  return file.dev === other?.dev && file.ino === other.ino
}

async function freeName(name: string): Promise<string> {
  for (let number = 0; ; number++) {
    const candidate = number === 0 ? name : `${name}.${number}`
    const there = await access(candidate).then(
      () => true,
      () => false,
    )
    if (!there) return candidate
  }
}
