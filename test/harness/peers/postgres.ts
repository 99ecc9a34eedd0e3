import { chown, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, run, start } from '../process.ts'
import { discard, scratch } from '../scratch.ts'

/** A PostgreSQL server with data of its own on a free port. Disposing of it ends it. */
export type Postgres = AsyncDisposable & {
  readonly port: number
  readonly user: string
  readonly password: string
  readonly pid: number
  readonly folder: string
}

const BINARIES = '/usr/lib/postgresql'

export async function startPostgres(): Promise<Postgres> {
  await using opening = new AsyncDisposableStack()
  const [version = ''] = (await readdir(BINARIES)).toSorted().reverse()
  const at = (name: string) => join(BINARIES, version, 'bin', name)
  const folder = await scratch('assay-postgres-')
  opening.defer(() => discard(folder))
  const as = await whoRuns(folder)
  const password = 'the-password-of-root-in-this-test'
  const passwordFile = join(folder, 'password')
  await writeFile(passwordFile, password)
  const data = join(folder, 'data')
  // whatever the language of who runs the tests: what it says is read
  const speaks = ['--no-locale', '--encoding=UTF8']
  const options = ['-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '-U', 'root', '--no-sync', ...speaks, '-D', data]
  const made = await run('setpriv', [...as, at('initdb'), ...options], { cwd: folder })
  if (made.code !== 0) throw new Error(`initdb ended with ${made.code}: ${made.stderr}`)
  const port = await freePort()
  const settings = ['-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off', '-k', folder, '-p', String(port), '-D', data]
  // asked, not killed, however it ends: its shared memory is the system's, and stays
  const server = await start('setpriv', ['--pdeathsig', 'INT', ...as, at('postgres'), ...settings], { cwd: folder })
  opening.defer(async () => void (await server.stop('SIGINT')))
  await server.line(/database system is ready to accept connections/)
  const parts = opening.move()
  return { port, user: 'root', password, pid: server.pid, folder, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

/** PostgreSQL refuses to run as root: then it runs as the user that its package made. */
async function whoRuns(folder: string): Promise<readonly string[]> {
  if (process.getuid?.() !== 0) return ['--']
  const { stdout } = await run('id', ['-u', 'postgres'])
  await chown(folder, Number(stdout), -1)
  return ['--reuid=postgres', '--regid=postgres', '--clear-groups', '--']
}
