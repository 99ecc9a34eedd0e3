import { type Broker, BrokerError, type Caller, lifeOf, type Mount, plain } from '#engine'
import type { HttpReply } from '../hosts/envelope.ts'

/** A request on one of Vault's own paths that also concerns our mounts. */
export type SysRequest = {
  readonly broker: Broker
  /** what follows the row's prefix, without slashes at the ends */
  readonly path: string
  /** what follows the `?` */
  readonly query: string
  readonly caller: Caller
  readonly txn: string
  /** its parameters, as Vault reads them; undefined where that is not certain */
  readonly sent: Readonly<Record<string, unknown>> | undefined
  /** Vault's own answer to this very request */
  readonly pass: () => Promise<HttpReply>
  /** The same, to be changed: where it was to be wrapped it comes plain, and what is made of it is wrapped then. */
  readonly look: () => Promise<HttpReply>
}
export type SysRow = {
  readonly methods: readonly string[]
  readonly prefix: string
  /** What is mounted is looked at first, as another replica may have changed it just now. Where that is `needed`, nothing is done while it cannot be seen:
   *  Vault says "done" of what it does not know. What only tells tells what was seen last, and Vault says what it is that keeps it from more. */
  readonly fresh?: 'tried' | 'wanted' | 'needed'
  /** With this status Vault says that it knows of none. Only then is looked, and asked again: clients ask this all the time, of Vault's own. */
  readonly unknown?: number
  readonly handle: (request: SysRequest) => Promise<HttpReply>
}

/** The parameters, where nobody else reads them, or where Vault could do what they say to what is ours. @throws BrokerError bad_request */
export function sentTo({ sent }: SysRequest): Readonly<Record<string, unknown>> {
  if (!sent)
    throw new BrokerError(
      'bad_request',
      'the body is neither a JSON object nor a form, or it is not certain to mean the same to Vault',
    )
  return sent
}

/** A parameter as Vault reads one that is a text. Undefined for lists and objects, which it refuses.
 *  @throws BrokerError bad_request for what is no text in Unicode, of which Vault would make another */
export function textIn(request: SysRequest, name: string): string | undefined {
  const text = asText(sentTo(request)[name])
  if (text?.isWellFormed() === false) throw new BrokerError('bad_request', `${name}: wanted well-formed Unicode`)
  return text
}

/** What Vault makes of a value that is to be a text: truth is 1, nothing is empty; undefined where it makes none. */
export function asText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return value ? '1' : '0'
  return value === undefined || value === null ? '' : undefined
}

/** Which kind of mount is to be: old clients name it as that of a plugin. */
export function typeOf({ type, plugin_name }: Readonly<Record<string, unknown>>): unknown {
  return type === 'plugin' ? plugin_name : type
}

/** What a path ends with that speaks of the tuning of a mount. */
export const TUNE = /\/tune$/

/** The mount of ours that a path is of, or lies in: at Vault a path below a mount speaks of the mount. */
export function ownAt({ broker }: SysRequest, type: Mount['type'], path: string): Mount | undefined {
  return broker.mounts.ofType(type).find(mount => `${path}/`.startsWith(mount.path))
}

/** What was made of a request is in the audit log, too: which mount it was. */
export function done({ broker, txn }: SysRequest, operation: 'update' | 'delete', path: string, mount: Mount): void {
  const fields = { mount_id: plain(mount.id) }
  broker.audit.appendLazy({ type: 'outcome', txn, operation, mount: 'sys/', path, fields })
}

/** A mount as `sys/mounts` has it: one of Vault's rows, with the version of this replica. */
export function rowOf(mount: Mount, { version }: Pick<Broker, 'version'>) {
  return {
    ...saidOf(mount),
    accessor: mount.accessor,
    local: false,
    seal_wrap: false,
    external_entropy_access: false,
    uuid: mount.id,
    plugin_version: '',
    running_plugin_version: `v${version}`,
    running_sha256: '',
    deprecation_status: 'supported',
  }
}

/** What of it was said by who enabled and tuned it. */
export function saidOf(mount: Mount) {
  return {
    type: mount.type,
    description: mount.description,
    options: mount.options ?? null,
    config: {
      default_lease_ttl: mount.defaultTtlSeconds,
      max_lease_ttl: mount.maxTtlSeconds,
      force_no_cache: false,
      ...(mount.listingVisibility ? { listing_visibility: mount.listingVisibility } : {}),
    },
  }
}

/** The lives that count for what a mount issues, in seconds, where nothing was tuned too. */
export function livesOf(mount: Mount) {
  const { ttl, maxTtl } = lifeOf(mount)
  return { default_lease_ttl: ttl, max_lease_ttl: maxTtl }
}
