import { Client } from 'pg'
import type { Postgres } from '../harness/peers/postgres.ts'

type Write = (path: string, body: object) => Promise<unknown>
export type Login = { readonly user: string; readonly password: string }

/** Vault's database engine before this server, whose role `reader` makes logins that may read `orders`; other roles make them with these statements first. */
export async function databaseEngine(write: Write, postgres: Postgres, others: Readonly<Record<string, string>> = {}) {
  const { port, user, password } = postgres
  await write('sys/mounts/database', { type: 'database' })
  await write('database/config/orders', {
    plugin_name: 'postgresql-database-plugin',
    allowed_roles: '*',
    connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${port}/postgres?sslmode=disable`,
    username: user,
    password,
    password_authentication: 'scram-sha-256',
  })
  for (const [name, first] of Object.entries({ reader: '', ...others })) await write(`database/roles/${name}`, roleOf(first))
  await sql(postgres, postgres, 'CREATE TABLE orders (id int); INSERT INTO orders VALUES (7)')
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
    default_ttl: '1h',
    max_ttl: '1h',
  }
}

export async function connected({ port }: Postgres, { user, password }: Login): Promise<Client> {
  const client = new Client({ host: '127.0.0.1', port, database: 'postgres', user, password })
  // whoever is ended between two calls hears of it from the next one
  client.on('error', () => undefined)
  await client.connect()
  return client
}

export async function sql(postgres: Postgres, as: Login, text: string): Promise<readonly unknown[]> {
  const client = await connected(postgres, as)
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
