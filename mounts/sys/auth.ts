import { BrokerError, MARK, type Mount, map, parseFields, VaultRefusal, type VaultReply } from '#engine'
import type { HttpReply } from '../hosts/envelope.ts'
import { admit, announce } from './admit.ts'
import { changed, contentOf } from './json.ts'
import { passedAndLooked } from './leases.ts'
import { done, ownAt, type SysRequest, type SysRow, sentTo, TUNE, typeOf } from './request.ts'
import { merged, undoing } from './table_of_mounts.ts'

/** `sys/auth`: behind an auth mount of ours there is a `jwt` mount of Vault's, which it shows as ours. What ends tokens ends their leases too. */
export const authRows: readonly SysRow[] = [
  { methods: ['GET'], prefix: 'sys/auth', handle: read, fresh: 'tried' },
  { methods: ['POST', 'PUT'], prefix: 'sys/auth', handle: write, fresh: 'wanted' },
  { methods: ['DELETE'], prefix: 'sys/auth', handle: disable, fresh: 'needed' },
  ...['revoke', 'revoke-self', 'revoke-accessor', 'revoke-orphan'].map(name => ({
    methods: ['POST', 'PUT'],
    prefix: `auth/token/${name}`,
    handle: passedAndLooked,
  })),
]

async function read(request: SysRequest): Promise<HttpReply> {
  const { broker, path, look } = request
  if (path !== '') return readAuth(request, `auth/${path}`)
  const own = new Set(broker.mounts.ofType('tpm-quote').map(mount => mount.path.slice('auth/'.length)))
  return changed(await look(), (reply: VaultReply) => {
    const ours = Object.entries(reply.data ?? {}).filter(([name]) => own.has(name))
    return merged(reply, Object.fromEntries(ours.map(([name, row]) => [name, asOurs(row as AuthRow)])))
  })
}

/** One auth mount, or its tuning, at either of Vault's paths for it. */
export async function readAuth(request: SysRequest, path: string): Promise<HttpReply> {
  const mount = ownAt(request, 'tpm-quote', path)
  if (!mount) return request.pass()
  const own = TUNE.test(path) && `${path}/` !== mount.path ? tuned : asOurs
  return changed(await request.look(), (reply: VaultReply) => {
    const { options: _, ...rest } = reply as { options?: unknown }
    const row = own((reply.data ?? {}) as AuthRow)
    return { ...rest, ...row, data: row }
  })
}

type AuthRow = { readonly options?: Readonly<Record<string, string>> | null }

/** Vault's row of the `jwt` mount behind one of ours, as ours: by what is it known is no option of an operator's. */
export function asOurs(row: AuthRow): object {
  return { ...row, type: 'tpm-quote', options: optionsIn(row) ?? null }
}

/** The same of its tuning, which has options where there are some. */
function tuned({ options, ...row }: AuthRow): object {
  const left = optionsIn({ options: options ?? null })
  return left ? { ...row, options: left } : row
}

function optionsIn({ options }: AuthRow): object | undefined {
  const { [MARK.option]: _, ...left } = options ?? {}
  return Object.keys(left).length > 0 ? left : undefined
}

/** Vault mounts its own `jwt` method, marked as ours, with the operator's own token; then it is told whose signatures count. */
async function write(request: SysRequest): Promise<HttpReply> {
  const { broker, path, caller, sent } = request
  if (TUNE.test(path)) return tuneAuth(request, `auth/${path}`, `sys/auth/${path}`)
  // a version is not one of ours, and Vault has words for it
  if (!sent || typeOf(sent) !== 'tpm-quote' || path === '' || versionOf(sent) !== undefined) return request.pass()
  const denied = await announce(request, { operation: 'update', path: `sys/auth/${path}` })
  const options = { ...parseFields(optionsField, sent).values.options, [MARK.option]: MARK.value }
  const native = { ...sent, type: 'jwt', options, plugin_name: '' }
  await broker.vault.write(`sys/auth/${path}`, native, { as: caller.token }).catch((error: unknown) => {
    if (error instanceof VaultRefusal && error.status === 403) denied()
    throw error
  })
  const undo = () => broker.vault.delete(`sys/auth/${path}`, { as: caller.token })
  await undoing(async () => {
    await broker.mounts.refresh()
    const mount = broker.mounts.find(`auth/${path}`)
    if (!mount) throw new BrokerError('unavailable', 'vault mounted the auth method but does not list it')
    await broker.attest.open(mount, caller)
    done(request, 'update', `auth/${path}`, mount)
  }, undo)
  return { status: 204 }
}

const optionsField = { options: map('Options, kept as they are.') }

function versionOf({ config }: Readonly<Record<string, unknown>>): unknown {
  return (config as Readonly<Record<string, unknown>> | null | undefined)?.['plugin_version'] || undefined
}

/** Tuning is Vault's, at either of its paths: what it made of it is known here at once. */
export async function tuneAuth(request: SysRequest, path: string, asked: string): Promise<HttpReply> {
  const mount = ownAt(request, 'tpm-quote', path)
  if (mount) await refuseUnmarking(request, asked)
  const reply = await request.pass()
  if (reply.status < 300 && path.startsWith('auth/')) await request.broker.mounts.refresh()
  return mount && reply.status >= 400 ? inOurWords(reply) : reply
}

/** Without its mark it would be a `jwt` mount of Vault's at once, and everything of ours there out of reach. */
async function refuseUnmarking(request: SysRequest, asked: string): Promise<void> {
  const fault = faultIn(sentTo(request))
  if (!fault) return
  const rootProtected = asked.startsWith('sys/auth/') ? ({ sudo: true } as const) : {}
  await admit(request, { operation: 'update', path: asked, anyOf: ['update'], ...rootProtected })
  throw fault
}

/** Vault is asked only about what has none, so that a token with few uses pays once. */
function faultIn(sent: Readonly<Record<string, unknown>>): BrokerError | undefined {
  try {
    const { options } = parseFields(optionsField, sent).values
    if (!Object.hasOwn(options, MARK.option) || options[MARK.option] === MARK.value) return undefined
    return new BrokerError('bad_request', `the option ${MARK.option} is kept by the mount itself`)
  } catch (error) {
    if (error instanceof BrokerError) return error
    throw error
  }
}

/** Vault names the type of the mount behind ours. */
function inOurWords(reply: HttpReply): HttpReply {
  const { errors = [] } = (contentOf(reply) ?? {}) as { errors?: readonly string[] }
  return { status: reply.status, body: { errors: errors.map(one => one.replaceAll('"jwt"', '"tpm-quote"')) } }
}

/** Vault revokes what the mount issued, which may take it long; only when it has, what belongs to it here goes too. */
async function disable(request: SysRequest): Promise<HttpReply> {
  const { broker, path, pass } = request
  const mount = broker.mounts.ofType('tpm-quote').find(one => one.path === `auth/${path}/`)
  if (!mount) return passedAndLooked(request)
  const denied = await announce(request, { operation: 'delete', path: `sys/auth/${path}` })
  const reply = await pass()
  if (reply.status === 403) denied()
  if (reply.status >= 300 && !(await isGone(request, mount, reply))) return reply
  await broker.mounts.closing(mount, async () => {
    await broker.leases.lookAtTokens()
    await broker.attest.close(mount)
  })
  done(request, 'delete', `auth/${path}`, mount)
  return { status: 204 }
}

/** Vault may have done it, and its answer was lost. */
async function isGone({ broker }: SysRequest, { id }: Mount, { status }: HttpReply): Promise<boolean> {
  if (status !== 503) return false
  await broker.mounts.refresh()
  return broker.mounts.ofType('tpm-quote').every(mount => mount.id !== id)
}
