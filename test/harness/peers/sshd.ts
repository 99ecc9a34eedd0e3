import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { freePort, type Ran, run, start } from '../process.ts'
import { discard, scratch } from '../scratch.ts'

/** An OpenSSH server that trusts one certificate authority and nothing else, and a client of it. Disposing of it ends it. */
export type Sshd = AsyncDisposable & {
  readonly port: number
  /** public keys of the server, and of the authority that certified it for 127.0.0.1 */
  readonly hostKey: string
  readonly hostAuthority: string
  readonly user: string
  /** the public key of the client */
  readonly publicKey: string
  /** Runs a command through a login with this certificate, or with the bare key. */
  readonly ssh: (certificate: string | undefined, command: string) => Promise<Ran>
}

export async function startSshd(trustedCa: string): Promise<Sshd> {
  await using opening = new AsyncDisposableStack()
  const folder = await scratch('assay-sshd-')
  opening.defer(() => discard(folder))
  const at = (name: string) => join(folder, name)
  for (const name of ['host', 'client', 'authority']) await made('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)])
  await made('ssh-keygen', ['-q', '-s', at('authority'), '-I', 'host', '-h', '-n', '127.0.0.1', at('host.pub')])
  // sshd will not start without it, whatever is configured
  if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true })
  const port = await freePort()
  await writeFile(at('ca.pub'), `${trustedCa.trim()}\n`)
  await writeFile(at('sshd_config'), configOf(port, at))
  const server = opening.use(await start('/usr/sbin/sshd', ['-D', '-e', '-f', at('sshd_config')]))
  await server.line(/^Server listening on /)
  const user = userInfo().username
  const ssh: Sshd['ssh'] = async (certificate, command) => {
    const extra = certificate === undefined ? [] : ['-o', `CertificateFile=${at('client-cert.pub')}`]
    // a certificate that lies beside the key is used without being asked for
    await (certificate === undefined ? rm(at('client-cert.pub'), { force: true }) : writeFile(at('client-cert.pub'), certificate))
    const given = CLIENT.flatMap(option => ['-o', option])
    return run('ssh', ['-F', 'none', ...given, ...extra, '-i', at('client'), '-p', String(port), `${user}@127.0.0.1`, command])
  }
  const [publicKey = '', hostKey = '', hostAuthority = ''] = await Promise.all(
    ['client', 'host', 'authority'].map(name => readFile(at(`${name}.pub`), 'utf8')),
  )
  const parts = opening.move()
  return { port, hostKey, hostAuthority, user, publicKey, ssh, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

function configOf(port: number, at: (name: string) => string): string {
  return [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${at('host')}`,
    `HostCertificate ${at('host-cert.pub')}`,
    `TrustedUserCAKeys ${at('ca.pub')}`,
    'AuthorizedKeysFile none',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin prohibit-password',
    'UsePAM no',
    'StrictModes no',
    'PidFile none',
    'Subsystem sftp internal-sftp',
  ].join('\n')
}

const CLIENT = [
  'UserKnownHostsFile=/dev/null',
  'StrictHostKeyChecking=no',
  'IdentitiesOnly=yes',
  'BatchMode=yes',
  'LogLevel=ERROR',
]

async function made(command: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(command, args)
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${stderr}`)
}
