import { type FileHandle, open, readFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { DEFAULT_VAULT, operatorToken, refuseUnverified, vaultAt } from './operator.ts'
import { reported } from './reported.ts'

export function setupCommand(): Command {
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
