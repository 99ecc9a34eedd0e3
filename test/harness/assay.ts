import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, type Ran, type Running, run, start } from './process.ts'
import { discard, scratch } from './scratch.ts'
import type { Vault } from './vault.ts'

const root = join(import.meta.dirname, '../..')
/** What is run as `assay`: the sources, or, named by ASSAY_ENTRY, a bundle of them. */
const command = () => [process.env['ASSAY_ENTRY'] ?? join(root, 'scripts/assay.js')]
const flags = ['--disallow-code-generation-from-strings']
/** Wherever the home is: sources are compiled once, not for each test. */
const compiled = { XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache') }

/** The front door as a process of its own beside a Vault. Disposing of it ends it and removes its files. */
export type Assay = AsyncDisposable & {
  readonly address: string
  readonly auditFile: string
  readonly server: Running
  /** Runs the stock CLI against the front door, as root unless `env` says otherwise. */
  readonly vault: (args: readonly string[], options?: { env?: NodeJS.ProcessEnv; input?: string }) => Promise<Ran>
  readonly stop: () => Promise<void>
}

/** Starts `assay server --dev` on a free port and waits until it says that it serves. */
export async function startAssay(vault: Vault, args: readonly string[] = []): Promise<Assay> {
  const home = await scratch('assay-door-')
  const auditFile = join(home, 'audit.jsonl')
  const address = `http://127.0.0.1:${await freePort()}`
  const options = [
    '--dev',
    '--vault-addr',
    vault.doorAddress,
    '--listen',
    address.slice('http://'.length),
    '--audit-file',
    auditFile,
    // what a test wants of a deadline it says in `args`; nothing else depends on how fast the machine is
    '--deadline',
    '60000',
  ]
  const server = await start(process.execPath, [...flags, ...command(), 'server', ...options, ...args], {
    env: { ...vault.env, ...compiled, HOME: home },
  })
  const stop = async () => {
    await server.stop()
    await discard(home)
  }
  try {
    await server.line(/^assay serves /)
  } catch (error) {
    await stop()
    throw error
  }
  const cli: Assay['vault'] = (words, { env = {}, ...rest } = {}) =>
    vault.cli(words, { ...rest, env: { VAULT_ADDR: address, ...env } })
  return { address, auditFile, server, vault: cli, stop, [Symbol.asyncDispose]: stop }
}

/** Runs a command of Assay's own CLI. */
export function assay(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const all = { PATH: process.env['PATH'], HOME: tmpdir(), ...compiled, ...env }
  return run(process.execPath, [...flags, ...command(), ...args], { env: all })
}
