import type { Issuer } from './issuer.ts'
import { jwt } from './jwt.ts'

/** Every issuer, by the name that a role gives. */
export const issuers: Readonly<Record<string, Issuer>> = { jwt }
export type { Credential, Grant, Issuer } from './issuer.ts'
