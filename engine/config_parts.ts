import { z } from 'zod'
import { PLACES } from './vault/provision.ts'

const name = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'wanted lower-case letters, digits, dashes and underscores')
const file = z.string().min(1)

/** What the files of a server and of a proxy say in the same words. */
export const configParts = {
  name,
  file,
  url: z.url({ protocol: /^https?$/ }).transform(value => value.replace(/\/+$/, '')),
  approle: z.strictObject({ mount: name.default(PLACES.approle), role_id: z.string().min(1), secret_id_file: file }),
  /** how long Vault may take to answer what is asked of it here */
  vaultDeadlineMs: z.int().min(50).max(60_000).default(2_000),
  transit: name.default(PLACES.transit),
  kv: name.default(PLACES.kv),
  /** how long the disk may take for a group of records: after that nothing goes on until it has */
  auditDeadlineMs: z.int().min(50).max(60_000).default(1_000),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  /** how long a service that was told to stop goes on as before, and only says so at `/readyz` */
  drainSeconds: z.int().min(0).max(600).default(0),
  shutdownSeconds: z.int().min(0).max(600).default(10),
}

type Place = readonly PropertyKey[]

/** What is wrong with a configuration, a sentence for each member; a member that is not known may be a misspelt one. */
export function sentencesOf({ issues }: z.ZodError): readonly { readonly path: Place; readonly message: string }[] {
  const about = (path: Place, message: string) => ({ path, message: `${path.join('.') || 'the configuration'}: ${message}` })
  return issues.flatMap(issue =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map(key => about([...issue.path, key], 'there is no such setting'))
      : [about(issue.path, issue.message)],
  )
}
