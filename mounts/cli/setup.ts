import { type FileHandle, open, readFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { ProxyPlaces } from '#engine'
import { DEFAULT_VAULT, operatorToken, refuseUnverified, vaultAt } from './operator.ts'
import { reported } from './reported.ts'
import { configIn } from './server.ts'

/** What the configuration of a server or a proxy says of what is set up for it. */
export type SetUp = {
  readonly places: Partial<ProxyPlaces>
  /** hosts that may be intercepted */
  readonly permit: readonly string[]
  readonly address: string
  readonly caFile: string | undefined
  readonly secretIdFile: string | undefined
}
export type ReadSetUp = (file: string) => Promise<SetUp>

export function setupCommand(ofProxy: ReadSetUp): Command {
  return new Command('setup')
    .description('what the service needs in Vault: its policy, its mounts and its AppRole')
    .option('--proxy', 'what the proxy needs in place of it: its own policy, AppRole and certificate authority')
    .option(
      '--config <file>',
      "the configuration that it will be served with: what is not said here is read there (places, Vault's address and CAs, the file of the secret id, hosts to permit)",
    )
    .addOption(
      new Option('--name <name>', "of the policy and of the AppRole's role, where one Vault has more than one Assay")
        .argParser(nameIn)
        .default(undefined, 'assay, with --proxy assay-proxy'),
    )
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
    .action((options: SetupOptions, command: Command) =>
      reported(command, async () => runSetup(await withConfig(options, command, options.proxy ? ofProxy : ofServer))),
    )
}

function nameIn(value: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,62}$/.test(value)) return value
  throw new InvalidArgumentError('wanted lower-case letters, digits, dashes and underscores')
}

type SetupOptions = {
  proxy?: true
  config?: string
  name?: string
  permit: readonly string[]
  print?: true
  policy?: true
  apply?: true
  secretIdFile?: string
  vaultAddr: string
  caFile?: string
}
type Wanted = SetupOptions & { readonly places: ProxyPlaces }

const ofServer: ReadSetUp = async file => {
  const { vault, places } = await configIn(file)
  const { mount: approle, secret_id_file: secretIdFile } = vault.approle
  return { places: { ...places, approle }, permit: [], address: vault.address, caFile: vault.ca_file, secretIdFile }
}

/** Flags and environment come before the configuration, and what is in neither is as always. */
async function withConfig(options: SetupOptions, command: Command, read: ReadSetUp): Promise<Wanted> {
  const { PLACES, PROXY_PLACES } = await import('#engine')
  const usual = { ...PROXY_PLACES, name: options.name ?? (options.proxy ? PROXY_PLACES : PLACES).name }
  if (options.config === undefined) return { ...options, places: usual }
  const { places, permit, address, caFile, secretIdFile } = await read(options.config)
  const elsewhere = command.getOptionValueSource('vaultAddr') !== 'default'
  return {
    ...(secretIdFile === undefined ? {} : { secretIdFile }),
    ...(caFile === undefined || elsewhere ? {} : { caFile }),
    ...options,
    ...(elsewhere ? {} : { vaultAddr: address }),
    permit: options.permit.length > 0 ? options.permit : permit,
    places: { ...usual, ...places },
  }
}

async function runSetup(options: Wanted): Promise<void> {
  const { BrokerError, policyHcl, proxyPolicyHcl, proxySetupCommands, setupCommands } = await import('#engine')
  const { places, permit } = options
  if (permit.length > 0 && !options.proxy) throw new BrokerError('bad_request', '--permit: wanted with --proxy alone')
  const [name, policy, commands] = options.proxy
    ? ['proxy.hcl', proxyPolicyHcl(places), proxySetupCommands(places, permit)]
    : ['policy.hcl', policyHcl(places), setupCommands(places)]
  if (options.policy) process.stdout.write(policy)
  else if (options.print) process.stdout.write(`# ${name}\n${policy}\n# commands\n${commands.join('\n')}\n`)
  else if (options.apply) await apply(options)
  else throw new BrokerError('bad_request', 'wanted --print, --policy or --apply')
}

async function apply({ vaultAddr, caFile, secretIdFile, proxy, permit, places }: Wanted): Promise<void> {
  const { authoritiesIn, BrokerError, provision, provisionProxy, Secret } = await import('#engine')
  if (!secretIdFile) throw new BrokerError('bad_request', 'wanted --secret-id-file FILE')
  await refuseUnverified()
  const ca = caFile ? { ca: authoritiesIn(await readFile(caFile, 'utf8'), '--ca-file') } : {}
  const vault = { address: await vaultAt(vaultAddr), deadlineMs: 10_000, ...ca }
  const token = new Secret(await operatorToken())
  // before there is something to keep: what could not be written would be lost, and good for ever
  await using file = await open(secretIdFile, 'a', 0o600)
  const { roleId, secretId } = await (proxy ? provisionProxy(vault, places, token, permit) : provision(vault, places, token))
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
