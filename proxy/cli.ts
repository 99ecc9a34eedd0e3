import { unwatchFile, watchFile } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { resolve as absolute, dirname, join } from 'node:path'
import { Command } from 'commander'
import type { Log } from '#engine'
import type { ProxyConfig } from './config.ts'
import { openReload } from './reload.ts'
import type { RunningProxy } from './serve.ts'
import { auditFileOf, openOthers, openWorkers, sayServing, WORKER } from './workers.ts'

/** `assay proxy` and `assay proxy check`. What they need is loaded when they run. */
export function proxyCommand(): Command {
  const check = new Command('check')
    .description('check a configuration; exits 1 and names line, column and what is wanted when something is wrong')
    .argument('<file>', 'configuration in YAML')
    .action((file: string, _: unknown, command: Command) => reported(command, () => runCheck(file)))
  return new Command('proxy')
    .description('serve the proxy that swaps sealed tokens for the real ones on their way out')
    .option('--config <file>', 'configuration in YAML; its services are taken over when the file changes, and on SIGHUP')
    .option(
      '--dev',
      'provision what is needed in Vault with the operator token in VAULT_TOKEN or ~/.vault-token; for development and tests',
    )
    .addHelpText(
      'after',
      '\nThe proxy stops on SIGINT and SIGTERM after it has finished what is in flight; on SIGHUP it opens its audit log anew and reads its certificates again.',
    )
    .action((options: Options, command: Command) => reported(command, () => runProxy(options)))
    .addCommand(check)
}

type Options = { config?: string; dev?: true }

async function runCheck(file: string): Promise<void> {
  const config = await configOf(file)
  process.stdout.write(`${file} is in order: ${counted(config.services.length)}\n`)
  const hosts = await interceptedBy(config)
  if (hosts.length > 0) process.stdout.write(`its authority has to permit: ${hosts.join(' ')}\n`)
}

const counted = (services: number) => (services === 1 ? '1 service' : `${services} services`)

/** What `assay setup --proxy` needs to know of a configuration. @throws BrokerError bad_request that names every problem with it */
export async function setUpOf(file: string) {
  const { BrokerError } = await import('#engine')
  const config = await configOf(file).catch((error: unknown) => {
    throw error instanceof InvalidConfig ? new BrokerError('bad_request', error.message) : error
  })
  const folder = dirname(absolute(file))
  const inFolder = (name: string | undefined) => (name === undefined ? undefined : absolute(folder, name))
  const { address, ca_file: ca, approle } = config.vault
  return {
    places: { ...config.places, ...(approle ? { approle: approle.mount } : {}) },
    permit: await interceptedBy(config),
    address,
    caFile: inFolder(ca),
    secretIdFile: inFolder(approle?.secret_id_file),
  }
}

async function interceptedBy(config: ProxyConfig): Promise<readonly string[]> {
  return config.intercept ? (await import('./config.ts')).interceptedHosts(config) : []
}

async function runProxy({ config: file, dev }: Options): Promise<void> {
  process.on('SIGHUP', () => {}) // what it would have read anew is read below
  const [{ serveProxy }, { BrokerError, keepHeapYoung, makeFolderOf, openLog, refuseUnsafe, stopOnSignals }] = await Promise.all([
    import('./serve.ts'),
    import('#engine'),
  ])
  refuseUnsafe(process.env, process.execArgv)
  if (file === undefined) throw new BrokerError('bad_request', 'wanted --config FILE')
  const config = await configOf(file)
  const folder = dirname(absolute(file))
  await makeFolderOf(absolute(folder, config.audit.file))
  const log = openLog({ level: config.log_level })
  const number = process.env[WORKER]
  if (config.workers > 1 && number === undefined) return lead(config, log, dev)
  keepHeapYoung()
  const proxy = await serveProxy({
    config: number === undefined ? config : ownOf(config, number),
    folder,
    log,
    others: number === undefined ? undefined : openOthers(),
    approle: dev ? await development(config) : production(config, folder),
  })
  stopOnSignals(() => {
    unwatchFile(file)
    return proxy.close()
  })
  heed(proxy, file, log)
  if (proxy.lookout !== undefined) log.info({ url: proxy.lookout }, 'operators look there')
  if (number === undefined) announce(proxy.url, config)
  else sayServing()
}

/** What of the configuration is a worker's own. */
function ownOf(config: ProxyConfig, number: string): ProxyConfig {
  const { audit, metrics } = config
  const own = metrics && { ...metrics, port: metrics.port === 0 ? 0 : metrics.port + Number(number) - 1 }
  return { ...config, audit: { ...audit, file: auditFileOf(audit.file, number) }, ...(own ? { metrics: own } : {}) }
}

function announce(url: string, { services, audit }: ProxyConfig): void {
  process.stdout.write(`assay proxy serves ${url} for ${counted(services.length)}, audit log ${audit.file}\n`)
}

/** Starts the workers and looks after them; what they need in Vault is there before the first of them asks for it. */
async function lead(config: ProxyConfig, log: Log, dev: true | undefined): Promise<void> {
  const { stopOnSignals } = await import('#engine')
  if (dev) await development(config)
  const workers = await openWorkers(config.workers, number => log.error({ number }, 'a worker ended: it is started again'))
  stopOnSignals(() => workers.stop())
  process.on('SIGHUP', () => workers.signal('SIGHUP'))
  announce(`https://${config.listen.host}:${config.listen.port} by ${config.workers} workers`, config)
}

function production({ vault: { approle } }: ProxyConfig, folder: string) {
  if (!approle) throw new InvalidConfig('vault.approle: wanted, as the proxy logs in with it')
  const { mount, role_id: roleId, secret_id_file: file } = approle
  return {
    mount,
    roleId,
    // read at each login, so that a rotated secret id needs no restart
    secretId: async () => {
      const [{ Secret }, text] = await Promise.all([import('#engine'), readFile(absolute(folder, file), 'utf8')])
      return new Secret(text.trim())
    },
  }
}

/** Provisions with an operator's token, then goes on exactly as in production: as an AppRole with nothing but its policy. */
async function development(config: ProxyConfig) {
  const { address } = config.vault
  const { PROXY_PLACES, provisionProxy, Secret } = await import('#engine')
  const server = { address, deadlineMs: 10_000 }
  const token = new Secret(await operatorToken())
  const places = { ...PROXY_PLACES, ...config.places }
  const { roleId, secretId } = await provisionProxy(server, places, token, await interceptedBy(config))
  return { mount: PROXY_PLACES.approle, roleId, secretId: async () => secretId }
}

/** As the stock CLI finds it: the environment, else the file where `vault login` and a dev server leave it. */
async function operatorToken(): Promise<string> {
  const kept = await readFile(join(homedir(), '.vault-token'), 'utf8').catch(() => '')
  const token = process.env['VAULT_TOKEN'] || kept.trim()
  if (!token) throw new InvalidConfig('wanted an operator token in VAULT_TOKEN or ~/.vault-token')
  return token
}

const WATCH_MS = 1000

function heed(proxy: RunningProxy, file: string, log: Log): void {
  const reload = openReload({ read: async () => (await configOf(file)).services, takeOver: proxy.reload, log })
  process.on('SIGHUP', () => {
    void proxy
      .reopenAudit()
      .catch((error: unknown) => log.error({ error }, 'the audit log could not be opened anew: what was open is still written'))
    void proxy
      .renewTls()
      .catch((error: unknown) => log.error({ error }, 'its own certificates could not be read again: those of before are shown'))
    void reload()
  })
  watchFile(file, { interval: WATCH_MS, persistent: false }, () => void reload())
}

class InvalidConfig extends Error {}

/** @throws InvalidConfig that names every problem with its line and column */
async function configOf(file: string): Promise<ProxyConfig> {
  const { readConfig } = await import('./config.ts')
  const read = readConfig(await readFile(file, 'utf8'))
  if (read.ok) return read.config
  throw new InvalidConfig(read.problems.map(({ line, column, message }) => `${file}:${line}:${column} ${message}`).join('\n'))
}

/** Our own refusals and what the system refuses read as sentences; anything else is a bug and shows its stack. */
async function reported(command: Command, run: () => Promise<void>): Promise<void> {
  const { BrokerError, VaultRefusal } = await import('#engine')
  try {
    await run()
  } catch (error) {
    if (error instanceof InvalidConfig) command.error(error.message, { exitCode: 1 })
    if (error instanceof VaultRefusal)
      command.error(`assay: vault answered ${error.status}: ${error.errors.join(', ')}`, { exitCode: 3 })
    if (error instanceof BrokerError || (error instanceof Error && 'syscall' in error))
      command.error(`assay: ${error.message}`, { exitCode: 'code' in error && error.code === 'unavailable' ? 3 : 1 })
    throw error
  }
}
