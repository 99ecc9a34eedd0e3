import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PATIENCE_MS } from './patience.ts'
import { freePort, type Ran, type Running, run, start } from './process.ts'
import { discard, scratch } from './scratch.ts'

const root = join(import.meta.dirname, '../..')

/** A Vault server of one test or one demo. Disposing of it ends it and removes its files. */
export type Vault = AsyncDisposable & {
  readonly address: string
  /** of the listener that believes what a front door here says of whose request it is */
  readonly doorAddress: string
  readonly rootToken: string
  readonly unsealKey: string
  readonly pid: number
  /** what a client of it needs: PATH, a HOME of its own, VAULT_ADDR and VAULT_TOKEN (the root token) */
  readonly env: NodeJS.ProcessEnv
  /** the server's own words, for a failure's report */
  readonly output: () => string
  /** Runs the stock CLI against it, or, with VAULT_ADDR in `env`, against what stands before it. */
  readonly cli: (args: readonly string[], options?: { env?: NodeJS.ProcessEnv; input?: string }) => Promise<Ran>
  /** One request with the root token: the status and the JSON of the reply, `undefined` for an empty one. */
  readonly api: (method: string, path: string, body?: unknown) => Promise<Reply>
  readonly seal: () => Promise<void>
  readonly unseal: () => Promise<void>
  readonly stop: () => Promise<void>
}
// biome-ignore lint/suspicious/noExplicitAny: replies are Vault's, tests look into them as they need
export type Reply = { readonly status: number; readonly body: any }

/** Files of a certificate and its key. */
export type TlsFiles = { readonly cert: string; readonly key: string }

/** Starts a dev server from vault-dev.hcl and vault-dev-listener.hcl: in memory, unsealed, with a random root token. With `tls` the second
 *  listener has it. */
export async function startVault({
  env = {},
  args = [],
  tls,
}: {
  env?: NodeJS.ProcessEnv
  args?: readonly string[]
  tls?: TlsFiles
} = {}): Promise<Vault> {
  const place = await makePlace({ tls })
  await writeFile(join(place.home, 'listener.hcl'), await listenerConfig(place, tls))
  const rootToken = `root-${randomBytes(16).toString('hex')}`
  const own = { ...env, VAULT_API_ADDR: place.address, VAULT_DEV_ROOT_TOKEN_ID: rootToken }
  const listen = place.address.slice('http://'.length)
  const configs = [join(root, 'vault-dev.hcl'), 'listener.hcl'].map(file => `-config=${file}`)
  const flags = ['-dev', '-dev-no-store-token', `-dev-listen-address=${listen}`, ...configs]
  const server = await serve(place, [...flags, ...args], own)
  return orClean(place, server, async () => {
    const unsealKey = (await server.line(/^Unseal Key: (\S+)/))[1] ?? ''
    await server.ready('to answer sys/health', () => isActive(place.address))
    const vault = vaultOf(place, server, rootToken, unsealKey)
    // the engine of version 2 is made ready in the background: until then it refuses whatever is asked
    await server.ready('to have made `secret/` ready', async () => (await vault.api('GET', 'secret/data/none')).status === 404)
    return vault
  })
}

/** Starts a single node with raft storage on the disk below `folder`, every write synced: what a benchmark compares with. */
export async function startVaultRaft({ folder = tmpdir() }: { folder?: string } = {}): Promise<Vault> {
  const place = await makePlace({ folder })
  const config = join(place.home, 'vault.hcl')
  await mkdir(join(place.home, 'raft'))
  await writeFile(config, await raftConfig(place))
  const server = await serve(place, [`-config=${config}`])
  return orClean(place, server, async () => {
    await server.ready('to answer sys/health', async () => (await health(place.address)) !== undefined)
    const { body } = await request(place.address, 'PUT', 'sys/init', '', { secret_shares: 1, secret_threshold: 1 })
    const vault = vaultOf({ ...place, doorAddress: place.address }, server, body.root_token, body.keys_base64[0])
    await vault.unseal()
    return vault
  })
}

/** The binary in use, which is also the stock CLI: $VAULT_BIN, or what scripts/vault-bin finds. */
export async function vaultBinary(): Promise<string> {
  if (process.env['VAULT_BIN']) return process.env['VAULT_BIN']
  const { code, stdout, stderr } = await run(join(root, 'scripts/vault-bin'), [], { withinMs: 30 * 60_000 })
  if (code !== 0) throw new Error(`there is no Vault to run: ${stderr}`)
  return stdout.trim()
}

type Place = { readonly binary: string; readonly home: string; readonly address: string; readonly doorAddress: string }

async function makePlace({ folder = tmpdir(), tls }: { folder?: string; tls?: TlsFiles | undefined }): Promise<Place> {
  const binary = await vaultBinary()
  const address = `http://127.0.0.1:${await freePort()}`
  const doorAddress = `${tls ? 'https' : 'http'}://127.0.0.1:${await freePort()}`
  return { binary, address, doorAddress, home: await scratch('assay-vault-', folder) }
}

/** vault-dev-listener.hcl at a port of its own, with the certificate if there is one. */
async function listenerConfig({ doorAddress }: Place, tls: TlsFiles | undefined): Promise<string> {
  const text = await readFile(join(root, 'vault-dev-listener.hcl'), 'utf8')
  const here = text.replace(/(address += )"[^"]*"/, `$1"${new URL(doorAddress).host}"`)
  return tls ? here.replace(/tls_disable.*/, `tls_cert_file = "${tls.cert}"\n  tls_key_file = "${tls.key}"`) : here
}

async function raftConfig({ home, address }: Place): Promise<string> {
  const cluster = `127.0.0.1:${await freePort()}`
  return `
    storage "raft" {
      path = "${join(home, 'raft')}"
      node_id = "one"
      performance_multiplier = 1
    }
    listener "tcp" {
      address = "${address.slice('http://'.length)}"
      cluster_address = "${cluster}"
      tls_disable = true
    }
    api_addr = "${address}"
    cluster_addr = "https://${cluster}"
    disable_mlock = true
    log_level = "warn"
  `
}

function serve({ binary, home }: Place, flags: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Running> {
  return start(binary, ['server', ...flags], { cwd: home, env: { PATH: process.env['PATH'], HOME: home, TMPDIR: home, ...env } })
}

async function orClean(place: Place, server: Running, begin: () => Promise<Vault>): Promise<Vault> {
  try {
    return await begin()
  } catch (error) {
    await remove(place, server)
    throw error
  }
}

function vaultOf(place: Place, server: Running, rootToken: string, unsealKey: string): Vault {
  const { address, doorAddress, binary, home } = place
  const env = { PATH: process.env['PATH'], HOME: home, VAULT_ADDR: address, VAULT_TOKEN: rootToken }
  const api = (method: string, path: string, body?: unknown) => request(address, method, path, rootToken, body)
  const vault: Vault = {
    address,
    doorAddress,
    rootToken,
    unsealKey,
    pid: server.pid,
    env,
    output: server.output,
    cli: (args, options = {}) => run(binary, args, { ...options, cwd: home, env: { ...env, ...options.env } }),
    api,
    seal: async () => expect204(await api('PUT', 'sys/seal')),
    unseal: async () => {
      await api('PUT', 'sys/unseal', { key: unsealKey })
      await server.ready('to be active', () => isActive(address))
    },
    stop: () => remove(place, server),
    [Symbol.asyncDispose]: () => remove(place, server),
  }
  return vault
}

/** Killed, not asked: its folder goes with it. */
async function remove({ home }: Place, server: Running): Promise<void> {
  const plugins = await childrenOf(server.pid)
  await server.stop('SIGKILL')
  for (const pid of plugins) kill(pid)
  await discard(home)
}

async function request(address: string, method: string, path: string, token: string, body?: unknown): Promise<Reply> {
  const headers = { 'X-Vault-Token': token, 'Content-Type': 'application/json' }
  const json = body === undefined ? null : JSON.stringify(body)
  const reply = await fetch(`${address}/v1/${path}`, { method, headers, body: json, signal: AbortSignal.timeout(PATIENCE_MS) })
  const text = await reply.text()
  return { status: reply.status, body: text === '' ? undefined : JSON.parse(text) }
}

/** Vault's status for its health, `undefined` while nothing answers. */
async function health(address: string): Promise<number | undefined> {
  const reply = await fetch(`${address}/v1/sys/health`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined)
  await reply?.arrayBuffer()
  return reply?.status
}

async function isActive(address: string): Promise<boolean> {
  return (await health(address)) === 200
}

function expect204({ status, body }: Reply): void {
  if (status !== 204) throw new Error(`Vault answered ${status} ${JSON.stringify(body)}, wanted 204`)
}

/** A Vault that is killed leaves its plugins behind. */
async function childrenOf(pid: number): Promise<readonly number[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  const read = (thread: string) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')
  return (await Promise.all(threads.map(read)))
    .join(' ')
    .split(' ')
    .filter(one => one.trim() !== '')
    .map(Number)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // it has ended by itself
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
