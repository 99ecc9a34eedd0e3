import { BrokerError, cappedWarning, duration, flag, type Lease, parseFields } from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { admit } from './admit.ts'
import { contentOf } from './json.ts'
import { type SysRequest, type SysRow, sentTo, textIn } from './request.ts'

/** `sys/leases`: ours are answered here, the rest is Vault's; what speaks of a prefix above ours concerns both. Paths without `leases` are Vault's
 *  old ones, which clients still use. */
export const leaseRows: readonly SysRow[] = [
  { methods: ['LIST'], prefix: 'sys/leases/lookup', handle: list, fresh: 'tried' },
  { methods: ['POST', 'PUT'], prefix: 'sys/leases/lookup', handle: lookup, unknown: 400 },
  ...['sys/leases/renew', 'sys/renew'].map(prefix => ({
    methods: ['POST', 'PUT'],
    prefix,
    handle: renewAt(prefix),
    unknown: 400,
  })),
  ...['sys/leases/revoke', 'sys/revoke'].map(prefix => revoking(prefix, revokeAt(prefix))),
  ...['sys/leases/revoke-prefix', 'sys/revoke-prefix'].map(prefix => revoking(prefix, revokePrefixAt(prefix, false))),
  ...['sys/leases/revoke-force', 'sys/revoke-force'].map(prefix => revoking(prefix, revokePrefixAt(prefix, true))),
  { methods: ['POST', 'PUT'], prefix: 'sys/leases/tidy', handle: tidy },
  { methods: ['GET'], prefix: 'sys/leases/count', handle: count },
  { methods: ['GET'], prefix: 'sys/leases', handle: irrevocable },
]

function revoking(prefix: string, handle: SysRow['handle']): SysRow {
  return { methods: ['POST', 'PUT'], prefix, handle, fresh: 'needed' }
}

const isOurs = ({ broker }: SysRequest, leaseId: string) =>
  broker.mounts.ofType('broker').some(mount => leaseId.startsWith(mount.path))

/** Of a lease of ours: in the body, or, as old clients have it, in the path. */
function ownIn(request: SysRequest): string | undefined {
  const sent = textIn(request, 'lease_id')
  const leaseId = sent === '' ? request.path : sent
  return leaseId !== undefined && isOurs(request, leaseId) ? leaseId : undefined
}

async function lookup(request: SysRequest): Promise<HttpReply> {
  const leaseId = ownIn(request)
  // there is no such path with an id in it, but for lists
  if (request.path !== '' || leaseId === undefined) return request.pass()
  await admit(request, { operation: 'read', path: 'sys/leases/lookup', anyOf: ['update'] })
  const lease = await request.broker.leases.lookup(leaseId)
  if (!lease || lease.state === 'pending') throw new BrokerError('bad_request', 'invalid lease')
  return { status: 200, body: enveloped(request.txn, 'system', shown(lease, request.broker.leases.now()), []) }
}

const at = (prefix: string, { path }: SysRequest) => (path === '' ? prefix : `${prefix}/${path}`)
const time = (seconds: number) => new Date(seconds * 1000).toISOString()

function shown(lease: Lease, now: number): object {
  const { leaseId, issuedAt, renewedAt, expiresAt, maxExpiresAt, state } = lease
  return {
    id: leaseId,
    issue_time: time(issuedAt),
    expire_time: time(state === 'revoking' ? Math.min(now, expiresAt) : expiresAt),
    last_renewal: renewedAt === 0 ? null : time(renewedAt),
    renewable: state === 'active' && maxExpiresAt > now,
    ttl: state === 'revoking' ? 0 : Math.max(0, expiresAt - now),
  }
}

const renewFields = { increment: duration('Wanted life from now on.', { fallback: 0 }) }

function renewAt(prefix: string) {
  return async (request: SysRequest): Promise<HttpReply> => {
    const leaseId = ownIn(request)
    if (leaseId === undefined) return request.pass()
    await admit(request, { operation: 'update', path: at(prefix, request), anyOf: ['update'] })
    const { increment } = parseFields(renewFields, sentTo(request)).values
    const { leases } = request.broker
    const { lease, capped } = await leases.renew(leaseId, increment)
    const left = lease.expiresAt - lease.renewedAt
    const warnings = capped ? [cappedWarning(increment || lease.ttlSeconds, left)] : []
    const reply = enveloped(request.txn, 'system', {}, warnings)
    const renewable = lease.maxExpiresAt > lease.expiresAt
    return { status: 200, body: { ...reply, data: null, lease_id: leaseId, renewable, lease_duration: left } }
  }
}

function revokeAt(prefix: string) {
  return async (request: SysRequest): Promise<HttpReply> => {
    const leaseId = ownIn(request)
    if (leaseId === undefined) return passedAndLooked(request)
    await admit(request, { operation: 'update', path: at(prefix, request), anyOf: ['update'] })
    const { sync } = parseFields(revokeFields, sentTo(request)).values
    const left = await request.broker.leases.revoke(leaseId, { sync })
    if (sync && left > 0) throw notYet(left)
    return { status: 204 }
  }
}

const revokeFields = { sync: flag('Whether to wait until it is done, and to say when it could not be.', { fallback: true }) }

function notYet(left: number): BrokerError {
  return new BrokerError('bad_request', `failed to revoke ${left} of the leases yet: they are tried again until it is done`)
}

/** Vault is asked first where it is concerned: it says who may, and when it fails nothing is done here. */
function revokePrefixAt(prefix: string, force: boolean) {
  return async (request: SysRequest): Promise<HttpReply> => {
    const { broker, path } = request
    if (!concernsOurs(request)) return passedAndLooked(request)
    const alone = isOurs(request, `${path}/`)
    const reply = alone ? { status: 204 } : await passedAndLooked(request)
    if (reply.status >= 300) return reply
    if (alone) await admit(request, { operation: 'update', path: `${prefix}/${path}`, anyOf: ['update'], sudo: true })
    const { sync } = parseFields(revokeFields, sentTo(request)).values
    const { left } = await broker.leases.revokeWhere({ prefix: path }, { force, sync })
    if (sync && left > 0) throw notYet(left)
    return reply
  }
}

/** The prefix lies in one of our mounts, or one of our mounts lies below it. */
function concernsOurs(request: SysRequest): boolean {
  const { path, broker } = request
  const folder = path === '' ? '' : `${path}/`
  return isOurs(request, folder) || broker.mounts.ofType('broker').some(mount => mount.path.startsWith(folder))
}

/** What ends tokens ends their leases: at once when it went through here. */
export async function passedAndLooked({ broker, pass }: SysRequest): Promise<HttpReply> {
  const reply = await pass()
  if (reply.status < 300) await broker.leases.lookAtTokens()
  return reply
}

async function list(request: SysRequest): Promise<HttpReply> {
  const { broker, path } = request
  if (!concernsOurs(request)) return request.pass()
  if (isOurs(request, `${path}/`)) {
    await admit(request, { operation: 'list', path: `sys/leases/lookup/${path}/`, anyOf: ['list'], sudo: true })
    return listed(request, await broker.leases.list(path))
  }
  const reply = await request.look()
  if (reply.status !== 200 && reply.status !== 404) return reply
  const vaults = (contentOf(reply) as { data?: { keys?: string[] } } | undefined)?.data?.keys ?? []
  return listed(request, [...new Set([...vaults, ...(await broker.leases.list(path))])].toSorted())
}

function listed({ txn }: SysRequest, keys: readonly string[]): HttpReply {
  return keys.length === 0 ? { status: 404, body: { errors: [] } } : { status: 200, body: enveloped(txn, 'system', { keys }, []) }
}

/** Vault answers at once and tidies by itself; so do we. */
async function tidy({ broker, pass, txn }: SysRequest): Promise<HttpReply> {
  const reply = await pass()
  if (reply.status >= 300) return reply
  void broker.leases
    .tidy()
    .then(fields =>
      broker.audit.appendLazy({ type: 'outcome', txn, operation: 'update', mount: 'sys/', path: 'leases/tidy', fields }),
    )
    // whoever asked was answered
    .catch(() => undefined)
  return reply
}

type Counted = { data?: { lease_count?: number; counts?: Record<string, number> } }

/** Ours are never irrevocable: those count that Vault would have given up by now. */
async function count(request: SysRequest): Promise<HttpReply> {
  const [reply, vaults] = await vaultsOf<Counted>(request)
  const stuck = request.broker.leases.stuck()
  if (!vaults?.data || stuck.length === 0) return reply
  const counts: Record<string, number> = { ...vaults.data.counts }
  for (const { path } of stuck) {
    const accessor = request.broker.mounts.ofType('broker').find(mount => path.startsWith(mount.path))?.accessor ?? path
    counts[accessor] = (counts[accessor] ?? 0) + 1
  }
  const data = { ...vaults.data, counts, lease_count: (vaults.data.lease_count ?? 0) + stuck.length }
  return { status: 200, body: { ...vaults, data } }
}

type Irrevocable = { data?: { lease_count?: number; leases?: object[] } }

async function irrevocable(request: SysRequest): Promise<HttpReply> {
  if (request.path !== '') return request.pass()
  const [reply, vaults] = await vaultsOf<Irrevocable>(request)
  const stuck = request.broker.leases.stuck()
  if (!vaults?.data || stuck.length === 0) return reply
  const ours = stuck.map(({ path, id, why }) => stuckRow(`${path}/${id}`, why))
  const data = {
    ...vaults.data,
    lease_count: (vaults.data.lease_count ?? 0) + stuck.length,
    leases: [...(vaults.data.leases ?? []), ...ours],
  }
  return { status: 200, body: { ...vaults, data } }
}

function stuckRow(lease_id: string, why = 'its provider did not answer with success'): object {
  return {
    lease_id,
    error: `${why}: it is tried again until it is done, or dropped by \`vault lease revoke -force -prefix ${lease_id}\``,
  }
}

async function vaultsOf<T>({ look }: SysRequest): Promise<readonly [HttpReply, T | undefined]> {
  const reply = await look()
  return [reply, reply.status === 200 ? (contentOf(reply) as T | undefined) : undefined]
}
