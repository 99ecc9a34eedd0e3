import { readFile } from 'node:fs/promises'
import { Client } from 'pg'
import type { Postgres } from '../harness/peers/postgres.ts'

type Write = (path: string, body: object) => Promise<unknown>
export type Login = { readonly user: string; readonly password: string }

type Options = {
  /** file of the authority of a server that is spoken to over TLS alone */
  readonly ca?: string
  /** who Vault is to the server */
  readonly as?: Login
  /** of the logins */
  readonly life?: { readonly default_ttl: string; readonly max_ttl: string }
  /** other roles, and the statements with which they begin */
  readonly others?: Readonly<Record<string, string>>
  readonly rootRotation?: readonly string[]
}

/** Vault's database engine before this server, whose role `reader` makes logins that may read `orders`. */
export async function databaseEngine(write: Write, postgres: Postgres, options: Options = {}): Promise<void> {
  const { ca, as = postgres, life = { default_ttl: '1h', max_ttl: '1h' }, others = {}, rootRotation } = options
  const tls = ca ? `verify-full&sslrootcert=${ca}` : 'disable'
  await write('sys/mounts/database', { type: 'database' })
  await write('database/config/orders', {
    plugin_name: 'postgresql-database-plugin',
    allowed_roles: '*',
    connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${postgres.port}/postgres?sslmode=${tls}`,
    username: as.user,
    password: as.password,
    password_authentication: 'scram-sha-256',
    ...(rootRotation ? { root_rotation_statements: rootRotation } : {}),
  })
  for (const [name, first] of Object.entries({ reader: '', ...others }))
    await write(`database/roles/${name}`, { ...roleOf(first), ...life })
  await sql(postgres, postgres, 'CREATE TABLE orders (id int); INSERT INTO orders VALUES (7)', ca)
}

function roleOf(first: string) {
  const quoted = '"{{name}}"'
  return {
    db_name: 'orders',
    creation_statements: [
      `${first} CREATE ROLE ${quoted} LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`,
      `GRANT SELECT ON orders TO ${quoted};`,
    ],
    revocation_statements: [
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';`,
      `REVOKE ALL ON orders FROM ${quoted};`,
      `DROP ROLE IF EXISTS ${quoted};`,
    ],
  }
}

export async function connected({ port }: Postgres, { user, password }: Login, ca?: string): Promise<Client> {
  const ssl = ca !== undefined && { ca: await readFile(ca, 'utf8') }
  const client = new Client({ host: '127.0.0.1', port, database: 'postgres', user, password, ssl })
  // whoever is ended between two calls hears of it from the next one
  client.on('error', () => undefined)
  await client.connect()
  return client
}

export async function sql(postgres: Postgres, as: Login, text: string, ca?: string): Promise<readonly unknown[]> {
  const client = await connected(postgres, as, ca)
  try {
    return ((await client.query(text)) as { rows?: readonly unknown[] }).rows ?? []
  } finally {
    await client.end()
  }
}

export const isRefused = (postgres: Postgres, login: Login): Promise<boolean> =>
  sql(postgres, login, 'SELECT 1').then(
    () => false,
    () => true,
  )
