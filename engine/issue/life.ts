import type { Mount } from '../mount_table.ts'
import { CEILING_SECONDS, DEFAULT_SECONDS, type RoleRecord } from './settings.ts'

/** How long a mount lets live what it issues: what is tuned, where nothing is the defaults, and an hour at most. */
export function lifeOf({ defaultTtlSeconds, maxTtlSeconds }: Mount): { readonly ttl: number; readonly maxTtl: number } {
  const maxTtl = Math.min(maxTtlSeconds || CEILING_SECONDS, CEILING_SECONDS)
  return { maxTtl, ttl: Math.min(defaultTtlSeconds || DEFAULT_SECONDS, maxTtl) }
}

/** The role as it counts on this mount. */
export function within(mount: Mount, role: RoleRecord): RoleRecord {
  const { ttl, maxTtl } = lifeOf(mount)
  return { ...role, ttl: Math.min(role.ttl || ttl, maxTtl), max_ttl: Math.min(role.max_ttl, maxTtl) }
}
