import { type Command, Option } from 'commander'
import { DEFAULT_ADDRESS, DEFAULT_TPM } from './defaults.ts'
import { collect, collectBase, collectParameter, duration, mountPath, port, seconds } from './flag_values.ts'
import { akKinds, ekKinds } from './kinds.ts'

// Flags that several commands have: each function adds a group of them.

export const KEY_HELP = 'key to bind, made by assay agent key, in place of the one that the TPM makes of its seed'

export function withKey(command: Command): Command {
  return command
    .option('--key <file>', KEY_HELP)
    .option('--key-certificate <file>', 'certificate of that key, PEM or DER: what is issued works at mutual TLS with it, too')
}

export function withService(command: Command): Command {
  return command
    .option('--address <url>', `address of the front door (env ASSAY_ADDR, VAULT_ADDR; else ${DEFAULT_ADDRESS})`)
    .option('--mount <path>', 'the auth mount of type tpm-quote', mountPath, 'tpm-quote')
    .option('--ca-file <file>', "PEM of the CAs that the service's certificate comes from (env VAULT_CACERT)")
    .option('--client-cert <file>', 'PEM of a certificate to show to the service (env VAULT_CLIENT_CERT)')
    .option('--client-key <file>', 'PEM of its key (env VAULT_CLIENT_KEY)')
    .addOption(deadlineOption())
}

export function withTpm(command: Command): Command {
  return command
    .option('--tpm <tpm>', `where the TPM is (env ASSAY_TPM; else ${DEFAULT_TPM}); assay agent --help lists the ways`)
    .addOption(new Option('--ek <kind>', 'endorsement key').choices(ekKinds).default(ekKinds[0]))
    .addOption(new Option('--ak <kind>', 'attestation key').choices(akKinds).default(akKinds[0]))
    .option('--endorsement-auth-file <file>', 'file with the authorisation value of the endorsement hierarchy, when it has one')
}

/** of what logs in with a quote */
export function withLogin(command: Command): Command {
  return withLogs(withKey(withTpm(withService(command))))
    .requiredOption('--role <role>', 'role of the auth mount')
    .option('--audience <audience>', 'who will rely on what is issued')
    .option('--no-bind', "do not tie what is issued to the TPM's key: it is then a bearer credential")
}

export function withAsking(command: Command): Command {
  return command
    .option('--role <role>', 'role of the auth mount, to log in or be attested with')
    .option('--broker <path>', 'the mount of type broker', mountPath, 'broker')
    .option('--plugin <plugin>', 'plugin to act through')
    .option('--action <action>', 'what to do')
    .addOption(new Option('--scope <scope>', 'no more than the task needs; repeatable').argParser(collect).default([], 'none'))
    .addOption(
      new Option('--parameter <name=value>', 'what the provider has to know, such as public_key=...; repeatable')
        .argParser(collectParameter)
        .default({}, 'none'),
    )
    .option('--audience <audience>', 'who will rely on the credential')
    .option('--ttl <duration>', 'wanted life, such as 10m', duration)
    .option('--task-token-file <file>', 'what an orchestrator signed of the task; read anew for each credential')
    .option('--attest', 'send a quote with the request even where the role does not ask for one')
    .option('--no-bind', "do not tie the credential to the TPM's key: it is then a bearer credential")
    .option('--token-file <file>', 'file with a Vault token, private to its owner (else env VAULT_TOKEN; else log in first)')
}

export function withProxy(command: Command): Command {
  const proxied = [
    new Option('--proxy-ca <file>', "PEM of the CAs that the proxy's certificate comes from"),
    new Option(
      '--intercept-ca <file>',
      'PEM of the CA whose certificates the proxy shows in tunnels: the command is told to trust it',
    ),
    new Option('--postgres <port>', "the proxy's port for PostgreSQL: psql and the like find it by PGHOST").argParser(port),
    new Option('--ssh <port>', "the proxy's port for an SSH server: ssh -F $ASSAY_SSH_CONFIG, git and rsync go there")
      .argParser(port)
      .conflicts(['env', 'json', 'postgres']),
    new Option('--base-url <name=host/path>', 'a variable with a base URL through the proxy; repeatable')
      .argParser(collectBase)
      .default({}, 'none'),
  ]
  command.option(
    '--proxy <url>',
    'lead the command through the proxy there, such as https://127.0.0.1:8220: what it gets is sealed',
  )
  for (const option of proxied) command.addOption(option)
  return command.hook('preAction', () => {
    const alone = proxied.find(one => command.getOptionValueSource(one.attributeName()) === 'cli')
    if (alone && command.getOptionValue('proxy') === undefined) command.error(`error: option '${alone.flags}' wants --proxy, too`)
  })
}

export function withLogs(command: Command): Command {
  return command
    .option(
      '--event-log <file>',
      'event log of the boot, when the service wants it, in place of the one that Linux shows to root',
    )
    .option('--ima-log <file>', 'list of IMA, ASCII, when the service wants it, in place of the one that Linux shows to root')
}

export function withPrint(command: Command): Command {
  return command
    .addOption(new Option('--json', "print the service's reply as JSON").conflicts('field'))
    .option('--field <name>', 'print this value alone')
}

export function chainOption(...others: string[]): Option {
  const help =
    'the certificates of --key-certificate, and one that carries the sealed token, PEM: psql shows both (sslcert) and needs no password'
  return new Option('--chain', help).conflicts(['json', ...others])
}

export function deadlineOption(): Option {
  return new Option('--deadline <seconds>', 'for each request and each TPM command').argParser(seconds).default(10)
}
