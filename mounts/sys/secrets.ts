import {
  BrokerError,
  duration,
  type Mount,
  map,
  parseFields,
  plain,
  type Tuned,
  text,
  type VaultReply,
  visibilities,
} from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { admit } from './admit.ts'
import { changed, jsonOf } from './json.ts'
import { livesOf, rowOf, type SysRequest, type SysRow } from './request.ts'
import { merged, undoing } from './table_of_mounts.ts'

/** `sys/mounts` and `sys/remount`: mounts of type `broker` are ours, in Vault there is nothing of them. */
export const secretsRows: readonly SysRow[] = [
  { methods: ['GET'], prefix: 'sys/mounts', handle: read },
  { methods: ['POST', 'PUT'], prefix: 'sys/mounts', handle: write },
  { methods: ['DELETE'], prefix: 'sys/mounts', handle: disable },
  { methods: ['POST', 'PUT'], prefix: 'sys/remount', handle: move },
  { methods: ['GET'], prefix: 'sys/remount/status', handle: moved },
]

const TUNE = /\/tune$/

/** The mount that the path speaks of, and whether of its tuning. */
function spokenOf({ broker, path }: SysRequest): { readonly mount: Mount; readonly tune: boolean } | undefined {
  const of = (wanted: string) => broker.mounts.ofType('broker').find(mount => mount.path === `${wanted}/`)
  const tuned = TUNE.test(path) ? of(path.replace(TUNE, '')) : undefined
  const mount = tuned ?? of(path)
  return mount && { mount, tune: tuned !== undefined }
}

async function read(request: SysRequest): Promise<HttpReply> {
  const { broker, path, txn } = request
  if (path === '') {
    const own = Object.fromEntries(broker.mounts.ofType('broker').map(mount => [mount.path, rowOf(mount)]))
    return changed(await request.look(), (reply: VaultReply) => merged(reply, own))
  }
  const known = spokenOf(request)
  if (!known) return request.pass()
  await admit(request, { operation: 'read', path: `sys/mounts/${path}`, anyOf: ['read'] })
  const row = known.tune ? tuningOf(known.mount) : rowOf(known.mount)
  return { status: 200, body: { ...enveloped(txn, 'system', row, []), ...row } }
}

/** As Vault shows it: with the lives that count, where nothing was tuned too. */
function tuningOf(mount: Mount): object {
  const { config, description, options } = rowOf(mount)
  return { ...config, ...livesOf(mount), description, ...(options === null ? {} : { options }) }
}

async function write(request: SysRequest): Promise<HttpReply> {
  const body = jsonOf(request.body)
  const known = spokenOf(request)
  if (known?.tune) return tune(request, known.mount, body ?? {})
  if (body?.['type'] === 'broker' && request.path !== '') return enable(request, body)
  if (!TUNE.test(request.path)) await refuseTaken(request, request.path, `sys/mounts/${request.path}`)
  const reply = await request.pass()
  // the tuning of an auth mount of ours is asked of Vault here too
  if (reply.status < 300 && request.path.startsWith('auth/')) await request.broker.mounts.refresh()
  return reply
}

const enableFields = {
  description: text('Description.', { fallback: '' }),
  options: map('Options, kept as they are.'),
}
const configFields = {
  default_lease_ttl: text('Life of what is issued when nobody names one; `system` is what holds without it.'),
  max_lease_ttl: text('Longest life of what is issued; `system` is what holds without it.'),
  listing_visibility: text('Whether the mount is listed to who has no token.'),
}

async function enable(request: SysRequest, body: Record<string, unknown>): Promise<HttpReply> {
  const { broker, path } = request
  await admit(request, { operation: 'update', path: `sys/mounts/${path}`, anyOf: ['create', 'update'] })
  const { description, options } = parseFields(enableFields, body).values
  const config = tuned((body['config'] ?? {}) as Record<string, unknown>)
  const { defaultTtlSeconds = 0, maxTtlSeconds = 0 } = config
  if (maxTtlSeconds > 0 && defaultTtlSeconds > maxTtlSeconds)
    throw new BrokerError('bad_request', 'given default lease TTL greater than given max lease TTL')
  const given: Tuned = { ...config, defaultTtlSeconds, maxTtlSeconds, description, ...optionsOf(options) }
  const mount = await broker.mounts.addBroker(`${path}/`, given)
  await undoing(
    () => broker.issue.open(mount),
    () => broker.mounts.dropBroker(mount),
  )
  done(request, `mounts/${path}`, mount)
  return { status: 204 }
}

function done({ broker, txn }: SysRequest, path: string, mount: Mount): void {
  broker.audit.appendLazy({
    type: 'outcome',
    txn,
    operation: 'update',
    mount: 'sys/',
    path,
    fields: { mount_id: plain(mount.id) },
  })
}

/** What Vault takes and knows nothing of our mounts is ignored, and said. */
async function tune(request: SysRequest, mount: Mount, body: Record<string, unknown>): Promise<HttpReply> {
  await admit(request, { operation: 'update', path: `sys/mounts/${request.path}`, anyOf: ['create', 'update'] })
  const { unknown, given: named } = parseFields({ ...enableFields, ...configFields }, body)
  const given: Partial<Tuned> = {
    ...tuned(body),
    ...(named.description === undefined ? {} : { description: named.description }),
    ...(named.options === undefined ? {} : optionsOf(named.options)),
  }
  const { defaultTtlSeconds, maxTtlSeconds } = { ...mount, ...given }
  if (maxTtlSeconds > 0 && defaultTtlSeconds > maxTtlSeconds) {
    const message = `backend max lease TTL of ${maxTtlSeconds} would be less than backend default lease TTL of ${defaultTtlSeconds}`
    throw new BrokerError('bad_request', message)
  }
  await request.broker.mounts.tuneBroker(mount, given)
  if (unknown.length === 0) return { status: 204 }
  const warning = `Endpoint ignored these unrecognized parameters: [${unknown.toSorted().join(' ')}]`
  return { status: 200, body: { ...enveloped(request.txn, 'system', {}, [warning]), data: null } }
}

const ttlField = { ttl: duration('Life.', { fallback: 0 }) }

function tuned(config: Readonly<Record<string, unknown>>): Partial<Tuned> {
  const {
    default_lease_ttl: usual,
    max_lease_ttl: longest,
    listing_visibility: visibility,
  } = parseFields(configFields, config).given
  const listingVisibility = visibilities.find(one => one === visibility)
  if (visibility !== undefined && listingVisibility === undefined)
    throw new BrokerError('bad_request', `invalid listing_visibility ${visibility}`)
  return {
    ...(usual === undefined || usual === '' ? {} : { defaultTtlSeconds: secondsOf(usual) }),
    ...(longest === undefined || longest === '' ? {} : { maxTtlSeconds: secondsOf(longest) }),
    ...(listingVisibility === undefined ? {} : { listingVisibility }),
  }
}

const secondsOf = (ttl: string) => (ttl === 'system' ? 0 : parseFields(ttlField, { ttl }).values.ttl)

function optionsOf(options: Readonly<Record<string, unknown>> | undefined): Pick<Tuned, 'options'> {
  const entries = Object.entries(options ?? {}).map(([name, value]) => [name, String(value)])
  return entries.length === 0 ? {} : { options: Object.fromEntries(entries) as Record<string, string> }
}

/** What the mount issued is revoked before its data goes. While some of it cannot be, the mount stays, and answers nothing but this. */
async function disable(request: SysRequest): Promise<HttpReply> {
  const { broker, path } = request
  const mount = broker.mounts.ofType('broker').find(one => one.path === `${path}/`)
  if (!mount) return request.pass()
  await admit(request, { operation: 'delete', path: `sys/mounts/${path}`, anyOf: ['delete'] })
  await broker.mounts.taintBroker(mount, true)
  await revokeAll(request, mount)
  await broker.issue.close(mount)
  await broker.mounts.dropBroker(mount)
  return { status: 204 }
}

async function revokeAll({ broker }: SysRequest, mount: Mount): Promise<void> {
  const { left } = await broker.leases.revokeWhere({ mount }, { sync: true })
  if (left === 0) return
  const next = `they are tried again until it is done; then, or after \`vault lease revoke -force -prefix ${mount.path}\`, ask again`
  throw new BrokerError('bad_request', `${left} leases of ${mount.path} could not be revoked yet: ${next}`)
}

/** Vault does not know of our mounts: without this it would put one of its own where ours hides it. Who may not ask learns nothing. */
async function refuseTaken(request: SysRequest, path: string, asked: string): Promise<void> {
  const wanted = `${path}/`
  const taken = request.broker.mounts.ofType('broker').find(({ path: own }) => own.startsWith(wanted) || wanted.startsWith(own))
  if (!taken) return
  await request.broker.authority.require(request.caller, asked, ['create', 'update'])
  throw new BrokerError('bad_request', `path is already in use at ${taken.path}`)
}

const QUEUED =
  "Mount move has been queued. Progress will be reported in Vault's server log, tagged with the returned migration_id"

/** As Vault moves a mount: what it issued is revoked, as its leases have the old path in their ids; its data, its keys and its accessor stay. */
async function move(request: SysRequest): Promise<HttpReply> {
  const { broker, txn } = request
  const { from, to } = jsonOf(request.body) ?? {}
  const mount = broker.mounts.ofType('broker').find(one => one.path === `${trimmed(from)}/`)
  if (!mount) {
    await refuseTaken(request, trimmed(to), 'sys/remount')
    return request.pass()
  }
  await admit(request, { operation: 'update', path: 'sys/remount', anyOf: ['update'], sudo: true })
  if (trimmed(to) === '') throw new BrokerError('bad_request', "both 'from' and 'to' path must be specified as a string")
  if (/^(auth|sys|cubbyhole|identity)(\/|$)/.test(trimmed(to)))
    throw new BrokerError('bad_request', `cannot remount to destination ${trimmed(to)}/`)
  await broker.mounts.free(`${trimmed(to)}/`, mount)
  await broker.mounts.taintBroker(mount, true)
  const { id } = await undoing(
    async () => {
      await revokeAll(request, mount)
      return broker.mounts.moveBroker(mount, `${trimmed(to)}/`)
    },
    () => broker.mounts.taintBroker(mount, false),
  )
  done(request, 'remount', mount)
  const data = { migration_id: id }
  return { status: 200, body: { ...enveloped(txn, 'system', data, [QUEUED]), ...data } }
}

const trimmed = (path: unknown) => (typeof path === 'string' ? path.replace(/^\/+|\/+$/g, '') : '')

/** Who moves a mount asks until it has moved: one of ours has when its move was answered, at Vault we learn of it by the way. */
async function moved(request: SysRequest): Promise<HttpReply> {
  const { broker, pass, path, txn } = request
  const mount = broker.mounts.ofType('broker').find(one => one.moved?.id === path)
  if (mount?.moved) {
    await admit(request, { operation: 'read', path: `sys/remount/status/${path}`, anyOf: ['read'] })
    const info = { source_mount: mount.moved.from, target_mount: mount.path, status: 'success' }
    const data = { migration_id: path, migration_info: info }
    return { status: 200, body: { ...enveloped(txn, 'system', data, []), ...data } }
  }
  const reply = await pass()
  if (reply.status === 200) await broker.mounts.refresh()
  return reply
}
