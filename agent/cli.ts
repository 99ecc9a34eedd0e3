import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { Command, Option } from 'commander'
import { reasonOf } from './client.ts'
import { AgentError, exits } from './exits.ts'
import { collect, collectPcr, days, descriptor, FIRST_FD, port, seconds, variable } from './flag_values.ts'
import {
  chainOption,
  deadlineOption,
  KEY_HELP,
  withAsking,
  withKey,
  withLogin,
  withLogs,
  withPrint,
  withProxy,
  withService,
  withTpm,
} from './flags.ts'
import { leave } from './leave.ts'
import type {
  CredsOptions,
  DpopOptions,
  EnrollOptions,
  EvidenceOptions,
  ExecOptions,
  KeyCommandOptions,
  LoginOptions,
  PcrsOptions,
} from './options.ts'
import { transports } from './tpm/transport.ts'
import type { World } from './world.ts'

type Actions = typeof import('./run.ts')

/** `assay agent`: the machine's side of Assay. What an action needs is loaded when it runs. */
export function agentCommand(world: World = processWorld()): Command {
  const commands = [
    enrollCommand(world),
    loginCommand(world),
    evidenceCommand(world),
    credsCommand(world),
    execCommand(world),
    dpopCommand(world),
    pcrsCommand(world),
    keyCommand(world),
  ]
  const agent = new Command('agent').description("the machine's side: attest with its TPM, log in, ask for credentials")
  for (const command of commands) agent.addCommand(command.addHelpText('after', `\n${exitHelp()}`))
  agent.addCommand(sshJoinCommand(world), { hidden: true })
  return agent.addHelpText('after', `\n${transportHelp()}\n\n${exitHelp()}`)
}

/** The one place that looks at the process. */
function processWorld(): World {
  return {
    env: process.env,
    program: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
    now: Date.now,
    random: randomBytes,
    out: writeResult,
    err: text => void process.stderr.write(text),
    exit: leave,
    terminal: hearsKeyboard(),
    signals: process,
    directories: [process.env['XDG_RUNTIME_DIR'] ?? '', '/dev/shm', tmpdir()].filter(directory => directory !== ''),
  }
}

/** Whether what is typed to interrupt reaches this process, and so the command beside it: both are of the terminal's foreground group, whatever they
 *  read from. @see proc_pid_stat(5): pgrp and tpgid */
function hearsKeyboard(): boolean {
  try {
    const [, , pgrp, , , tpgid] = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return pgrp === tpgid
  } catch {
    return process.stdin.isTTY === true
  }
}

/** A result that is lost is no success. */
async function writeResult(text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  process.stdout.once('error', reject).write(text, error => (error ? reject(error) : resolve()))
  await promise.catch((error: unknown) => {
    throw new AgentError('file', `the result could not be written (${reasonOf(error)})`, { cause: error })
  })
}

async function act(world: World, action: (actions: Actions) => Promise<number>): Promise<void> {
  const actions = await import('./run.ts')
  await world.exit(await actions.reported(world, () => action(actions)))
}

function enrollCommand(world: World): Command {
  const command = new Command('enroll').description(
    'introduce this TPM: its certificate is checked, and only it can open the answer',
  )
  withTpm(withService(command))
    .option('--ek-certificate <file>', "certificate of the endorsement key, PEM or DER, in place of the TPM's own")
    .addOption(
      new Option('--intermediate <file>', 'certificate between it and a trust anchor, PEM or DER; repeatable')
        .argParser(collect)
        .default([], 'none'),
    )
    .option('--token-file <file>', "file with an operator's token, where the mount wants one (else env VAULT_TOKEN)")
    .addOption(
      new Option('--wait <seconds>', 'for an operator to approve of this machine, where the mount wants that').argParser(seconds),
    )
  return withPrint(command).action((options: EnrollOptions) => act(world, actions => actions.runEnroll(world, options)))
}

function loginCommand(world: World): Command {
  const command = new Command('login').description('trade a quote over a fresh challenge for a Vault token')
  withLogin(command).option('--token-file <file>', 'write the token there (mode 0600) and do not print it')
  return withPrint(command).action((options: LoginOptions) => act(world, actions => actions.runLogin(world, options)))
}

function evidenceCommand(world: World): Command {
  const command = new Command('evidence').description(
    "print a login for a client that sends it itself, once and soon: as `jwt` of Vault's agent, as password of `vault login -method=userpass`",
  )
  return withLogin(command)
    .option('--out <file>', 'write it there (mode 0600) and print nothing')
    .action((options: EvidenceOptions) => act(world, actions => actions.runEvidence(world, options)))
}

function credsCommand(world: World): Command {
  const command = new Command('creds').description('ask the broker for a credential').argument('<role>', 'role of the broker')
  withAsking(withLogs(withKey(withTpm(withService(command)))))
  return withPrint(command.addOption(chainOption('field'))).action((role: string, options: CredsOptions) =>
    act(world, actions => actions.runCreds(world, role, options)),
  )
}

function execCommand(world: World): Command {
  const command = new Command('exec')
    .description('run a command with a credential that it never sees on its command line')
    .usage('[options] <role> -- <command...>')
    .argument('<role>', 'role of the broker')
    .argument('<command...>', 'what to run, behind --')
  withAsking(withLogs(withKey(withTpm(withService(command)))))
    .option('--json', 'give the command the whole reply as JSON, not the token alone')
    .addOption(chainOption('proxy'))
    .addOption(new Option('--fd <number>', 'descriptor that shows the credential').argParser(descriptor).default(FIRST_FD))
    .addOption(new Option('--env <name>', 'give the credential in this variable instead').argParser(variable).conflicts('fd'))
    .addHelpText('after', EXEC_HELP)
  withProxy(command)
  return command.action((role: string, words: string[], options: ExecOptions) =>
    act(world, actions => actions.runExec(world, role, words, options)),
  )
}

/** Only `ssh` runs this, as the configuration says that `exec --proxy --ssh` gives it. */
function sshJoinCommand(world: World): Command {
  return new Command('ssh-join')
    .description('pass a session of ssh to the companion that exec opened')
    .arguments('<socket> <user> <host> <port>')
    .action((socket: string, user: string, host: string, at: string) =>
      act(world, async () => {
        const { join } = await import('./proxied/join.ts')
        return join(world, { socket, user, host, port: port(at) }, process.stdin, process.stdout)
      }),
    )
}

function pcrsCommand(world: World): Command {
  const command = new Command('pcrs')
    .description('print PCR values of this machine as reference values: what `vault write auth/MOUNT/reference/NAME -` takes')
    .addOption(deadlineOption())
    .addOption(new Option('--bank <bank>', 'PCR bank').choices(['sha256', 'sha384', 'sha512']).default('sha256'))
    .addOption(new Option('--pcr <number>', 'PCR from 0 to 23; repeatable').argParser(collectPcr).default([], '0 to 7'))
  return withTpm(command).action((options: PcrsOptions) => act(world, actions => actions.runPcrs(world, options)))
}

function dpopCommand(world: World): Command {
  const command = new Command('dpop')
    .description('print an RFC 9449 proof for one request, signed by the key that credentials are bound to')
    .argument('<method>', 'HTTP method of the request')
    .argument('<url>', 'address of the request')
    .option('--credential-file <file>', 'the credential that goes with it (env ASSAY_CREDENTIAL_FILE)')
    .option('--nonce <nonce>', 'that the server gave')
    .option('--key <file>', KEY_HELP)
    .addOption(deadlineOption())
  return withTpm(command).action((method: string, url: string, options: DpopOptions) =>
    act(world, actions => actions.runDpop(world, method, url, options)),
  )
}

function keyCommand(world: World): Command {
  const command = new Command('key')
    .description('make a key in the TPM that other programs can use, too, such as OpenSSL for mutual TLS')
    .argument('<file>', 'where the key is written (mode 0600); only this TPM can load it. When it is there, it is taken')
    .option('--certificate <file>', 'write a certificate there that the key issues for itself, PEM')
    .option('--request <file>', 'write a request for a certificate there, for a CA, PEM')
    .option('--name <name>', 'common name in both', 'assay agent')
    .addOption(new Option('--days <days>', 'life of the certificate').argParser(days).default(90))
    .addOption(deadlineOption())
  return withTpm(command).action((file: string, options: KeyCommandOptions) =>
    act(world, async () => (await import('./make_key.ts')).runKey(world, file, options)),
  )
}

const EXEC_HELP = `
By default the command finds the credential in descriptor 3 (its number is in ASSAY_CREDENTIAL_FD), once, as it was at the
start; and in the file named by ASSAY_CREDENTIAL_FILE, which is replaced in one step at two thirds of the credential's life, is
taken away when it expired and no other could be had, and is gone when the command ends. With --env it is in that variable
alone and stays as it is. VAULT_TOKEN is not passed on. Signals are, and the exit code is the command's own (128 and the number
of the signal that ended it) once it has started.

With --proxy the credential is a sealed token, bound to a key that is made for this run (or that of --key), and the command reaches
the proxy over a companion on the loopback: https_proxy and its kin, the variables of curl, git, the AWS CLI, Python and Node for
authorities, ASSAY_PROXY_BASE for base URLs, and PGHOST with --postgres, where the credential is in PGPASSWORD unless --env says
otherwise. git asks a helper for the credential, each time anew; beside --env AWS_SESSION_TOKEN stand keys that are worth nothing.
With --ssh it is a configuration for ssh -F, scp and sftp that is named in ASSAY_SSH_CONFIG; git and rsync find it by themselves.`

function transportHelp(): string {
  const width = Math.max(...[...transports.values()].map(({ form }) => form.length)) + 2
  return ['Ways to reach a TPM:', ...[...transports.values()].map(({ form, help }) => `  ${form.padEnd(width)}${help}`)].join(
    '\n',
  )
}

function exitHelp(): string {
  return ['Exit codes:', ...Object.values(exits).map(({ code, when }) => `  ${String(code).padEnd(4)}${when}`)].join('\n')
}
