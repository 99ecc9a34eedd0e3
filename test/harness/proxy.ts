import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, type Running, start } from './process.ts'
import { discard, scratch } from './scratch.ts'
import type { Vault } from './vault.ts'

const root = join(import.meta.dirname, '../..')

/** The proxy as a process of its own. Disposing of it ends it and removes its files. */
export type AssayProxy = AsyncDisposable & {
  readonly port: number
  readonly configFile: string
  readonly auditFile: string
  readonly server: Running
  readonly write: (config: object) => Promise<void>
}

/** Starts `assay proxy --dev` on a free port and waits until it says that it serves. `config`: everything but `vault`, `audit` and the port. */
export async function startProxy(
  vault: Vault,
  config: Readonly<Record<string, unknown>> & { readonly listen: object },
): Promise<AssayProxy> {
  const home = await scratch('assay-proxy-')
  const port = await freePort()
  const [configFile, auditFile] = [join(home, 'proxy.yaml'), join(home, 'audit.jsonl')]
  const write = (given: { listen?: object }) => {
    const patient = { deadline_ms: 60_000 }
    const all = {
      vault: { address: vault.address, ...patient },
      audit: { file: auditFile, ...patient },
      ...given,
      listen: { ...given.listen, port },
    }
    return writeFile(configFile, JSON.stringify(all, null, 2))
  }
  await write(config)
  const command = [
    '--disallow-code-generation-from-strings',
    join(root, 'scripts/assay.ts'),
    'proxy',
    '--dev',
    '--config',
    configFile,
  ]
  const server = await start(process.execPath, command, { env: { ...vault.env, HOME: home } })
  const stop = async () => {
    await server.stop()
    await discard(home)
  }
  try {
    await server.line(/^assay proxy serves /)
  } catch (error) {
    await stop()
    throw error
  }
  return { port, configFile, auditFile, server, write, [Symbol.asyncDispose]: stop }
}
