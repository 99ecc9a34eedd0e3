import { BrokerError, MARK, type VaultReply } from '#engine'
import type { HttpReply } from '../hosts/envelope.ts'
import { changed, jsonOf } from './json.ts'
import { passedAndLooked } from './leases.ts'
import type { SysRequest, SysRow } from './request.ts'
import { merged, undoing } from './table_of_mounts.ts'

/** `sys/auth`: behind an auth mount of ours there is a `jwt` mount of Vault's, which it shows as ours. What ends tokens ends their leases too. */
export const authRows: readonly SysRow[] = [
  { methods: ['GET'], prefix: 'sys/auth', handle: read },
  { methods: ['POST', 'PUT'], prefix: 'sys/auth', handle: write },
  { methods: ['DELETE'], prefix: 'sys/auth', handle: disable },
  ...['revoke', 'revoke-self', 'revoke-accessor', 'revoke-orphan'].map(name => ({
    methods: ['POST', 'PUT'],
    prefix: `auth/token/${name}`,
    handle: passedAndLooked,
  })),
]

async function read({ broker, path, pass, look }: SysRequest): Promise<HttpReply> {
  const own = new Set(broker.mounts.ofType('tpm-quote').map(mount => mount.path.slice('auth/'.length)))
  if (path !== '' && !own.has(`${path}/`)) return pass()
  return changed(await look(), (reply: VaultReply) => {
    if (path !== '') return merged(reply, { type: 'tpm-quote' })
    const relabelled = Object.entries(reply.data ?? {}).filter(([name]) => own.has(name))
    return merged(reply, Object.fromEntries(relabelled.map(([name, row]) => [name, { ...(row as object), type: 'tpm-quote' }])))
  })
}

/** Vault mounts its own `jwt` method, marked as ours, with the operator's own token; then it is told whose signatures count. */
async function write(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const body = jsonOf(request.body)
  if (body?.['type'] !== 'tpm-quote' || path === '') return passedAndSeen(request)
  await recorded(request, 'update')
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

/** Tuning is Vault's: what it made of it is known here at once. */
async function passedAndSeen({ broker, path, pass }: SysRequest): Promise<HttpReply> {
  const reply = await pass()
  if (reply.status < 300 && path.endsWith('/tune')) await broker.mounts.refresh()
  return reply
}

async function disable(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller } = request
  const mount = broker.mounts.ofType('tpm-quote').find(one => one.path === `auth/${path}/`)
  if (!mount) return passedAndLooked(request)
  await recorded(request, 'delete')
  // Vault revokes what the mount issued; only when it has, what belongs to it here goes too
  await broker.vault.delete(`sys/auth/${path}`, { as: caller.token })
  await broker.leases.lookAtTokens()
  await broker.mounts.refresh()
  await broker.attest.close(mount)
  return { status: 204 }
}

function recorded({ broker, txn, path }: SysRequest, operation: string): Promise<unknown> {
  return broker.audit.append({ type: 'request', txn, operation, mount: 'sys/', path: `auth/${path}` })
}
