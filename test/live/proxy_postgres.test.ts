import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { chainOf } from '../../agent/chain.ts'
import { assay } from '../harness/assay.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { type Ran, run, until } from '../harness/process.ts'
import { startSwtpm } from '../harness/swtpm.ts'
import { type Client, openProxyWorld, type ProxyWorld } from '../proxy/world.ts'
import { missing, openTpmOpenssl } from './tpm_openssl.ts'

// psql, as it is, through the proxy to a real PostgreSQL server. The agent has a certificate and a sealed token, and never the password.

let database: Postgres
let world: ProxyWorld
let folder: string
beforeAll(async () => {
  database = await startPostgres()
  folder = await mkdtemp(join(tmpdir(), 'assay-psql-'))
  world = await openProxyWorld({
    more: [
      {
        kind: 'postgres',
        name: 'orders',
        listen: { port: 0 },
        server: `127.0.0.1:${database.port}`,
        databases: ['postgres', 'elsewhere'],
        addresses: ['127.0.0.1'],
        tls: 'disable',
        watch_ms: 50,
        // a machine with much else to do takes its time
        start_within_ms: 60_000,
      },
    ],
  })
  for (const [name, { cert, key }] of [
    ['agent', world.agent],
    ['other', world.other],
  ] as const) {
    await writeFile(join(folder, `${name}.pem`), cert)
    await writeFile(join(folder, `${name}.key`), key, { mode: 0o600 })
  }
  await writeFile(join(folder, 'ca.pem'), world.ca.ca)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await database?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const port = () => world.proxy.ports()['orders'] ?? 0
const place = (name = 'postgres') => `postgres://127.0.0.1:${database.port}/${name}`
const sealed = (wanted: { destinations?: readonly string[]; fields?: Record<string, string>; as?: Client } = {}) =>
  world.seal({
    destinations: wanted.destinations ?? [place()],
    fields: wanted.fields ?? { username: database.user, password: database.password },
    x5tS256: (wanted.as ?? world.agent).x5tS256,
  })

type Psql = {
  readonly token: string
  readonly sql?: string
  readonly as?: 'agent' | 'other' | 'nobody'
  readonly by?: keyof typeof ways
  readonly database?: string
  /** of its environment */
  readonly more?: Readonly<Record<string, string>>
}

/** What psql is given beside its key: the sealed token in one place or another. */
const ways = {
  password: async (token: string) => ({ PGPASSWORD: token }),
  options: async (token: string) => ({ PGOPTIONS: `-c statement_timeout=7s -c assay.token=${token}` }),
  'certificates that the agent wrote': async (token: string, own: string) => {
    const about = { token, expiresInSeconds: 600 }
    return shown(await chainOf([new X509Certificate(own).raw], about, { now: Date.now, random: randomBytes }))
  },
} as const

let files = 0
async function shown(chain: string): Promise<{ readonly PGSSLCERT: string }> {
  files += 1
  const file = join(folder, `chain-${files}.pem`)
  await writeFile(file, chain)
  return { PGSSLCERT: file }
}

async function psql(asked: Psql): Promise<Ran> {
  const { token, sql = 'select 1 + 1', as = 'agent', by = 'password', database: name = 'postgres', more = {} } = asked
  const env = {
    PATH: process.env['PATH'],
    PGHOST: 'proxy.test',
    PGHOSTADDR: '127.0.0.1',
    PGPORT: String(port()),
    PGUSER: 'agent',
    PGDATABASE: name,
    PGSSLMODE: 'verify-full',
    PGSSLROOTCERT: join(folder, 'ca.pem'),
    ...(as === 'nobody' ? {} : { PGSSLCERT: join(folder, `${as}.pem`), PGSSLKEY: join(folder, `${as}.key`) }),
    ...more,
    ...(await ways[by](token, as === 'other' ? world.other.cert : world.agent.cert)),
  }
  return run('psql', ['--no-psqlrc', '--no-password', '-At', '-c', sql], { env })
}

describe('psql as it is', () => {
  test.each(Object.keys(ways) as (keyof typeof ways)[])('works with the sealed token in its %s', async by => {
    const { code, stdout, stderr } = await psql({ token: await sealed(), by, sql: 'select current_user, 1 + 1' })
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${database.user}|2\n`, stderr: '' })
  })

  test('keeps its other options', async () => {
    const { stdout } = await psql({ token: await sealed(), by: 'options', sql: 'show statement_timeout' })
    expect(stdout).toBe('7s\n')
  })

  test('keeps what its environment says of time zones, dates and encodings', async () => {
    const more = { PGTZ: 'Asia/Tokyo', PGDATESTYLE: 'German, DMY', PGCLIENTENCODING: 'LATIN1' }
    const sql = "select current_setting('timezone'), date '2026-11-22', current_setting('client_encoding'), chr(233)"
    const { stdout, stderr } = await psql({ token: await sealed(), more, sql })
    expect({ stdout, stderr }).toEqual({ stdout: 'Asia/Tokyo|22.11.2026|LATIN1|\ufffd\n', stderr: '' })
  })

  test('takes long answers', async () => {
    const { stdout } = await psql({ token: await sealed(), sql: "select repeat('x', 1000) from generate_series(1, 5000)" })
    expect(stdout.length).toBe(5000 * 1001)
  })

  test('reads errors of the server', async () => {
    const { code, stderr } = await psql({ token: await sealed(), sql: 'select * from nowhere' })
    expect(code).toBe(1)
    expect(stderr).toContain('relation "nowhere" does not exist')
  })

  test('is on record with the destination, without the token and the password', async () => {
    const token = await sealed()
    await psql({ token })
    const records = await world.records()
    const swap = records.findLast(record => record['operation'] === 'swap' && record['type'] === 'request')
    expect(swap).toMatchObject({ service: 'orders', destination: `postgres://127.0.0.1:${database.port}`, method: 'CONNECT' })
    expect(JSON.stringify(records)).not.toMatch(new RegExp(`${database.password}|${token}`))
  })
})

const without = await missing()
test.skipIf(without !== undefined)(
  `psql with a key of the TPM has nothing else to log in with${without ? ` (skipped: ${without})` : ''}`,
  async () => {
    const swtpm = await startSwtpm()
    onTestFinished(() => swtpm.stop())
    const at = (name: string) => join(folder, name)
    const made = await assay(['agent', 'key', at('tpm.key'), '--certificate', at('tpm.pem'), '--tpm', swtpm.spec])
    expect(made.code).toBe(0)
    const { raw } = new X509Certificate(await readFile(at('tpm.pem')))
    const x5tS256 = createHash('sha256').update(raw).digest('base64url')
    const token = await sealed({ as: { ...world.agent, x5tS256 } })
    const { PGSSLCERT } = await shown(
      await chainOf([raw], { token, expiresInSeconds: 600 }, { now: Date.now, random: randomBytes }),
    )
    await using openssl = await openTpmOpenssl(swtpm, folder)
    const where = `host=proxy.test hostaddr=127.0.0.1 port=${port()} dbname=postgres user=agent sslmode=verify-full`
    const files = `sslrootcert=${at('ca.pem')} sslcert=${PGSSLCERT} sslkey=${at('tpm.key')}`
    const sql = ['-At', '-c', 'select current_user']
    const { code, stdout, stderr } = await openssl.run('psql', ['--no-psqlrc', '--no-password', ...sql, `${where} ${files}`])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${database.user}\n`, stderr: '' })
  },
)

describe('is refused with a code and no oracle:', () => {
  const refused = async (asked: Psql) => {
    const { code, stderr } = await psql(asked)
    expect(code).toBe(2)
    return /FATAL: {2}([A-Z_]+):/.exec(stderr)?.[1] ?? stderr
  }

  test('a stolen token from another machine', async () =>
    expect(await refused({ token: await sealed(), as: 'other' })).toBe('TOKEN'))
  test('a stolen token in certificates of another machine', async () =>
    expect(await refused({ token: await sealed(), as: 'other', by: 'certificates that the agent wrote' })).toBe('TOKEN'))
  test('no client certificate', async () => expect(await refused({ token: await sealed(), as: 'nobody' })).toBe('NO_CERTIFICATE'))
  test('a password that is no token', async () => expect(await refused({ token: 'guessed' })).toBe('TOKEN'))
  test('a token for another server', async () => {
    expect(await refused({ token: await sealed({ destinations: ['postgres://127.0.0.1:1/postgres'] }) })).toBe(
      'TOKEN_DESTINATION',
    )
  })
  test('a token for another database', async () => {
    expect(await refused({ token: await sealed(), database: 'elsewhere' })).toBe('TOKEN_DESTINATION')
  })
  test('a database that is not served', async () => {
    expect(await refused({ token: await sealed({ destinations: [place('hidden')] }), database: 'hidden' })).toBe('ROUTE')
  })
  test('a credential of another shape', async () => {
    expect(await refused({ token: await sealed({ fields: { token: 'x' } }) })).toBe('CREDENTIAL_SHAPE')
  })
  test('a credential that the server refuses', async () => {
    expect(await refused({ token: await sealed({ fields: { username: 'root', password: 'wrong' } }) })).toBe('UPSTREAM')
  })
})

describe('a session', () => {
  test('ends with its token', async () => {
    const token = await sealed()
    const running = psql({ token, sql: 'select pg_sleep(6000)' })
    await until('the query runs', async () => {
      const { stdout } = await psql({
        token: await sealed(),
        sql: "select count(*) from pg_stat_activity where query = 'select pg_sleep(6000)'",
      })
      return stdout === '1\n'
    })
    world.pass(3600_000)
    const { code, stderr } = await running
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/closed the connection|terminating|EOF/)
  })
})

describe('the protocol before TLS', () => {
  const raw = (bytes: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      const socket: Socket = connect(port(), '127.0.0.1', () => socket.write(bytes))
      socket.on('data', chunk => chunks.push(chunk))
      socket.once('close', () => resolve(Buffer.concat(chunks))).once('error', reject)
    })
  const message = (...words: number[]): Buffer => {
    const bytes = Buffer.alloc(4 * words.length)
    for (const [at, word] of words.entries()) bytes.writeInt32BE(word, 4 * at)
    return bytes
  }

  test('a startup message in clear is refused', async () => {
    const body = Buffer.from('user\0agent\0\0')
    expect((await raw(Buffer.concat([message(8 + body.length, 196_608), body]))).toString()).toContain('NO_CERTIFICATE')
  })
  test('bytes slipped in behind the request for TLS are refused', async () => {
    expect((await raw(Buffer.concat([message(8, 80_877_103), Buffer.from('slipped in')]))).toString()).toContain('NO_CERTIFICATE')
  })
  test.each([
    ['an impossible length', message(4, 0)],
    ['a length beyond any bound', message(0x7fffffff, 196_608)],
    ['another protocol', message(8, 131_072)],
  ])('%s is refused', async (_, bytes) => expect((await raw(bytes)).toString()).toContain('NO_CERTIFICATE'))
  test('GSS encryption is declined once, and then it has to be TLS', async () => {
    const gss = message(8, 80_877_104)
    expect((await raw(Buffer.concat([gss, gss, gss]))).toString()).toMatch(/^NE.*NO_CERTIFICATE/s)
  })
  test('a request to cancel a session that is not ours goes nowhere', async () => {
    expect(await raw(message(16, 80_877_102, 1, 2))).toEqual(Buffer.alloc(0))
  })
})
