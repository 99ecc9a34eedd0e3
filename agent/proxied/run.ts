import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { reasonOf } from '../client.ts'
import { type Mode, modeOf } from '../delivery.ts'
import { AgentError } from '../exits.ts'
import type { HeldKey } from '../flow.ts'
import type { ExecOptions } from '../options.ts'
import { sayTo } from '../say.ts'
import type { World } from '../world.ts'
import { openCompanion } from './companion.ts'
import { surroundings } from './environment.ts'
import { type Identity, ownIdentity, tpmIdentity } from './identity.ts'
import { programs } from './programs.ts'
import { openSsh } from './ssh.ts'
import type { ProxyPlace } from './tunnel.ts'

/** What leads a command through the proxy. Disposing of it ends the companion. */
export type Proxied = AsyncDisposable & {
  /** what the login binds; undefined with a key of the TPM, which it binds anyway */
  readonly held: HeldKey | undefined
  readonly env: Readonly<Record<string, string>>
  readonly mode: Mode
}

/** @throws AgentError of `usage` or `file` */
export async function open(world: World, options: ExecOptions): Promise<Proxied> {
  const { key, keyCertificate, postgres, ssh, baseUrl, interceptCa } = options
  await using opening = new AsyncDisposableStack()
  const identity = key === undefined ? await ownIdentity(world) : await tpmIdentity(key, keyCertificate)
  const folder = postgres === undefined && ssh === undefined ? undefined : await socketFolder(world)
  if (folder !== undefined) opening.defer(() => rm(folder, { recursive: true, force: true }))
  const [proxy, say] = [await placeOf(options), sayTo(world)]
  const companion = opening.use(
    await openCompanion({
      proxy,
      identity,
      secret: world.random(24).toString('base64url'),
      postgres: postgres === undefined || folder === undefined ? undefined : { port: postgres, folder },
      say,
    }),
  )
  const door =
    ssh === undefined || folder === undefined
      ? undefined
      : opening.use(await openSsh({ proxy: { ...proxy, port: ssh }, identity, folder, program: world.program, say }))
  const parts = opening.move()
  const mode = modeOf({ ...options, env: options.env ?? (postgres === undefined ? undefined : 'PGPASSWORD') })
  return {
    held: heldBy(identity),
    env: {
      ...surroundings({
        companion,
        caFile: interceptCa,
        baseUrls: baseUrl,
        postgresFolder: postgres === undefined ? undefined : folder,
      }),
      ...programs({ env: world.env, mode, json: options.json === true }),
      ...door?.env,
    },
    mode,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function heldBy({ thumbprint, certificate }: Identity): HeldKey | undefined {
  return thumbprint === undefined ? undefined : { thumbprint, certificate }
}

async function placeOf({ proxy = '', proxyCa, deadline }: ExecOptions): Promise<ProxyPlace> {
  const url = URL.canParse(proxy) ? new URL(proxy) : undefined
  if (url?.protocol !== 'https:') throw new AgentError('usage', 'wanted --proxy https://HOST:PORT')
  const ca = proxyCa === undefined ? undefined : await textOf(proxyCa)
  const host = url.hostname.replace(/^\[|\]$/g, '') // an address of IPv6 is in brackets there
  return { host, name: host, port: Number(url.port || 443), ca, deadlineMs: Math.round(deadline * 1000) }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new AgentError('file', `could not read ${file} (${reasonOf(error)})`, { cause: error })
  }
}

/** mkdtemp makes it for its owner alone; the name of a socket may hold a hundred bytes. */
async function socketFolder({ directories }: World): Promise<string> {
  for (const directory of directories) {
    const made = await mkdtemp(join(directory, 'assay-')).catch(() => undefined)
    if (made !== undefined && made.length < 80) return made
  }
  throw new AgentError('file', `could not make a private folder in any of ${directories.join(', ')}`)
}
