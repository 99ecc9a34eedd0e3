import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from './exits.ts'
import { writeSecret } from './secret_file.ts'

/** How a child gets a credential: `fd` gives a descriptor and a file that is kept fresh, `env` a variable that stays as it is. */
export type Mode = { readonly kind: 'fd'; readonly fd: number } | { readonly kind: 'env'; readonly name: string }

export function modeOf({ env, fd }: { readonly env?: string | undefined; readonly fd: number }): Mode {
  return env === undefined ? { kind: 'fd', fd } : { kind: 'env', name: env }
}

/** What a child is started with. Disposing of it removes what was written. */
export type Delivery = AsyncDisposable & {
  readonly env: Readonly<Record<string, string>>
  /** descriptors of the child beyond 0 to 2, by number; null opens nothing there */
  readonly descriptors: readonly (number | null)[]
  /** Gives the child the next credential, undefined takes the old one away; null when this mode cannot. */
  readonly replace: ((content: string | undefined) => Promise<void>) | null
}

/** @param directories where to make a private folder, the best first; memory is better than disk */
export async function deliver(mode: Mode, content: string, directories: readonly string[]): Promise<Delivery> {
  if (mode.kind === 'env')
    return { env: { [mode.name]: content }, descriptors: [], replace: null, [Symbol.asyncDispose]: async () => {} }
  const folder = await privateFolder(directories)
  const path = join(folder, 'credential')
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    await writeSecret(path, content)
    const file = await open(path, 'r') // goes on to show the first content when another file takes its name
    return {
      env: { ASSAY_CREDENTIAL_FD: String(mode.fd), ASSAY_CREDENTIAL_FILE: path },
      descriptors: [...Array.from({ length: mode.fd - FIRST }, () => null), file.fd],
      replace: next => (next === undefined ? rm(path, { force: true }) : writeSecret(path, next)),
      [Symbol.asyncDispose]: async () => {
        await file.close()
        await remove()
      },
    }
  } catch (error) {
    await remove()
    throw error
  }
}

/** of the descriptors that are not stdin, stdout and stderr */
const FIRST = 3

/** characters that mkdtemp makes up */
const MADE_UP = 6

/** Who else may rename what is in a directory could put a folder of their own in the place of ours: it has to be the system's or our own, and sticky
 *  where others write. After `su` XDG_RUNTIME_DIR may still be of the user before. */
async function ours(directory: string): Promise<boolean> {
  const there = await stat(directory).catch(() => undefined)
  if (there === undefined) return false
  const { uid, mode } = there
  return (uid === 0 || uid === process.getuid?.()) && ((mode & OTHERS_WRITE) === 0 || (mode & STICKY) !== 0)
}

const OTHERS_WRITE = 0o022
const STICKY = 0o1000

/** mkdtemp makes it for its owner alone, 0700. @param longest how many characters its path may have @throws AgentError of `file` */
export async function privateFolder(directories: readonly string[], longest = Infinity): Promise<string> {
  for (const directory of directories) {
    const prefix = join(directory, 'assay-')
    if (prefix.length + MADE_UP > longest || !(await ours(directory))) continue
    const made = await mkdtemp(prefix).catch(() => undefined)
    if (made !== undefined) return made
  }
  throw new AgentError('file', `could not make a private folder in any of ${directories.join(', ')}`)
}
