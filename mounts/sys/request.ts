import { type Broker, type Caller, lifeOf, type Mount } from '#engine'
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
  readonly body: Buffer
  /** Vault's own answer to this very request */
  readonly pass: () => Promise<HttpReply>
  /** The same, to be changed: where it was to be wrapped it comes plain, and what is made of it is wrapped then. */
  readonly look: () => Promise<HttpReply>
}
export type SysRow = {
  readonly methods: readonly string[]
  readonly prefix: string
  readonly handle: (request: SysRequest) => Promise<HttpReply>
}

/** A mount as `sys/mounts` has it: one of Vault's rows. */
export function rowOf(mount: Mount) {
  return {
    type: mount.type,
    description: mount.description,
    accessor: mount.accessor,
    local: false,
    seal_wrap: false,
    external_entropy_access: false,
    options: mount.options ?? null,
    uuid: mount.id,
    plugin_version: '',
    running_plugin_version: '',
    running_sha256: '',
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
