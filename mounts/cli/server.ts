import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { Config } from '#engine'
import type { SecretId } from '../serve.ts'
import { DEFAULT_VAULT, home, operatorToken, refuseUnverified, vaultAt } from './operator.ts'
import { reported } from './reported.ts'

const DEFAULT_LISTEN = '127.0.0.1:8210'

type ServerOptions = {
  dev?: true
  config?: string
  vaultAddr: string
  listen: { host: string; port: number }
  auditFile: string
  deadline?: number
  logLevel: Config['log_level']
}

export function serverCommand(): Command {
  return new Command('server')
    .description('serve the front door beside a Vault or OpenBao server')
    .addOption(
      new Option(
        '--dev',
        'provision what is needed in Vault with the operator token in VAULT_TOKEN or ~/.vault-token, for development and tests',
      ).conflicts('config'),
    )
    .option('--config <file>', 'configuration in YAML or JSON, for production')
    .addOption(inDev('--vault-addr <url>', 'the Vault server').env('ASSAY_VAULT_ADDR').default(DEFAULT_VAULT))
    .addOption(
      inDev('--listen <host:port>', 'where to listen')
        .argParser(hostAndPort)
        .default(hostAndPort(DEFAULT_LISTEN), DEFAULT_LISTEN),
    )
    .addOption(inDev('--audit-file <file>', 'the audit log').default(join(stateFolder(), 'audit.jsonl')))
    .addOption(inDev('--deadline <ms>', 'how long Vault and the disk of the audit log may take').argParser(milliseconds))
    .addOption(inDev('--log-level <level>', 'how much is logged').choices(['debug', 'info', 'warn', 'error']).default('info'))
    .addHelpText(
      'after',
      '\nThe server stops on SIGINT and SIGTERM after it has finished what is in flight; on SIGHUP it opens its audit log anew and reads its certificates again.',
    )
    .action((options: ServerOptions, command: Command) => reported(command, () => runServer(options)))
}

/** A configuration says all of this itself: beside it nothing is passed over in silence. */
const inDev = (flags: string, what: string) => new Option(flags, `with --dev: ${what}`).conflicts('config')

function hostAndPort(value: string): { host: string; port: number } {
  const [, host, port] = value.match(/^(.+):(\d{1,5})$/) ?? []
  if (!host || Number(port) > 65_535) throw new InvalidArgumentError('wanted HOST:PORT')
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
}

function milliseconds(value: string): number {
  if (!/^\d{1,5}$/.test(value)) throw new InvalidArgumentError('wanted milliseconds')
  return Number(value)
}

function stateFolder(): string {
  return join(process.env['XDG_STATE_HOME'] || join(home(), '.local', 'state'), 'assay')
}

async function runServer(options: ServerOptions): Promise<void> {
  process.on('SIGHUP', () => {}) // what it would have read anew is read below
  const [{ serve }, { BrokerError, keepHeapYoung, makeFolderOf, openLog, stopOnSignals }] = await Promise.all([
    import('../serve.ts'),
    import('#engine'),
  ])
  await refuseUnverified()
  keepHeapYoung()
  // no SDK looks for credentials at a metadata address, whatever it would do by itself
  Object.assign(process.env, { AWS_EC2_METADATA_DISABLED: 'true', METADATA_SERVER_DETECTION: 'none' })
  if (!options.dev && !options.config) throw new BrokerError('bad_request', 'wanted --dev or --config FILE')
  const { config, secretId } = options.config ? await production(options.config) : await development(options)
  await makeFolderOf(config.audit.file)
  const log = openLog({ level: config.log_level })
  const serving = serve(config, log, secretId)
  process.on(
    'SIGHUP',
    () => void serving.then(({ reload }) => reload()).catch((error: unknown) => log.error({ error }, STILL_OLD)),
  )
  const server = await serving
  stopOnSignals(server.close)
  process.stdout.write(`assay serves ${server.url} beside ${config.vault.address}, audit log ${config.audit.file}\n`)
}

async function production(file: string): Promise<{ config: Config; secretId: SecretId }> {
  const [config, { secretIdFrom }] = await Promise.all([configIn(file), import('../serve.ts')])
  return { config, secretId: secretIdFrom(config.vault.approle.secret_id_file) }
}

/** @throws BrokerError bad_request that names what is wrong with it, by line and column */
export async function configIn(file: string): Promise<Config> {
  const [{ BrokerError, offsetOf, readConfig }, { LineCounter, parseDocument }] = await Promise.all([
    import('#engine'),
    import('yaml'),
  ])
  const lineCounter = new LineCounter()
  const document = parseDocument(await readFile(file, 'utf8'), { lineCounter })
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset)
    return `${file}:${line}:${col} `
  }
  const refuse = (place: string, error: unknown) => {
    throw new BrokerError('bad_request', `${place}is no valid YAML or JSON${whatOf(error)}`, { cause: error })
  }
  for (const error of document.errors) refuse(at(error.pos[0]), error)
  const plain = (): unknown => {
    try {
      return document.toJS()
    } catch (error) {
      return refuse(`${file} `, error) // an alias that leads nowhere, or to too much
    }
  }
  return readConfig(plain(), path => at(offsetOf(document, path)))
}

/** What its parser says goes on to quote the text. */
const whatOf = (error: unknown) => `: ${String((error as Error).message).split(/ at line |[\n:]/, 1)[0]}`

/** Provisions with an operator's token, then goes on exactly as in production: as an AppRole with nothing but its policy. */
async function development(options: ServerOptions): Promise<{ config: Config; secretId: SecretId }> {
  const { PLACES, provision, readConfig, Secret } = await import('#engine')
  const vault = { address: await vaultAt(options.vaultAddr), deadlineMs: options.deadline ?? 10_000 }
  const { roleId, secretId } = await provision(vault, PLACES, new Secret(await operatorToken()))
  const deadline = options.deadline === undefined ? {} : { deadline_ms: options.deadline }
  const config = readConfig({
    vault: { address: options.vaultAddr, approle: { role_id: roleId, secret_id_file: 'unused in development' }, ...deadline },
    listen: options.listen,
    audit: { file: options.auditFile, ...deadline },
    log_level: options.logLevel,
  })
  return { config, secretId: async () => secretId }
}

const STILL_OLD = 'not everything could be opened anew: what was open stays'
