import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Ran, run, start } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'

// OpenSSL uses a key of the TPM through a provider, which wants a resource manager between it and swtpm, and that one a bus.

/** Debian has it in a folder that is named after the machine. */
const MODULE = '/usr/lib/*/ossl-modules/tpm2.so'

/** Which of what is needed is not there; undefined when all is. */
export async function missing(): Promise<string | undefined> {
  const { code } = await run('sh', ['-c', `command -v tpm2-abrmd dbus-daemon dbus-send && ls ${MODULE}`])
  return code === 0 ? undefined : 'tpm2-openssl, tpm2-abrmd or dbus is not installed'
}

const CONFIG = `nodejs_conf = all
openssl_conf = all
[all]
providers = providers
alg_section = algorithms
[providers]
default = on
tpm2 = on
[on]
activate = 1
[algorithms]
default_properties = ?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes,tpm2.rand!=yes
`

export type TpmOpenssl = AsyncDisposable & {
  /** Runs a program whose OpenSSL has the TPM. */
  readonly run: (command: string, args: readonly string[]) => Promise<Ran>
}

/** While it is open, nobody else may talk to the TPM. @param folder for its files */
export async function openTpmOpenssl(tpm: Swtpm, folder: string): Promise<TpmOpenssl> {
  await using opening = new AsyncDisposableStack()
  const config = join(folder, 'openssl.cnf')
  await writeFile(config, CONFIG)
  const bus = opening.use(await start('dbus-daemon', ['--session', '--nofork', '--nopidfile', '--print-address']))
  const [address = ''] = await bus.line(/^unix:\S+/)
  const env = { PATH: process.env['PATH'], DBUS_SESSION_BUS_ADDRESS: address }
  const broker = opening.use(await start('tpm2-abrmd', ['--session', '--allow-root', `--tcti=${tpm.tcti}`], { env }))
  const ask = ['--session', '--print-reply', '--dest=org.freedesktop.DBus', '/org/freedesktop/DBus']
  const owned = [...ask, 'org.freedesktop.DBus.NameHasOwner', 'string:com.intel.tss2.Tabrmd']
  await broker.ready('its name on the bus', async () => (await run('dbus-send', owned, { env })).stdout.includes('true'))
  const parts = opening.move()
  const { stdout: module } = await run('sh', ['-c', `ls ${MODULE}`])
  const tools = { OPENSSL_CONF: config, OPENSSL_MODULES: dirname(module.trim()), TPM2OPENSSL_TCTI: 'tabrmd:bus_type=session' }
  return {
    run: (command, args) => run(command, args, { env: { ...env, ...tools } }),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}
