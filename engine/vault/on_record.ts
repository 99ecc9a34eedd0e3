import { type AuditFields, hashed, plain } from '../audit/index.ts'
import type { TokenFacts } from './authority.ts'

/** Whose token it is, as the audit log has it. Of who was refused it holds no word that they, or who made their token, chose. */
export function holderFields({ accessor, entityId, displayName }: TokenFacts, asked: 'refused' | 'admitted'): AuditFields {
  return {
    ...(accessor === '' ? {} : { accessor: hashed(accessor) }), // a batch token has none
    ...(entityId === '' ? {} : { entity_id: plain(entityId) }),
    ...(asked === 'refused' || displayName === '' ? {} : { display_name: plain(displayName) }),
  }
}
