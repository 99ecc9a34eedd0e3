import { join } from 'node:path'
import { freePort, run, start } from '../process.ts'

const setup = join(import.meta.dirname, '../../../scripts/lib/setup.sh')

/** What a function of setup.sh found or made, by the name of the variable that it sets. */
export async function provisioned(need: string, variable: string): Promise<string> {
  const { code, stdout, stderr } = await run('bash', ['-c', `set -eu; . "$0"; ${need}; printf %s "$${variable}"`, setup], {
    withinMs: 600_000,
  })
  if (code !== 0) throw new Error(`${need} ended with ${code}: ${stderr}`)
  return stdout
}

/** A stand-in for AWS (moto) on a free port. Disposing of it ends it. */
export type Moto = AsyncDisposable & { readonly url: string }

export async function startMoto(): Promise<Moto> {
  const moto = await provisioned('need_moto', 'moto')
  const port = await freePort()
  const server = await start(moto, ['-H', '127.0.0.1', '-p', String(port)])
  const url = `http://127.0.0.1:${port}`
  await server.ready(
    'to answer',
    () =>
      fetch(`${url}/moto-api/`).then(
        reply => reply.ok,
        () => false,
      ),
    60_000,
  )
  return { url, [Symbol.asyncDispose]: server[Symbol.asyncDispose] }
}
