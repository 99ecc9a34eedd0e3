import { type Broker, BrokerError, type Mount, parseBool } from '#engine'
import { tpmQuote } from '../auth/tables.ts'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { anywhere, at, type OpenApi, openapiOf } from '../openapi.ts'
import { pairsOf } from '../query.ts'
import { brokerPaths } from '../secrets/tables.ts'
import { asOurs } from './auth.ts'
import { changed } from './json.ts'
import { livesOf, ownAt, rowOf, type SysRequest, saidOf } from './request.ts'
import { visibleTo } from './visible.ts'

type Listed = Readonly<Record<string, object>>
type UiMounts = { readonly data?: { readonly auth?: Listed; readonly secret?: Listed } }

/** `sys/internal/ui/mounts`: which mounts a token may know of; the CLI's `kv`, templates of agents and the UI ask here. */
export async function readUiMounts(request: SysRequest): Promise<HttpReply> {
  const { broker, path } = request
  // `vault kv` asks this before each command: of Vault's own it costs no look. Auth mounts of ours are there in Vault, by another type
  if (path === '' || path.startsWith('auth/') || ownAt(request, 'broker', path))
    await broker.mounts.refresh().catch(() => undefined)
  if (path === '') return listed(request, await shownTo(request, broker.mounts.ofType('broker')))
  const mount = ownAt(request, 'broker', path)
  if (mount) return described(request, mount)
  return ownAt(request, 'tpm-quote', path)
    ? changed(await request.look(), (reply: { data?: object }) => ({ ...reply, data: asOurs(reply.data ?? {}) }))
    : request.pass()
}

/** Those where the token may do something, and those that are to be shown to everybody. */
async function shownTo({ broker, caller }: SysRequest, own: readonly Mount[]): Promise<readonly Mount[]> {
  const visible = new Set(await visibleTo(broker, caller, own))
  return own.filter(mount => mount.listingVisibility === 'unauth' || visible.has(mount))
}

async function listed(request: SysRequest, secrets: readonly Mount[]): Promise<HttpReply> {
  const { broker, caller } = request
  const shown = (mount: Mount) => (caller.token === undefined ? inOutline(mount) : inFull(mount, broker))
  const auths = new Set(broker.mounts.ofType('tpm-quote').map(one => one.path.slice('auth/'.length)))
  return changed(await request.look(), (reply: UiMounts) => {
    const auth = Object.entries(reply.data?.auth ?? {}).map(([path, row]) => [path, auths.has(path) ? asOurs(row) : row])
    const secret = secrets.map(mount => [mount.path, shown(mount)])
    const data = { auth: Object.fromEntries(auth) as Listed, secret: { ...reply.data?.secret, ...Object.fromEntries(secret) } }
    return { ...reply, data }
  })
}

/** Without a token, as Vault shows mounts that are to be shown. */
function inOutline(mount: Mount): object {
  const { type, description, options } = saidOf(mount)
  return { type, description, options }
}

/** With the lives that count, where nothing was tuned too. */
function inFull(mount: Mount, broker: Broker): object {
  const row = rowOf(mount, broker)
  return { ...row, config: { ...row.config, ...livesOf(mount) } }
}

/** Who may do nothing there is told what is told of a path where nothing is. */
async function described({ broker, caller, path, txn }: SysRequest, mount: Mount): Promise<HttpReply> {
  const [visible] = await visibleTo(broker, caller, [mount])
  if (!visible) {
    const message = `preflight capability check returned 403, please ensure client's policies grant access to path "${path}/"`
    throw new BrokerError('permission_denied', message)
  }
  return { status: 200, body: enveloped(txn, '', { ...inFull(mount, broker), path: mount.path }, []) }
}

const GENERIC = 'generic_mount_paths'

/** `sys/internal/specs/openapi`: Vault's document with the paths of our mounts in it, of those that the caller may know of. */
export async function readOpenApi(request: SysRequest): Promise<HttpReply> {
  const { broker, caller } = request
  const visible = await visibleTo(broker, caller, [...broker.mounts.ofType('tpm-quote'), ...broker.mounts.ofType('broker')])
  const asked = pairsOf(request.query).get(GENERIC) ?? request.sent?.[GENERIC]
  const place = parseBool(String(asked)) ? anywhere : at
  const hidden = broker.mounts.ofType('tpm-quote').map(mount => place(mount).prefix)
  const own = visible.map(mount => openapiOf(mount.type === 'broker' ? brokerPaths(broker) : tpmQuote(broker), place(mount)))
  return changed(await request.pass(), (vaults: OpenApi) => merged(without(vaults, hidden), own))
}

/** The `jwt` mount behind one of ours is not what is served there. */
function without(document: OpenApi, prefixes: readonly string[]): OpenApi {
  const kept = Object.entries(document.paths).filter(([path]) => !prefixes.some(prefix => path.startsWith(prefix)))
  return { ...document, paths: Object.fromEntries(kept) }
}

function merged(document: OpenApi, own: readonly OpenApi[]): OpenApi {
  const all = [document, ...own]
  return {
    ...document,
    paths: Object.assign({}, ...all.map(one => one.paths)) as OpenApi['paths'],
    components: {
      ...document.components,
      schemas: Object.assign({}, ...all.map(one => one.components.schemas)) as OpenApi['components']['schemas'],
    },
  }
}
