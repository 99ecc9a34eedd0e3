import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises'
import { reasonOf } from './client.ts'
import { AgentError } from './exits.ts'

const OTHERS = 0o077
const OWNER_ONLY = 0o600
const LARGEST = 65_536

/** Puts a secret where only its owner reads it, in one step: readers see the old content or the new. What is no file, such as
 *  /dev/null or a link, would be lost: it is refused. @throws AgentError of `file` */
export async function writeSecret(path: string, content: string): Promise<void> {
  const draft = `${path}.${process.pid}.draft`
  const there = await lstat(path).catch(() => undefined)
  if (there && !there.isFile()) throw new AgentError('file', `${path} is there already and is no regular file: name another one`)
  try {
    await rm(draft, { force: true })
    const file = await open(draft, 'wx', OWNER_ONLY)
    await written(file, content)
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {})
    throw new AgentError('file', `could not write ${path} (${reasonOf(error)})`, { cause: error })
  }
}

/** @returns the content without white space at its ends @throws AgentError of `file`, also when others than the owner may read it */
export async function readSecret(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r')
    const { mode, size } = await file.stat()
    if (mode & OTHERS) throw new AgentError('file', `others may read ${path}; make it private with chmod 600`)
    if (size > LARGEST) throw new AgentError('file', `${path} is too large for what should be in it`)
    return (await file.readFile('utf8')).trim()
  } catch (error) {
    if (error instanceof AgentError) throw error
    throw new AgentError('file', `could not read ${path} (${reasonOf(error)})`, { cause: error })
  }
}

async function written(file: FileHandle, content: string): Promise<void> {
  try {
    await file.chmod(OWNER_ONLY) // whatever the umask says
    await file.writeFile(content)
  } finally {
    await file.close()
  }
}
