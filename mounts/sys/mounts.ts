import { BrokerError, duration, MARK, parseFields, plain, text, type VaultReply } from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import type { CanonicalPath } from '../path.ts'
import { readOpenApi, readUiMounts } from './internal.ts'
import { rowOf, type SysRequest, type SysRow } from './request.ts'

/** Which of Vault's paths we answer, change on the way, or add to. Everything else of `sys/` passes through untouched. */
const sysRows: readonly SysRow[] = [
  { methods: ['GET'], prefix: 'sys/mounts', handle: readMounts },
  { methods: ['POST', 'PUT'], prefix: 'sys/mounts', handle: enableSecrets },
  { methods: ['DELETE'], prefix: 'sys/mounts', handle: disableSecrets },
  { methods: ['POST', 'PUT'], prefix: 'sys/remount', handle: remount },
  { methods: ['GET'], prefix: 'sys/remount/status', handle: remounted },
  { methods: ['GET'], prefix: 'sys/auth', handle: readAuth },
  { methods: ['POST', 'PUT'], prefix: 'sys/auth', handle: enableAuth },
  { methods: ['DELETE'], prefix: 'sys/auth', handle: disableAuth },
  { methods: ['GET'], prefix: 'sys/internal/ui/mounts', handle: readUiMounts },
  { methods: ['GET'], prefix: 'sys/internal/specs/openapi', handle: readOpenApi },
]

export function findSys(method: string, path: CanonicalPath): { row: SysRow; params: string } | undefined {
  if (!path.path.startsWith('sys/')) return undefined
  const row = sysRows.find(one => one.methods.includes(method) && `${path.path}/`.startsWith(`${one.prefix}/`))
  return row ? { row, params: path.path.slice(row.prefix.length + 1) } : undefined
}

async function readMounts(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller, txn } = request
  const own = broker.mounts.ofType('broker')
  if (path === '') {
    const reply = await broker.vault.read('sys/mounts', { as: caller.token })
    return merged(reply, Object.fromEntries(own.map(mount => [mount.path, rowOf(mount)])))
  }
  const mount = own.find(one => one.path === `${path.replace(/\/tune$/, '')}/`)
  if (!mount) return request.pass()
  await broker.authority.require(caller, `sys/mounts/${path}`, ['read'])
  const row = path.endsWith('/tune') ? { ...rowOf(mount).config, description: mount.description } : rowOf(mount)
  return { status: 200, body: { ...enveloped(txn, 'system', row, []), ...row } }
}

const enableFields = { type: text('Type of the mount.', { fallback: '' }), description: text('Description.', { fallback: '' }) }
const ttlFields = {
  default_lease_ttl: duration('Default TTL.', { fallback: 0 }),
  max_lease_ttl: duration('Max TTL.', { fallback: 0 }),
}

async function enableSecrets(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller, txn } = request
  const body = bodyOf(request.body)
  if (broker.mounts.ofType('broker').some(mount => mount.path === `${path.replace(/\/tune$/, '')}/`) && path.endsWith('/tune')) {
    throw new BrokerError('unsupported_operation', 'a mount of type broker cannot be tuned: disable and enable it')
  }
  if (body?.['type'] !== 'broker' || path === '') {
    if (!path.endsWith('/tune')) await refuseTaken(request, path, `sys/mounts/${path}`)
    return request.pass()
  }
  await broker.authority.require(caller, `sys/mounts/${path}`, ['create', 'update'])
  const { description } = parseFields(enableFields, body).values
  const { default_lease_ttl, max_lease_ttl } = parseFields(ttlFields, (body['config'] ?? {}) as Record<string, unknown>).values
  await record(request, 'update', `sys/mounts/${path}`)
  const mount = await broker.mounts.addBroker(`${path}/`, {
    description,
    defaultTtlSeconds: default_lease_ttl,
    maxTtlSeconds: max_lease_ttl,
  })
  await undoing(
    () => broker.issue.open(mount),
    () => broker.mounts.dropBroker(mount),
  )
  broker.audit.appendLazy({
    type: 'outcome',
    txn,
    operation: 'update',
    mount: 'sys/',
    path: `mounts/${path}`,
    fields: { mount_id: plain(mount.id) },
  })
  return { status: 204 }
}

async function disableSecrets(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const mount = broker.mounts.ofType('broker').find(one => one.path === `${path}/`)
  if (!mount) return request.pass()
  await broker.authority.require(caller, `sys/mounts/${path}`, ['delete'])
  await record(request, 'delete', `sys/mounts/${path}`)
  await broker.mounts.dropBroker(mount)
  await broker.issue.close(mount)
  return { status: 204 }
}

/** Vault does not know of our mounts: without this it would put one of its own where ours hides it. Who may not ask learns nothing. */
async function refuseTaken({ broker, caller }: SysRequest, path: string, asked: string): Promise<void> {
  const wanted = `${path}/`
  const taken = broker.mounts.ofType('broker').find(({ path: own }) => own.startsWith(wanted) || wanted.startsWith(own))
  if (!taken) return
  await broker.authority.require(caller, asked, ['create', 'update'])
  throw new BrokerError('bad_request', `path is already in use at ${taken.path}`)
}

async function remount(request: SysRequest): Promise<HttpReply> {
  const { broker, caller } = request
  const { from, to } = bodyOf(request.body) ?? {}
  if (broker.mounts.ofType('broker').some(mount => mount.path === `${trimmed(from)}/`)) {
    await broker.authority.require(caller, 'sys/remount', ['update'])
    throw new BrokerError('unsupported_operation', 'a mount of type broker cannot be moved: disable and enable it')
  }
  await refuseTaken(request, trimmed(to), 'sys/remount')
  return request.pass()
}

/** Who moves a mount asks until it has moved: then it is known here too. */
async function remounted({ broker, pass }: SysRequest): Promise<HttpReply> {
  const reply = await pass()
  if (reply.status === 200) await broker.mounts.refresh()
  return reply
}

const trimmed = (path: unknown) => (typeof path === 'string' ? path.replace(/^\/+|\/+$/g, '') : '')

async function readAuth(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const own = new Set(broker.mounts.ofType('tpm-quote').map(mount => mount.path.slice('auth/'.length)))
  if (path !== '' && !own.has(`${path}/`)) return request.pass()
  const reply = await broker.vault.read(path === '' ? 'sys/auth' : `sys/auth/${path}`, { as: caller.token })
  if (path !== '') return merged(reply, { type: 'tpm-quote' })
  const relabelled = Object.entries(reply?.data ?? {}).filter(([name]) => own.has(name))
  return merged(reply, Object.fromEntries(relabelled.map(([name, row]) => [name, { ...(row as object), type: 'tpm-quote' }])))
}

/** Vault mounts its own `jwt` method, marked as ours, with the operator's own token; then it is told whose signatures count. */
async function enableAuth(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const body = bodyOf(request.body)
  if (body?.['type'] !== 'tpm-quote' || path === '') return request.pass()
  await record(request, 'update', `sys/auth/${path}`)
  const options = { ...(body['options'] as object | null | undefined), [MARK.option]: MARK.value }
  await broker.vault.write(`sys/auth/${path}`, { ...body, type: 'jwt', options, plugin_name: '' }, { as: caller.token })
  const undo = () => broker.vault.delete(`sys/auth/${path}`, { as: caller.token })
  await undoing(async () => {
    await broker.mounts.refresh()
    const mount = broker.mounts.find(`auth/${path}`)
    if (!mount) throw new BrokerError('unavailable', 'vault mounted the auth method but does not list it')
    await broker.attest.open(mount, caller)
  }, undo)
  return { status: 204 }
}

async function disableAuth(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const mount = broker.mounts.ofType('tpm-quote').find(one => one.path === `auth/${path}/`)
  if (!mount) return request.pass()
  await record(request, 'delete', `sys/auth/${path}`)
  // Vault revokes what the mount issued; only when it has, what belongs to it here goes too
  await broker.vault.delete(`sys/auth/${path}`, { as: caller.token })
  await broker.mounts.refresh()
  await broker.attest.close(mount)
  return { status: 204 }
}

async function undoing(make: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<void> {
  try {
    await make()
  } catch (error) {
    await undo()
    throw error
  }
}

function record({ broker, txn }: SysRequest, operation: string, path: string): Promise<unknown> {
  return broker.audit.append({ type: 'request', txn, operation, mount: 'sys/', path: path.slice('sys/'.length) })
}

/** What cannot be read is Vault's to refuse. */
function bodyOf(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** `sys/mounts` and `sys/auth` have their rows twice: in `data`, and at the top level for old clients. */
function merged(reply: VaultReply | undefined, rows: Readonly<Record<string, unknown>>): HttpReply {
  return { status: 200, body: { ...reply, ...rows, data: { ...reply?.data, ...rows } } }
}
