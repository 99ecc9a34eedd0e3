import type { IntegrationShape } from '../integrations/port.ts'
import { issuers } from '../issuers/index.ts'
import { awsAccessKey } from './aws_access_key.ts'
import { azureRefreshToken } from './azure_refresh_token.ts'
import { databaseRoot } from './database_root.ts'
import { gcpServiceAccountKey } from './gcp_service_account_key.ts'
import { githubAppKey } from './github_app_key.ts'
import { oauthRefreshToken } from './oauth_refresh_token.ts'
import type { Rotator } from './rotator.ts'

/** Every way to replace a root credential, by name. */
export const rotators: Readonly<Record<string, Rotator>> = {
  aws_access_key: awsAccessKey,
  oauth_refresh_token: oauthRefreshToken,
  azure_refresh_token: azureRefreshToken,
  gcp_service_account_key: gcpServiceAccountKey,
  github_app_key: githubAppKey,
  database_root: databaseRoot,
}

/** The one that serves an integration of this type with these settings. */
export function rotatorFor(
  type: string,
  settings: Readonly<Record<string, unknown>>,
): { readonly name: string; readonly rotator: Rotator } | undefined {
  const found = Object.entries(rotators).find(([, one]) => one.type === type && one.serves(settings))
  return found && { name: found[0], rotator: found[1] }
}

const own = Object.values(rotators).flatMap(({ type, integration }) => (integration ? [[type, integration] as const] : []))
const ofIssuers = Object.entries(issuers).flatMap(([type, { integration }]) =>
  integration ? [[type, integration] as const] : [],
)

/** What integrations of each type look like. */
export const shapes: ReadonlyMap<string, IntegrationShape> = new Map<string, IntegrationShape>([...ofIssuers, ...own])
