import { readdirSync, readFileSync } from 'node:fs'
import { getHeapStatistics } from 'node:v8'

/** What a process has of its machine. Files are as the kernel tells (proc(5)); where it does not, they are not known. */
export type ProcessState = {
  readonly memoryBytes: () => number
  readonly openFiles: () => number
  readonly mostFiles: () => number
}

export function openProcessState(): ProcessState {
  let most = readMost()
  return {
    // as V8 tells it: the kernel's number takes a file to read
    memoryBytes: () => {
      const { used_heap_size, external_memory } = getHeapStatistics()
      return used_heap_size + external_memory
    },
    openFiles: () => {
      try {
        return readdirSync('/proc/self/fd').length - 1 // without the one that reads
      } catch (error) {
        // who can open none more has as many as it may
        return (error as NodeJS.ErrnoException).code === 'EMFILE' ? most : Number.NaN
      }
    },
    mostFiles: () => (most = readMost(most)),
  }
}

function readMost(before = Number.NaN): number {
  try {
    const [, soft = ''] = /^Max open files +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
    return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number.parseInt(soft, 10)
  } catch {
    return before
  }
}
