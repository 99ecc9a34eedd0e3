import { readFile, writeFile } from 'node:fs/promises'
import { type Attester, openAttester } from './attester.ts'
import { clientOf, reasonOf } from './client.ts'
import { DEFAULT_ADDRESS, DEFAULT_TPM } from './defaults.ts'
import { AgentError } from './exits.ts'
import type { Service } from './flow.ts'
import type { CommonOptions, KeyOptions, TpmOptions } from './options.ts'
import { readSecret } from './secret_file.ts'
import type { KeyFile } from './tpm/key_file.ts'
import type { World } from './world.ts'

/** The front door that flags and environment name. Flags come before the environment, Assay's variables before Vault's.
 *  @param signal nobody waits for its answers any more */
export async function openService(
  { env }: World,
  options: CommonOptions & { readonly broker?: string },
  signal?: AbortSignal,
): Promise<Service> {
  const ca = options.caFile ?? env['VAULT_CACERT']
  const client = await clientPair(options.clientCert ?? env['VAULT_CLIENT_CERT'], options.clientKey ?? env['VAULT_CLIENT_KEY'])
  const settings = {
    address: addressOf(env, options),
    deadlineMs: Math.round(options.deadline * 1000),
    ...(ca ? { ca: await readText(ca) } : {}),
    ...(client === undefined ? {} : { client }),
    ...(signal === undefined ? {} : { signal }),
  }
  return { client: clientOf(settings), mounts: { auth: options.mount, broker: options.broker ?? 'broker' } }
}

export function addressOf(env: World['env'], { address }: CommonOptions): string {
  return address ?? (env['ASSAY_ADDR'] || env['VAULT_ADDR'] || DEFAULT_ADDRESS)
}

type OpenOptions = TpmOptions & Pick<KeyOptions, 'key'> & { readonly deadline: number }

/** A TPM that is opened when first needed, and closed with the command. A command that needs none asks for none. */
export type LazyTpm = AsyncDisposable & { attester(): Promise<Attester> }

export function lazyTpm(world: World, options: OpenOptions): LazyTpm {
  let opened: Promise<Attester> | undefined
  return {
    attester: () => {
      opened ??= openTpm(world, options)
      return opened
    },
    [Symbol.asyncDispose]: async () => {
      const attester = await opened?.catch(() => undefined) // whoever asked for it has the error
      await attester?.close()
    },
  }
}

/** @throws AgentError of `file` */
async function readText(path: string): Promise<string> {
  return (await readBytes(path)).toString('utf8')
}

/** @throws AgentError of `file` */
export async function readBytes(path: string): Promise<Buffer> {
  return readFile(path).catch((error: unknown) => {
    throw new AgentError('file', `could not read ${path} (${reasonOf(error)})`, { cause: error })
  })
}

async function openTpm(world: World, options: OpenOptions): Promise<Attester> {
  const { now, random, env } = world
  const { ek, ak, endorsementAuthFile } = options
  const auth = endorsementAuthFile === undefined ? {} : { endorsementAuth: Buffer.from(await readSecret(endorsementAuthFile)) }
  const tpm = options.tpm ?? (env['ASSAY_TPM'] || DEFAULT_TPM)
  const key = options.key === undefined ? {} : { keyFile: await keyIn(options.key) }
  return openAttester({ tpm, ek, ak, deadlineMs: Math.round(options.deadline * 1000), now, random, ...auth, ...key })
}

/** @throws AgentError of `file` */
async function keyIn(path: string): Promise<KeyFile> {
  const { readKeyFile } = await import('./tpm/key_file.ts')
  const key = readKeyFile(await readText(path))
  if (!key)
    throw new AgentError('file', `there is no key of a TPM in ${path}, or it wants a password; make one with assay agent key`)
  return key
}

/** @throws AgentError of `file` */
export async function writePublic(path: string, content: string): Promise<void> {
  await writeFile(path, content).catch((error: unknown) => {
    throw new AgentError('file', `could not write ${path} (${reasonOf(error)})`, { cause: error })
  })
}

async function clientPair(certificate: string | undefined, key: string | undefined) {
  if (!certificate && !key) return undefined
  if (!certificate || !key) throw new AgentError('usage', 'a client certificate needs its key and the key its certificate')
  return { certificate: await readText(certificate), key: await readText(key) }
}
