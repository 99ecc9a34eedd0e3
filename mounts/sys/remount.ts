import { BrokerError, type Mount } from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { isMountPath } from '../path.ts'
import { admit, type Wanted } from './admit.ts'
import { done, type SysRequest, textIn } from './request.ts'
import { undoing } from './table_of_mounts.ts'

const QUEUED =
  "Mount move has been queued. Progress will be reported in Vault's server log, tagged with the returned migration_id"

/** `sys/remount`, as Vault moves a mount: what it issued is revoked, as its leases have the old path in their ids; its data, its keys and its
 *  accessor stay. */
export async function move(request: SysRequest): Promise<HttpReply> {
  const { broker, txn } = request
  const [from, to] = [placeIn(request, 'from'), placeIn(request, 'to')]
  if (from === undefined || to === undefined) return request.pass()
  const mount = broker.mounts.ofType('broker').find(one => one.path === `${from}/`)
  const taken = (path: string) => `path already in use at "${path}"`
  if (!mount) {
    await refuseTaken(request, to, { path: 'sys/remount', sudo: true }, taken)
    return request.pass()
  }
  await admit(request, { operation: 'update', path: 'sys/remount', anyOf: ['update'], sudo: true })
  refuseDestination(to)
  const inUse = await broker.mounts.takenBy(`${to}/`)
  if (inUse !== undefined) throw new BrokerError('bad_request', taken(inUse))
  await broker.mounts.taintBroker(mount, true)
  const { id } = await undoing(
    async () => {
      await revokeAll(request, mount)
      return broker.mounts.moveBroker(mount, `${to}/`)
    },
    () => broker.mounts.taintBroker(mount, false),
  )
  done(request, 'update', 'remount', mount)
  const data = { migration_id: id }
  return { status: 200, body: { ...enveloped(txn, 'system', data, [QUEUED]), ...data } }
}

const placeIn = (request: SysRequest, name: string) => textIn(request, name)?.replace(/^\/+|\/+$/g, '')

/** A mount that no request could name could neither be used nor be disabled. */
function refuseDestination(to: string): void {
  const refuse = (message: string) => new BrokerError('bad_request', message)
  if (to === '') throw refuse("both 'from' and 'to' path must be specified as a string")
  if (to !== to.trim()) throw refuse("'to' path cannot contain trailing whitespace")
  if (!isMountPath(to)) throw refuse('invalid destination mount: wanted a path that a request can name')
  if (/^(audit|auth|sys|cubbyhole|identity)(\/|$)/.test(to)) throw refuse(`cannot remount to destination ${to}/`)
}

/** Vault does not know of our mounts: without this it would put one of its own where ours hides it. Who may not ask learns nothing. */
export async function refuseTaken(
  request: SysRequest,
  path: string,
  asked: Pick<Wanted, 'path' | 'sudo'>,
  words: (taken: string) => string,
): Promise<void> {
  const wanted = `${path}/`
  const taken = request.broker.mounts.ofType('broker').find(({ path: own }) => own.startsWith(wanted) || wanted.startsWith(own))
  if (!taken) return
  await admit(request, { operation: 'update', anyOf: ['update'], ...asked })
  throw new BrokerError('bad_request', words(taken.path))
}

/** @throws BrokerError bad_request while something of what the mount issued is not revoked */
export async function revokeAll({ broker }: SysRequest, mount: Mount): Promise<void> {
  const { left } = await broker.leases.revokeWhere({ mount }, { sync: true })
  if (left === 0) return
  const next = `they are tried again until it is done; then, or after \`vault lease revoke -force -prefix ${mount.path}\`, ask again`
  throw new BrokerError('bad_request', `${left} leases of ${mount.path} could not be revoked yet: ${next}`)
}

/** Who moves a mount asks until it has moved: one of ours has when its move was answered, at Vault we learn of it by the way. */
export async function moved(request: SysRequest): Promise<HttpReply> {
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
