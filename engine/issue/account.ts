import { type AuditFields, hashed, plain } from '../audit/index.ts'
import type { Credential, Grant } from '../issuers/index.ts'
import type { Mount } from '../mount_table.ts'
import { taskFields } from '../tasks/account.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { Prepared } from './prepared.ts'

/** What the audit log has of a credential: where it was asked for, what was decided, what came of it. */
export function issuedFields({ kid, expiresAt, granted, lease }: Credential): AuditFields {
  return {
    ...(lease === undefined ? {} : { lease_id: plain(lease.id) }),
    ...(kid === undefined ? {} : { kid: plain(kid) }),
    expires_at: expiresAt,
    ...(Object.keys(granted).length > 0 ? { granted: plain(JSON.stringify(granted)) } : {}),
  }
}

export function entry(type: 'intent' | 'outcome', mount: Mount, role: string, txn: string) {
  return { type, txn, operation: 'update', mount: mount.path, path: `creds/${role}` } as const
}

export function grantFields(
  grant: Grant,
  facts: TokenFacts,
  { reasons, prepared }: { readonly reasons: readonly string[]; readonly prepared: Prepared },
): AuditFields {
  return {
    jti: plain(grant.jti),
    tpm_id: plain(grant.tpmId),
    accessor: hashed(facts.accessor),
    entity_id: plain(facts.entityId),
    plugin: plain(grant.plugin),
    action: plain(grant.action),
    scope: plain(grant.scope),
    audience: plain(grant.audience),
    key_thumbprint: plain(grant.keyThumbprint),
    ttl_seconds: grant.ttlSeconds,
    policies: plain(reasons),
    issuer: plain(prepared.record.issuer),
    ...(prepared.record.integration ? { integration: plain(prepared.record.integration) } : {}),
    ...(grant.permissions.length > 0 ? { permissions: plain(grant.permissions) } : {}),
    ...taskFields(grant.task),
  }
}
