import { closeSync, openSync, readdirSync, readSync, realpathSync, type Stats, statSync } from 'node:fs'
import { join } from 'node:path'

/** The files below a folder by their paths, links followed. What cannot be looked into, or is no file, is told and left out. */
export function filesBelow(root: string, tell: (path: string, reason: string) => void): string[] {
  return walk(root, [realpathSync(root)], tell).toSorted()
}

/** @param above the folders that this one lies in, to see links that lead back */
function walk(folder: string, above: readonly string[], tell: (path: string, reason: string) => void): string[] {
  return namesIn(folder, tell).flatMap(name => {
    const path = join(folder, name)
    const found = statOf(path, tell)
    if (found === undefined || found.isFile()) return found ? [path] : []
    const inner = found.isDirectory() ? realpathSync(path) : undefined
    if (inner !== undefined && !above.includes(inner)) return walk(path, [...above, inner], tell)
    tell(path, inner === undefined ? 'it is neither a file nor a folder' : 'it leads back to a folder that it lies in')
    return []
  })
}

/** Without what a system hides. */
function namesIn(folder: string, tell: (path: string, reason: string) => void): string[] {
  try {
    return readdirSync(folder).filter(name => !name.startsWith('.'))
  } catch (error) {
    tell(folder, reasonOf(error))
    return []
  }
}

function statOf(path: string, tell: (path: string, reason: string) => void): Stats | undefined {
  try {
    return statSync(path)
  } catch (error) {
    tell(path, reasonOf(error))
    return undefined
  }
}

/** The first bytes of a file, at most so many: who knows how long it is. */
export function startOf(path: string, most: number): Buffer {
  const file = openSync(path, 'r')
  try {
    const bytes = Buffer.allocUnsafe(Math.min(most, statSync(path).size))
    let length = 0
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(file, bytes, length, bytes.length - length, length)
    return bytes.subarray(0, length)
  } finally {
    closeSync(file)
  }
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : 'no reason given'
}
