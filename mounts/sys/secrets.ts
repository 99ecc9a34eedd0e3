import { BrokerError, flag, type Mount, parseFields, type Tuned, type VaultReply } from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { admit } from './admit.ts'
import { readAuth, tuneAuth } from './auth.ts'
import { changed } from './json.ts'
import { move, moved, refuseTaken, revokeAll } from './remount.ts'
import { done, ownAt, rowOf, type SysRequest, type SysRow, TUNE, typeOf } from './request.ts'
import { merged } from './table_of_mounts.ts'
import { asTold, givenOf, tune, tuningOf } from './tuning.ts'

/** `sys/mounts` and `sys/remount`: mounts of type `broker` are ours, in Vault there is nothing of them. */
export const secretsRows: readonly SysRow[] = [
  { methods: ['GET'], prefix: 'sys/mounts', handle: read, fresh: 'tried' },
  { methods: ['POST', 'PUT'], prefix: 'sys/mounts', handle: write, fresh: 'wanted' },
  { methods: ['DELETE'], prefix: 'sys/mounts', handle: disable, fresh: 'needed' },
  { methods: ['POST', 'PUT'], prefix: 'sys/remount', handle: move, fresh: 'wanted' },
  { methods: ['GET'], prefix: 'sys/remount/status', handle: moved, fresh: 'tried' },
]

/** The mount that the path speaks of, and whether of its tuning. */
function spokenOf(request: SysRequest): { readonly mount: Mount; readonly tune: boolean } | undefined {
  const { path } = request
  const mount = ownAt(request, 'broker', path)
  return mount && { mount, tune: TUNE.test(path) && `${path}/` !== mount.path }
}

async function read(request: SysRequest): Promise<HttpReply> {
  const { broker, path, txn } = request
  if (path === '') {
    const own = Object.fromEntries(broker.mounts.ofType('broker').map(mount => [mount.path, rowOf(mount, broker)]))
    return changed(await request.look(), (reply: VaultReply) => merged(reply, own))
  }
  // an auth mount may be asked for here too
  if (path.startsWith('auth/')) return readAuth(request, path)
  const known = spokenOf(request)
  if (!known) return request.pass()
  await admit(request, { operation: 'read', path: `sys/mounts/${path}`, anyOf: ['read'] })
  const row = known.tune ? tuningOf(known.mount) : rowOf(known.mount, broker)
  return { status: 200, body: { ...enveloped(txn, 'system', row, []), ...row } }
}

async function write(request: SysRequest): Promise<HttpReply> {
  const { path, sent } = request
  const known = spokenOf(request)
  if (known?.tune) return tune(request, known.mount)
  // whatever is sent: a path that ends so names no mount
  if (TUNE.test(path)) return tuneAuth(request, path, `sys/mounts/${path}`)
  if (sent && typeOf(sent) === 'broker' && path !== '') return isVaults(sent) ? request.pass() : enable(request, sent)
  await refuseTaken(request, path, { path: `sys/mounts/${path}` }, wanted => `path is already in use at ${wanted}`)
  return request.pass()
}

/** What is said of a version is not said of ours, and Vault has words for it. */
function isVaults({ config, options }: Readonly<Record<string, unknown>>): boolean {
  const has = (value: unknown, name: string) => Boolean((value as Record<string, unknown> | null | undefined)?.[name])
  return has(config, 'plugin_version') || has(options, 'version')
}

/** Where Vault mounts nothing either. */
const PROTECTED = /^(audit|auth|sys|cubbyhole|identity)\//

async function enable(request: SysRequest, sent: Readonly<Record<string, unknown>>): Promise<HttpReply> {
  const { broker, path } = request
  // Vault reads paths that it is asked about without them: nobody would have a right there
  if (path !== path.trim()) throw new BrokerError('bad_request', 'the path of a mount cannot begin or end with a space')
  await admit(request, { operation: 'update', path: `sys/mounts/${path}`, anyOf: ['update'] })
  if (PROTECTED.test(`${path}/`)) throw new BrokerError('bad_request', `cannot mount "${path}/"`)
  refuseFixed(sent)
  const { given, ignored } = givenOf(sent)
  const { defaultTtlSeconds = 0, maxTtlSeconds = 0, description = '' } = given
  if (maxTtlSeconds > 0 && defaultTtlSeconds > maxTtlSeconds)
    throw new BrokerError('bad_request', 'given default lease TTL greater than given max lease TTL')
  // as at Vault, whose CLI says that there are none: those of whom nothing was said are none too, but are shown otherwise
  const options = sent['options'] === null ? {} : { options: given.options ?? {} }
  const all: Tuned = { ...given, ...options, defaultTtlSeconds, maxTtlSeconds, description }
  const mount = await broker.mounts.addBroker(`${path}/`, all, broker.issue)
  done(request, 'update', `mounts/${path}`, mount)
  return asTold(request, ignored, given)
}

/** What nobody can change of a mount that is there. As long as it is not shown as it was asked for, Terraform takes the mount away, with what it
 *  holds, and makes it anew. */
const fixed = {
  local: flag('Whether it is kept from replicas.', { fallback: false }),
  seal_wrap: flag('Whether the seal wraps what it holds.', { fallback: false }),
  external_entropy_access: flag('Whether it draws from outside.', { fallback: false }),
}

function refuseFixed(sent: Readonly<Record<string, unknown>>): void {
  for (const [name, wanted] of Object.entries(parseFields(fixed, sent).values)) {
    if (wanted) throw new BrokerError('bad_request', `${name}: wanted false: a KV mount of Vault keeps what a broker mount holds`)
  }
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
  done(request, 'delete', `mounts/${path}`, mount)
  return { status: 204 }
}
