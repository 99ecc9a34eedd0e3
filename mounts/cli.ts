import { type FileHandle, mkdir, open, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { Config } from '#engine'
import type { SecretId, Server } from './serve.ts'

const DEFAULT_VAULT = 'http://127.0.0.1:8200'
const DEFAULT_LISTEN = '127.0.0.1:8210'

/** `assay server`, `assay setup` and `assay audit`. What they need is loaded when they run. */
export function serverCommands(): Command[] {
  return [serverCommand(), setupCommand(), auditCommand()]
}

type ServerOptions = {
  dev?: true
  config?: string
  vaultAddr: string
  listen: { host: string; port: number }
  auditFile: string
  deadline?: number
  logLevel: Config['log_level']
}

function serverCommand(): Command {
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

/** A user of a container may have none. */
function home(): string {
  try {
    return homedir()
  } catch {
    return '/'
  }
}

async function runServer(options: ServerOptions): Promise<void> {
  process.on('SIGHUP', () => {}) // what it would have read anew is read below
  const [{ serve }, { BrokerError, keepHeapYoung, openLog }] = await Promise.all([import('./serve.ts'), import('#engine')])
  await refuseUnverified()
  keepHeapYoung()
  // no SDK looks for credentials at a metadata address, whatever it would do by itself
  Object.assign(process.env, { AWS_EC2_METADATA_DISABLED: 'true', METADATA_SERVER_DETECTION: 'none' })
  if (!options.dev && !options.config) throw new BrokerError('bad_request', 'wanted --dev or --config FILE')
  const { config, secretId } = options.config ? await production(options.config) : await development(options)
  await mkdir(dirname(config.audit.file), { recursive: true, mode: 0o700 })
  const log = openLog({ level: config.log_level })
  const serving = serve(config, log, secretId)
  process.on(
    'SIGHUP',
    () => void serving.then(({ reload }) => reload()).catch((error: unknown) => log.error({ error }, STILL_OLD)),
  )
  const server = await serving
  stopOnSignals(server)
  process.stdout.write(`assay serves ${server.url} beside ${config.vault.address}, audit log ${config.audit.file}\n`)
}

/** What is sent to Vault is a secret: it goes to nobody else, and says one thing to who reads it. */
async function refuseUnverified(): Promise<void> {
  const { refuseUnsafe } = await import('#engine')
  refuseUnsafe(process.env, process.execArgv)
}

async function production(file: string): Promise<{ config: Config; secretId: SecretId }> {
  const [{ BrokerError, readConfig }, { parse }, { secretIdFrom }] = await Promise.all([
    import('#engine'),
    import('yaml'),
    import('./serve.ts'),
  ])
  const parsed = (content: string): unknown => {
    try {
      return parse(content)
    } catch (error) {
      throw new BrokerError('bad_request', `${file}${placeOf(error)} is no valid YAML or JSON${whatOf(error)}`, { cause: error })
    }
  }
  const config = readConfig(parsed(await readFile(file, 'utf8')))
  return { config, secretId: secretIdFrom(config.vault.approle.secret_id_file) }
}

/** What its parser says goes on to quote the text. */
const whatOf = (error: unknown) => `: ${String((error as Error).message).split(/ at line |[\n:]/, 1)[0]}`

function placeOf(error: unknown): string {
  const [place] = (error as { linePos?: readonly { line: number; col: number }[] }).linePos ?? []
  return place ? `:${place.line}:${place.col}` : ''
}

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

async function vaultAt(address: string): Promise<string> {
  const { BrokerError } = await import('#engine')
  if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return address
  throw new BrokerError('bad_request', 'wanted --vault-addr http://HOST:PORT or https://HOST:PORT')
}

/** As the stock CLI finds it: the environment, else the file where `vault login` and a dev server leave it. */
async function operatorToken(): Promise<string> {
  const kept = await readFile(join(home(), '.vault-token'), 'utf8').catch(() => '')
  const token = process.env['VAULT_TOKEN'] || kept.trim()
  if (!token)
    throw new InvalidArgumentError(
      'wanted an operator token in VAULT_TOKEN or ~/.vault-token, such as the root token of a dev server',
    )
  return token
}

const STILL_OLD = 'not everything could be opened anew: what was open stays'

function stopOnSignals(server: Server): void {
  const stop = () => {
    void server.close().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
}

function setupCommand(): Command {
  return new Command('setup')
    .description('what the service needs in Vault: its policy, its mounts and its AppRole')
    .option('--proxy', 'what the proxy needs in place of it: its own policy, AppRole and certificate authority')
    .addOption(
      new Option('--permit <host>', 'with --proxy: a host whose connections may be intercepted, and no other; repeatable')
        .argParser((host: string, sofar: readonly string[]) => [...sofar, host])
        .default([], 'none: there is no certificate authority then'),
    )
    .option('--print', 'print the policy and the commands that an operator runs')
    .option('--policy', 'print the policy alone, as HCL')
    .option(
      '--apply',
      'apply it now, with the operator token in VAULT_TOKEN or ~/.vault-token; prints the role id, writes the secret id to --secret-id-file',
    )
    .option('--secret-id-file <file>', 'with --apply: where the secret id goes (mode 0600)')
    .addOption(new Option('--vault-addr <url>', 'with --apply: the Vault server').env('VAULT_ADDR').default(DEFAULT_VAULT))
    .addOption(
      new Option('--ca-file <file>', "with --apply: PEM of the CAs that Vault's certificate comes from").env('VAULT_CACERT'),
    )
    .action((options: SetupOptions, command: Command) => reported(command, () => runSetup(options)))
}

type SetupOptions = {
  proxy?: true
  permit: readonly string[]
  print?: true
  policy?: true
  apply?: true
  secretIdFile?: string
  vaultAddr: string
  caFile?: string
}

async function runSetup(options: SetupOptions): Promise<void> {
  const { BrokerError, PLACES, PROXY_PLACES, policyHcl, proxyPolicyHcl, proxySetupCommands, setupCommands } = await import(
    '#engine'
  )
  if (options.permit.length > 0 && !options.proxy) throw new BrokerError('bad_request', '--permit: wanted with --proxy alone')
  const [name, policy, commands] = options.proxy
    ? ['proxy.hcl', proxyPolicyHcl(PROXY_PLACES), proxySetupCommands(PROXY_PLACES, options.permit)]
    : ['policy.hcl', policyHcl(PLACES), setupCommands(PLACES)]
  if (options.policy) process.stdout.write(policy)
  else if (options.print) process.stdout.write(`# ${name}\n${policy}\n# commands\n${commands.join('\n')}\n`)
  else if (options.apply) await apply(options)
  else throw new BrokerError('bad_request', 'wanted --print, --policy or --apply')
}

async function apply({ vaultAddr, caFile, secretIdFile, proxy, permit }: SetupOptions): Promise<void> {
  const { authoritiesIn, BrokerError, PLACES, PROXY_PLACES, provision, provisionProxy, Secret } = await import('#engine')
  if (!secretIdFile) throw new BrokerError('bad_request', 'wanted --secret-id-file FILE')
  await refuseUnverified()
  const ca = caFile ? { ca: authoritiesIn(await readFile(caFile, 'utf8'), '--ca-file') } : {}
  const vault = { address: await vaultAt(vaultAddr), deadlineMs: 10_000, ...ca }
  const token = new Secret(await operatorToken())
  // before there is something to keep: what could not be written would be lost, and good for ever
  await using file = await open(secretIdFile, 'a', 0o600)
  const { roleId, secretId } = await (proxy
    ? provisionProxy(vault, PROXY_PLACES, token, permit)
    : provision(vault, PLACES, token))
  await writePrivate(file, `${secretId.reveal()}\n`)
  process.stdout.write(`role_id: ${roleId}\nsecret_id_file: ${secretIdFile}\n`)
}

/** Private before the secret is in it, even where the file was there for others to read. */
async function writePrivate(file: FileHandle, content: string): Promise<void> {
  if ((await file.stat()).isFile()) {
    await file.chmod(0o600)
    await file.truncate()
  }
  await file.writeFile(content)
}

function auditCommand(): Command {
  const verify = new Command('verify')
    .description('check the hash chain of an audit log; exits 1 and names the first bad record when it does not hold')
    .argument('<file...>', 'the log, or its files in order')
    .option('--json', 'one JSON document')
    .option('--head <hash>', 'hash of the last record, known from elsewhere: only so does it show that the end was cut off')
    .action((files: string[], options: VerifyOptions, command: Command) => reported(command, () => runVerify(files, options)))
  return new Command('audit').description('look after audit logs').addCommand(verify)
}

type VerifyOptions = { json?: true; head?: string }

async function runVerify(files: readonly string[], { json, head }: VerifyOptions): Promise<void> {
  const { faults, verifyAudit } = await import('#engine/audit')
  const verdict = await verifyAudit(files, head === undefined ? {} : { head }).catch(async (error: NodeJS.ErrnoException) => {
    const { BrokerError } = await import('#engine')
    throw new BrokerError('unavailable', `the log cannot be read: ${error.code ?? error.message}`, { cause: error })
  })
  process.stdout.write(json ? `${JSON.stringify(verdict)}\n` : `${described(verdict)}\n`)
  if (!verdict.ok) process.exitCode = 1

  function described(found: typeof verdict): string {
    if (found.ok) return `the chain holds: ${found.records} records, the last is ${found.head.index} with hash ${found.head.hash}`
    const { file, line, index } = found.at
    return `the chain is broken in ${files[file] ?? 'the log'} at line ${line}, where record ${index} was expected: ${faults[found.reason]} (${found.reason})`
  }
}

/** Our own refusals and what the system refuses read as one sentence; anything else is a bug and shows its stack. */
async function reported(command: Command, run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    const { BrokerError, VaultRefusal } = await import('#engine')
    if (error instanceof VaultRefusal)
      command.error(`assay: vault answered ${error.status}: ${oneLine(error.errors.join(', '))}`, { exitCode: 3 })
    const known = error instanceof BrokerError || error instanceof InvalidArgumentError || isOfSystem(error)
    if (known) command.error(`assay: ${oneLine(error.message)}`, { exitCode: error.code === 'unavailable' ? 3 : 1 })
    throw error
  }
}

const oneLine = (text: string) => text.replace(/\s+/g, ' ').trim()

/** A file that is not there, a port that is taken. */
function isOfSystem(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}
