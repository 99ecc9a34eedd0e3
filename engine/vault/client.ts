import { BrokerError } from '../errors.ts'
import { type CallOptions, type Incoming, openTransport, type TransportOptions, Unusable } from './transport.ts'

/** What Vault answered when it did not answer with data. `errors` are Vault's own sentences; they hold no token and no body. */
export class VaultRefusal extends Error {
  readonly status: number
  readonly errors: readonly string[]
  constructor(status: number, errors: readonly string[]) {
    super(`vault answered ${status}`)
    this.name = 'VaultRefusal'
    this.status = status
    this.errors = errors
  }
}

/** The envelope of a reply: `data`, `auth` and `wrap_info` as Vault sent them, undefined after a 204. */
export type VaultReply = {
  readonly data?: Readonly<Record<string, unknown>> | null
  readonly auth?: Readonly<Record<string, unknown>> | null
  readonly wrap_info?: Readonly<Record<string, unknown>> | null
  readonly warnings?: readonly string[] | null
}

/** A Vault server: the paths are canonical (decoded, without `/v1/`); every call ends within the deadline.
 *  @throws VaultRefusal when Vault answers with a status other than 200 or 204
 *  @throws BrokerError unavailable when Vault is sealed, down, slow, rate-limited or does not speak Vault's protocol */
export type Vault = {
  readonly read: (path: string, options?: CallOptions) => Promise<VaultReply | undefined>
  readonly list: (path: string, options?: CallOptions) => Promise<readonly string[]>
  readonly write: (
    path: string,
    body: Readonly<Record<string, unknown>>,
    options?: CallOptions,
  ) => Promise<VaultReply | undefined>
  readonly delete: (path: string, options?: CallOptions) => Promise<void>
  readonly close: () => Promise<void>
}

/** What the running service speaks through: plain calls, as each request waits for several of them. */
export function openVault(options: TransportOptions): Vault {
  const transport = openTransport(options)
  const call = async (method: string, path: string, how: CallOptions = {}, json?: object) =>
    answered(await transport.send({ method, path, json, ...how }).catch(unanswered))
  return {
    read: (path, how) => call('GET', encodePath(path), how),
    list: async (path, how) => keysOf(await absent(call('GET', `${encodePath(path)}?list=true`, how))),
    write: (path, body, how) => call('POST', encodePath(path), how, body),
    delete: async (path, how) => void (await call('DELETE', encodePath(path), how)),
    close: transport.close,
  }
}

/** Vault's own refusals stay apart from a Vault that cannot be used: the first are answers, the second is 503. */
export function answered({ status, body }: Incoming): VaultReply | undefined {
  if (status === 200 || status === 204) return body as VaultReply | undefined
  if (status === 503) throw new VaultFault(status, 'is sealed or not active')
  if (status === 307) throw new VaultFault(status, 'is a standby that does not reach its leader, or does not ask it')
  if (status === 412) throw new VaultFault(status, 'has not seen the latest state yet')
  if (status === 429) throw new VaultFault(status, 'limits the rate of requests')
  if (status >= 500 || status < 400) throw new VaultFault(status)
  const { errors, data } = (body ?? {}) as { errors?: unknown; data?: unknown }
  if (Array.isArray(errors))
    throw new VaultRefusal(
      status,
      errors.filter(one => typeof one === 'string'),
    )
  if (status === 404 && data !== undefined) throw new VaultRefusal(status, [REMAINS])
  throw new VaultFault(status)
}

/** Vault answered, and could not do it. */
export class VaultFault extends BrokerError {
  readonly status: number
  constructor(status: number, what = `answered with status ${status}`) {
    super('unavailable', `the vault server ${what}`)
    this.status = status
  }
}

/** Errors of the HTTP client may hold what was sent or received: of them only the code goes on. */
export function unanswered(error: unknown): never {
  if (error instanceof Unusable) throw new BrokerError('unavailable', `the vault server cannot be understood: ${error.message}`)
  const code = String((error as NodeJS.ErrnoException).code ?? 'unknown')
  const [, why = 'did not answer in time'] = REASONS.find(([pattern]) => pattern.test(code)) ?? []
  throw new BrokerError('unavailable', `the vault server ${why}`, { cause: new Error(code) })
}

const REASONS: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)$/,
    'cannot be reached: nobody listens there, or its name leads nowhere',
  ],
  [/^E[MN]FILE$/, 'cannot be reached: no more files can be opened here (LimitNOFILE, ulimit -n)'],
  [/^(?:ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, 'closed the connection before it answered'],
  [/CERT|SELF_SIGNED|UNABLE_TO/, 'has a certificate that is not trusted, or is for another name: see ca_file and the address'],
  [/ERR_SSL|EPROTO/, 'does not speak TLS as wanted: see whether its address is http or https'],
]

/** Whether nothing is there. Where no engine is mounted any more Vault says so, with the same status: that is not known to be nothing. */
export function isAbsent(error: unknown): boolean {
  return error instanceof VaultRefusal && error.status === 404 && error.errors.length === 0
}

const REMAINS = 'the version that was there last was deleted'

/** Whether it is a record of KV v2 whose last version was deleted, by somebody or by the mount's `delete_version_after`: Vault shows what is left of it. */
export function isRemains(error: unknown): boolean {
  return error instanceof VaultRefusal && error.errors.includes(REMAINS)
}

/** A 404 is "nothing there" for reads and lists. */
export async function absent<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Of nothing there are none. @throws BrokerError unavailable for a list without keys: what is not seen would be taken for gone */
export function keysOf(reply: VaultReply | undefined): readonly string[] {
  if (reply === undefined) return []
  const keys: unknown = reply.data?.['keys']
  if (Array.isArray(keys) && keys.every(key => typeof key === 'string')) return keys
  throw new BrokerError('unavailable', 'the vault server cannot be understood: a list has no keys')
}

/** A canonical path, percent-encoded segment by segment, so that Vault sees the resource that was matched. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
