import { type Fields, optional } from '../fields.ts'
import { awsSts } from './aws_sts.ts'
import { azure } from './azure.ts'
import { isTransitKey, TRANSIT_KEY } from './common.ts'
import { gcp } from './gcp.ts'
import { githubApp } from './github_app.ts'
import type { Issuer } from './issuer.ts'
import { jwt } from './jwt.ts'
import { oauth2 } from './oauth2.ts'
import { oauth2Consent } from './oauth2_consent.ts'
import { staticKey } from './static.ts'
import { vault } from './vault.ts'

/** Every issuer, by the name that a role gives. */
export const issuers: Readonly<Record<string, Issuer>> = {
  jwt,
  aws_sts: awsSts,
  azure,
  gcp,
  github_app: githubApp,
  oauth2,
  oauth2_consent: oauth2Consent,
  static: staticKey,
  vault,
}

/** The settings of integrations that name a key of the operators in transit: who writes one says what is signed, and where that is sent. */
const keySettings = new Set(
  Object.values(issuers).flatMap(({ integration }) =>
    Object.entries(integration?.settings ?? {}).flatMap(([name, { form }]) => (form === TRANSIT_KEY ? [name] : [])),
  ),
)

/** The keys in transit that these settings name; what is no name of one is left to the form of the setting. */
export function transitKeysIn(settings: Readonly<Record<string, unknown>>): readonly string[] {
  return Object.entries(settings).flatMap(([name, key]) => (keySettings.has(name) && isTransitKey(key) ? [key] : []))
}

/** The fields of a role that belong to its issuer, for all issuers: two that share a name share its meaning. None is required of every role. */
export const issuerRoleFields: Fields = optional(
  Object.fromEntries(Object.values(issuers).flatMap(({ role }) => Object.entries(role))),
)
export type { CommonFields, Credential, Grant, Issuer } from './issuer.ts'
