import { accept, reject } from '#attestation'
import { BrokerError } from '../errors.ts'
import type { Integration, Root } from '../integrations/port.ts'
import { type Issuer, issuers } from '../issuers/index.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import { within } from './life.ts'
import { permissionsOf, textsOf } from './permissions.ts'
import type { RoleRecord } from './settings.ts'

/** An integration and its root credential, after whoever asked was found to be allowed to use it. */
export type Source = {
  readonly integration: Integration
  readonly root: Root
  /** what was seen while the root credential was read */
  readonly notes?: { readonly stale: boolean; readonly warning: string | undefined }
}

/** What a role asks for, with everything that was looked up for it. */
export type Prepared = {
  readonly mount: Mount
  readonly record: RoleRecord
  readonly issuer: Issuer
  readonly source: Source | undefined
  readonly permissions: readonly string[]
  /** no renewal goes beyond */
  readonly maxTtlSeconds: number
}

/** Nothing secret is made and nobody outside is asked.
 *  @param leftSeconds how long what follows may live at all */
export function prepare(
  mount: Mount,
  record: RoleRecord,
  action: string,
  source: Source | undefined,
  leftSeconds = Number.POSITIVE_INFINITY,
): Verdict<Prepared> {
  const issuer = issuers[record.issuer]
  if (!issuer) throw new BrokerError('unavailable', `the role asks for the issuer ${record.issuer}, which is not there`)
  if (issuer.integration && source?.integration.type !== record.issuer)
    return reject('INTEGRATION', `the role names no integration of type ${record.issuer}`)
  if (issuer.delivery === 'sealed' && record.delivery !== 'sealed')
    return reject('DELIVERY', `what ${record.issuer} issues is only ever delivered sealed`)
  const permissions = permissionsOf(issuer, record, action, ceilingOf(source))
  const maxTtlSeconds = Math.min(within(mount, record).max_ttl, Math.floor(leftSeconds))
  return permissions.ok ? accept({ mount, record, issuer, source, permissions: permissions.value, maxTtlSeconds }) : permissions
}

export function isRevocable({ issuer, source }: Prepared): boolean {
  return issuer.revoke !== undefined && issuer.revocable?.(source?.integration.settings ?? {}) !== false
}

/** `ceiling` of the integration; one that is empty is none. */
function ceilingOf(source: Source | undefined): readonly string[] | undefined {
  const ceiling = textsOf(source?.integration.settings['ceiling'] ?? [])
  return ceiling.length > 0 ? ceiling : undefined
}

export function fieldsOf({ record, issuer, source }: Prepared) {
  const own = Object.keys(issuer.role).map(name => [name, (record as Readonly<Record<string, unknown>>)[name]])
  return {
    role: Object.fromEntries(own),
    settings: source?.integration.settings ?? {},
    integration: source?.integration.name ?? '',
  }
}
