import { rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Mode, modeOf, privateFolder } from '../delivery.ts'
import type { Around } from '../exec.ts'
import { AgentError } from '../exits.ts'
import type { HeldKey } from '../flow.ts'
import { addressOf, readBytes } from '../open.ts'
import type { ExecOptions } from '../options.ts'
import { sayTo } from '../say.ts'
import type { World } from '../world.ts'
import { openCompanion } from './companion.ts'
import { surroundings } from './environment.ts'
import { type Identity, ownIdentity, tpmIdentity } from './identity.ts'
import { programs } from './programs.ts'
import { openSsh } from './ssh.ts'
import type { ProxyPlace } from './tunnel.ts'

/** How a command is led through the proxy. */
export type Proxied = {
  /** what the login binds; undefined with a key of the TPM, which it binds anyway */
  readonly held: HeldKey | undefined
  readonly mode: Mode
  /** Opens the companion, and what else the command finds beside it. */
  readonly open: () => Promise<Around>
}

/** Looks at all that was given, and opens nothing yet. @throws AgentError of `usage` or `file` */
export async function prepare(world: World, options: ExecOptions): Promise<Proxied> {
  const { key, keyCertificate, interceptCa, env, postgres } = options
  const identity = key === undefined ? await ownIdentity(world) : await tpmIdentity(key, keyCertificate)
  const proxy = await placeOf(options)
  if (interceptCa !== undefined) await readBytes(interceptCa)
  const mode = modeOf({ ...options, env: env ?? (postgres === undefined ? undefined : 'PGPASSWORD') })
  return { held: heldBy(identity), mode, open: () => open(world, options, { identity, proxy, mode }) }
}

type Prepared = { readonly identity: Identity; readonly proxy: ProxyPlace; readonly mode: Mode }

async function open(world: World, options: ExecOptions, { identity, proxy, mode }: Prepared): Promise<Around> {
  const { postgres, ssh, baseUrl, interceptCa } = options
  await using opening = new AsyncDisposableStack()
  const folder = postgres === undefined && ssh === undefined ? undefined : await socketFolder(world)
  if (folder !== undefined) opening.defer(() => rm(folder, { recursive: true, force: true }))
  const say = sayTo(world)
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
  return {
    env: {
      ...surroundings({
        companion,
        door: addressOf(world.env, options),
        // the command may work in another folder
        caFile: interceptCa === undefined ? undefined : resolve(interceptCa),
        baseUrls: baseUrl,
        postgresFolder: postgres === undefined ? undefined : folder,
      }),
      ...programs({ env: world.env, mode, json: options.json === true }),
      ...door?.env,
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function heldBy({ thumbprint, certificate }: Identity): HeldKey | undefined {
  return thumbprint === undefined ? undefined : { thumbprint, certificate }
}

async function placeOf({ proxy = '', proxyCa, deadline }: ExecOptions): Promise<ProxyPlace> {
  const url = URL.canParse(proxy) ? new URL(proxy) : undefined
  if (url?.protocol !== 'https:') throw new AgentError('usage', 'wanted --proxy https://HOST:PORT')
  const ca = proxyCa === undefined ? undefined : (await readBytes(proxyCa)).toString()
  const host = url.hostname.replace(/^\[|\]$/g, '') // an address of IPv6 is in brackets there
  return { host, name: host, port: Number(url.port || 443), ca, deadlineMs: Math.round(deadline * 1000) }
}

/** The name of a socket may hold a hundred bytes. */
const LONGEST_FOLDER = 80

const socketFolder = ({ directories }: World): Promise<string> => privateFolder(directories, LONGEST_FOLDER)
