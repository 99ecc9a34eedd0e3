import { chmod, chown, copyFile, readdir, stat, writeFile } from 'node:fs/promises'
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

/** @param tls files of its certificate and key: then it is spoken to over TLS alone */
export async function startPostgres(tls?: { readonly cert: string; readonly key: string }): Promise<Postgres> {
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
  const over = tls ? await overTls(tls, folder, data) : []
  const settings = ['-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off', ...over, '-k', folder, '-p', String(port), '-D', data]
  // asked, not killed, however it ends: its shared memory is the system's, and stays
  const server = await start('setpriv', ['--pdeathsig', 'INT', ...as, at('postgres'), ...settings], { cwd: folder })
  opening.defer(async () => void (await server.stop('SIGINT')))
  await server.line(/database system is ready to accept connections/)
  const parts = opening.move()
  return { port, user: 'root', password, pid: server.pid, folder, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

/** Settings with which it lets in who comes over TLS, and nobody else; its files are those of who runs it. */
async function overTls(
  tls: { readonly cert: string; readonly key: string },
  folder: string,
  data: string,
): Promise<readonly string[]> {
  const { uid } = await stat(folder)
  const own = { cert: join(folder, 'server.pem'), key: join(folder, 'server.key') }
  for (const name of ['cert', 'key'] as const) {
    await copyFile(tls[name], own[name])
    await chmod(own[name], 0o600)
    await chown(own[name], uid, -1)
  }
  await writeFile(join(data, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 scram-sha-256\n')
  return ['-c', 'ssl=on', '-c', `ssl_cert_file=${own.cert}`, '-c', `ssl_key_file=${own.key}`]
}

/** PostgreSQL refuses to run as root: then it runs as the user that its package made. */
async function whoRuns(folder: string): Promise<readonly string[]> {
  if (process.getuid?.() !== 0) return ['--']
  const { stdout } = await run('id', ['-u', 'postgres'])
  await chown(folder, Number(stdout), -1)
  return ['--reuid=postgres', '--regid=postgres', '--clear-groups', '--']
}
