import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'

/** A private folder that is gone when the process has ended, however it ends. */
export async function scratch(prefix: string, parent: string = tmpdir()): Promise<string> {
  const directory = await mkdtemp(join(parent, prefix))
  janitor ??= startJanitor()
  janitor.write(`${directory}\n`)
  return directory
}

export const discard = (directory: string): Promise<void> => rm(directory, { recursive: true, force: true })

let janitor: Writable | undefined

/** A shell that reads the names of folders, and removes them when the pipe closes: exit handlers do not run in a process that is killed, as test runners do
 *  with their workers. What works in a folder ends a moment after that process, so it is removed until nothing of it is left. */
function startJanitor(): Writable {
  const script =
    'while read -r folder; do set -- "$@" "$folder"; done; for turn in 1 2 3 4 5; do rm -rf -- "$@" && break; sleep 1; done'
  const child = spawn('sh', ['-c', script, 'janitor'], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  child.unref()
  ;(child.stdin as Socket).unref()
  return child.stdin
}
