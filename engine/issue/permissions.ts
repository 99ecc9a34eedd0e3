import { accept, reject } from '#attestation'
import { plainWithin } from '../issuers/common.ts'
import type { Issuer } from '../issuers/issuer.ts'
import type { Verdict } from '../refusals.ts'

/** What an action may do at the provider: what the role's catalogue lists for this action and for no other, as far as it lies within the ceiling of
 *  the integration. Nothing left is a refusal. Pure.
 *  @param ceiling what the integration allows at most; undefined when it does not say, and then the catalogue counts alone */
export function permissionsOf(
  issuer: Pick<Issuer, 'permissions'>,
  role: { readonly permissions: Readonly<Record<string, unknown>> },
  action: string,
  ceiling: readonly string[] | undefined,
): Verdict<readonly string[]> {
  if (!issuer.permissions || issuer.permissions.wanted?.(role) === false) return accept([])
  const listed = Object.hasOwn(role.permissions, action) ? textsOf(role.permissions[action]) : []
  if (listed.length === 0) return reject('PERMISSIONS', `the role lists none for the action ${action}`)
  const { within = plainWithin } = issuer.permissions
  const left = ceiling ? listed.filter(one => ceiling.some(limit => within(one, limit))) : listed
  return left.length > 0 ? accept(left.toSorted()) : reject('PERMISSIONS', `the integration allows ${ceiling?.join(', ')}`)
}

/** A list of texts, or one of them; what is neither is none. */
export function textsOf(listed: unknown): readonly string[] {
  const all = Array.isArray(listed) ? listed : [listed]
  return all.every(one => typeof one === 'string' && one !== '') ? (all as string[]) : []
}
