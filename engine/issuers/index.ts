import type { Fields } from '../fields.ts'
import type { Issuer } from './issuer.ts'
import { jwt } from './jwt.ts'

/** Every issuer, by the name that a role gives. */
export const issuers: Readonly<Record<string, Issuer>> = { jwt }

/** The fields of a role that belong to its issuer, for all issuers: two that share a name share its meaning. */
export const issuerRoleFields: Fields = Object.assign({}, ...Object.values(issuers).map(({ role }) => role))
export type { Credential, Grant, Issuer } from './issuer.ts'
