import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { connect, type NetConnectOpts } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePair } from './process.ts'
import { discard, scratch } from './scratch.ts'
import { interrupt, shutDown } from './swtpm_stop.ts'

const run = promisify(execFile)
const START_MS = 60_000
const LONGEST_SOCKET_PATH = 107 // sun_path of Linux, less its final zero

export type SwtpmOptions = {
  /** how the TPM is reached */
  readonly transport?: 'unix' | 'tcp'
  /** folder of the local CA that certifies the EKs; without one, all TPMs of this process share a CA made for it */
  readonly authority?: string
  /** also certify a P-256 EK, at 0x01C0000A: swtpm_setup knows RSA-2048 and P-384 only */
  readonly p256?: boolean
  /** PCR banks to allocate */
  readonly banks?: string
  /** common name in the EK certificates */
  readonly vmid?: string
  /** in place of one of its own: the state that this one has now, as of a virtual machine that is copied */
  readonly copyOf?: Pick<Swtpm, 'directory'>
}

/** A running software TPM with its own seeds, and EK certificates in its NV memory. Ends with the process that started it. */
export type Swtpm = AsyncDisposable & {
  /** what `--tpm` takes: `unix:<path>` or `tcp:127.0.0.1:<port>` */
  readonly spec: string
  /** what tpm2-tools and libtss2 take (TPM2TOOLS_TCTI) */
  readonly tcti: string
  /** of the data channel; the control channel is beside it, `.ctrl`. Empty over tcp */
  readonly socketPath: string
  /** of the data channel; the control channel is the next one. 0 over unix sockets */
  readonly port: number
  readonly directory: string
  readonly rootCaPem: string
  /** the intermediate CA that signed the EK certificates */
  readonly issuerPem: string
  readonly pid: number
  /** Ends the process and starts another on the same state: what the TPM sees of a reset. Without TPM2_Shutdown before it, `safe` is 0 for four seconds. */
  restart(how?: 'orderly' | 'unclean'): Promise<void>
  stop(): Promise<void>
}

/** Provisions a TPM and starts it; resolves when it accepts connections. Needs swtpm, swtpm-tools and, for `p256`, tpm2-tools. */
export async function startSwtpm(options: SwtpmOptions = {}): Promise<Swtpm> {
  const directory = await scratch('assay-tpm-')
  try {
    const authority = options.authority ?? (await sharedAuthority())
    if (options.copyOf) await cp(join(options.copyOf.directory, 'state'), join(directory, 'state'), { recursive: true })
    else await provision(directory, authority, options)
    const { place, child } = await begin(directory, options.transport ?? 'unix')
    const tpm = await describe(directory, authority, place, { process: child })
    if (options.p256) await certifyP256(tpm, authority)
    return tpm
  } catch (error) {
    await discard(directory)
    throw error
  }
}

/** A folder for a local CA of its own, removed when the process ends; the CA is made with the first TPM that it certifies. */
export async function createAuthority(): Promise<string> {
  const directory = await scratch('assay-ca-')
  const ca = join(directory, 'ca')
  await mkdir(ca)
  await writeFile(file(directory, 'localca.conf'), lines({ statedir: ca, ...caFiles(ca) }))
  await writeFile(
    file(directory, 'localca.options'),
    '--platform-manufacturer Test\n--platform-version 1.0\n--platform-model swtpm\n',
  )
  return directory
}

let shared: Promise<string> | undefined
function sharedAuthority(): Promise<string> {
  shared ??= createAuthority()
  return shared
}

type Place = {
  readonly spec: string
  readonly tcti: string
  readonly socketPath: string
  readonly port: number
  readonly server: string
  readonly control: string
  readonly data: NetConnectOpts
  readonly targets: readonly NetConnectOpts[]
}

async function describe(directory: string, authority: string, place: Place, running: { process: ChildProcess }): Promise<Swtpm> {
  const ca = caFiles(join(authority, 'ca'))
  const [rootCaPem, issuerPem] = await Promise.all([readFile(rootFile(authority), 'utf8'), readFile(ca.issuercert, 'utf8')])
  const stop = async () => {
    await end(running.process)
    await discard(directory)
  }
  const restart = async (how = 'orderly') => {
    await (how === 'orderly' ? shutDown(place.data) : interrupt(place.data))
    await end(running.process)
    running.process = await launch(directory, place)
  }
  const { spec, tcti, socketPath, port } = place
  return {
    spec,
    tcti,
    socketPath,
    port,
    directory,
    rootCaPem,
    issuerPem,
    restart,
    stop,
    get pid() {
      return running.process.pid ?? 0
    },
    [Symbol.asyncDispose]: stop,
  }
}

async function provision(directory: string, authority: string, options: SwtpmOptions): Promise<void> {
  const state = join(directory, 'state')
  const config = join(directory, 'setup.conf')
  await mkdir(state)
  const settings = {
    create_certs_tool: await onPath('swtpm_localca'),
    create_certs_tool_config: file(authority, 'localca.conf'),
    create_certs_tool_options: file(authority, 'localca.options'),
    active_pcr_banks: options.banks ?? 'sha256',
  }
  await writeFile(config, lines(settings))
  const name = ['--vmid', options.vmid ?? 'assay-test']
  const what = ['--tpm2', '--create-ek-cert', '--overwrite', '--tpmstate', state, '--config', config]
  await run('swtpm_setup', [...what, ...name, '--logfile', join(directory, 'setup.log')])
}

async function begin(directory: string, transport: 'unix' | 'tcp'): Promise<{ place: Place; child: ChildProcess }> {
  const place = transport === 'unix' ? unixPlace(join(directory, 's')) : tcpPlace(await freePair())
  return { place, child: await launch(directory, place) }
}

function unixPlace(path: string): Place {
  const control = `${path}.ctrl`
  if (control.length > LONGEST_SOCKET_PATH) throw new Error(`the path of a unix socket is too long, set TMPDIR: ${control}`)
  return {
    spec: `unix:${path}`,
    tcti: `swtpm:path=${path}`,
    socketPath: path,
    port: 0,
    server: `type=unixio,path=${path}`,
    control: `type=unixio,path=${control}`,
    data: { path },
    targets: [{ path: control }, { path }],
  }
}

function tcpPlace(port: number): Place {
  return {
    spec: `tcp:127.0.0.1:${port}`,
    tcti: `swtpm:host=127.0.0.1,port=${port}`,
    socketPath: '',
    port,
    server: `type=tcp,port=${port},bindaddr=127.0.0.1`,
    control: `type=tcp,port=${port + 1},bindaddr=127.0.0.1`,
    data: { port, host: '127.0.0.1' },
    targets: [
      { port: port + 1, host: '127.0.0.1' },
      { port, host: '127.0.0.1' },
    ],
  }
}

/** `setpriv --pdeathsig` has the kernel end the TPM with the process that started it, however that one ends. */
async function launch(directory: string, place: Place): Promise<ChildProcess> {
  const log = await open(join(directory, 'swtpm.log'), 'a')
  const tpm = ['swtpm', 'socket', '--tpm2', '--tpmstate', `dir=${join(directory, 'state')}`, '--server', place.server]
  const rest = ['--ctrl', place.control, '--flags', 'not-need-init,startup-clear']
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...tpm, ...rest], { stdio: ['ignore', log.fd, log.fd] })
  try {
    await once(child, 'spawn')
    await accepting(child, place, join(directory, 'swtpm.log'))
    return child
  } catch (error) {
    await end(child)
    throw error
  } finally {
    await log.close()
  }
}

async function accepting(child: ChildProcess, place: Place, log: string): Promise<void> {
  const late = performance.now() + START_MS
  for (const target of place.targets) {
    while (!(await connects(target))) {
      if (child.exitCode !== null || performance.now() > late)
        throw new Error(`swtpm did not start: ${await readFile(log, 'utf8')}`)
      await pause(2)
    }
  }
}

function connects(target: NetConnectOpts): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(target)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

/** Makes the P-256 EK of template L-2, has the local CA certify it, and stores the certificate where the EK credential profile wants it. */
async function certifyP256(tpm: Swtpm, authority: string): Promise<void> {
  const at = (name: string) => join(tpm.directory, name)
  const tool = (name: string, ...args: string[]) => run(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: tpm.tcti } })
  await tool('tpm2_createek', '-G', 'ecc', '-c', at('ek.ctx'), '-f', 'pem', '-u', at('ek.pem'))
  await tool('tpm2_flushcontext', '-t')
  await run('swtpm_localca', localCaArguments(await readFile(at('ek.pem'), 'utf8'), tpm.directory, authority))
  await tool('tpm2_nvdefine', NV_P256, '-C', 'p', '-s', `${(await readFile(at('ek.cert'))).length}`, '-a', NV_ATTRIBUTES)
  await tool('tpm2_nvwrite', NV_P256, '-C', 'p', '-i', at('ek.cert'))
}

const NV_P256 = '0x01c0000a'
const NV_ATTRIBUTES = 'ppwrite|writedefine|ppread|ownerread|authread|policyread|no_da|platformcreate'

function localCaArguments(ekPem: string, directory: string, authority: string): string[] {
  const jwk = createPublicKey(ekPem).export({ format: 'jwk' })
  const [x, y] = [jwk.x, jwk.y].map(text => Buffer.from(text ?? '', 'base64url').toString('hex'))
  const specification = ['--tpm-spec-family', '2.0', '--tpm-spec-level', '0', '--tpm-spec-revision', '164']
  const maker = ['--tpm-manufacturer', 'id:00001014', '--tpm-model', 'swtpm', '--tpm-version', 'id:20191023']
  const config = ['--configfile', file(authority, 'localca.conf'), '--optsfile', file(authority, 'localca.options')]
  const subject = ['--type', 'ek', '--ek', `x=${x},y=${y},id=secp256r1`, '--dir', directory, '--tpm2', '--vmid', 'assay-test']
  return [...subject, ...specification, ...maker, ...config]
}

/** swtpm_setup wants the full path of the tool that makes certificates. */
async function onPath(tool: string): Promise<string> {
  const { stdout } = await run('sh', ['-c', 'command -v "$0"', tool])
  return stdout.trim()
}

function caFiles(ca: string) {
  return {
    signingkey: join(ca, 'signkey.pem'),
    issuercert: join(ca, 'issuercert.pem'),
    certserial: join(ca, 'certserial'),
  }
}

const rootFile = (authority: string) => join(authority, 'ca', 'swtpm-localca-rootca-cert.pem')
const file = (directory: string, name: string) => join(directory, name)
const lines = (settings: Record<string, string>) =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join('')
