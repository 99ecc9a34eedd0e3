import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dial } from '../mounts/hosts/wire.ts'
import { openSides, type Side, type Sides } from './sides.ts'
import { openTlsSides, type TlsSides } from './sides_tls.ts'

// docs/differences.md says what a client of the front door finds otherwise than at Vault, and why. Its table is this one, and each row
// of it is provoked on both sides: the page cannot say what is not so. UPDATE_DOCS=1 writes the table into the page.

const page = join(import.meta.dirname, '../../docs/differences.md')

let sides: Sides
beforeAll(async () => {
  sides = await openSides()
  await sides.both(async ({ vault, address }) => {
    await vault.api('POST', 'sys/mounts/kv', { type: 'kv' })
    await vault.api('POST', 'kv/a', { b: 'c' })
    const headers = { 'X-Vault-Token': vault.rootToken }
    await fetch(`${address}/v1/sys/mounts/broker`, { method: 'POST', headers, body: '{"type":"broker"}' })
  })
})
afterAll(() => sides[Symbol.asyncDispose]())

/** The status of the reply to a request by the wire, 0 for none; with the name of a header, its value too. */
const answer =
  (line: string, headers: readonly string[] | ((token: string) => readonly string[]) = [], shown?: string) =>
  async (side: Side) => {
    const connection = await dial(side.address)
    const token = `X-Vault-Token: ${side.vault.rootToken}`
    const all = typeof headers === 'function' ? headers(token) : [token, ...headers]
    connection.write(
      [`${line} HTTP/1.1`, `Host: ${new URL(side.address).host}`, 'Connection: close', ...all, '', ''].join('\r\n'),
    )
    const text = await connection.closed
    const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? '0'
    const value = shown && new RegExp(`\\r\\n${shown}: ([^\\r]*)`, 'i').exec(text)?.[1]
    return value ? `${status} ${value}` : status
  }

function own(
  side: Side,
  path: string,
  init: { method?: string; body?: string; headers?: Record<string, string> },
): Promise<Response> {
  return fetch(`${side.address}/v1/${path}`, { ...init, headers: { 'X-Vault-Token': side.vault.rootToken, ...init.headers } })
}

/** A type of secrets engine that Vault ships, and ours. */
const typeOn = ({ name }: Side) => (name === 'through' ? 'broker' : 'kv')

type Row<S = Sides> = {
  readonly what: string
  readonly vault: string
  readonly here: string
  readonly why: string
  readonly ask: (side: Side, sides: S) => Promise<unknown>
  readonly seen: { readonly straight: unknown; readonly through: unknown }
}

const rows: readonly Row[] = [
  {
    what: 'an encoded slash in a path, `/v1/kv%2Fa`',
    vault: 'is a slash',
    here: '400',
    why: 'a path that can be read in two ways has no reading: what is authorised is what is served',
    ask: answer('GET /v1/kv%2Fa'),
    seen: { straight: '200', through: '400' },
  },
  {
    what: 'an empty segment, `/v1/kv//a`',
    vault: 'leads to the path without it',
    here: '400',
    why: 'as above; no client sends it',
    ask: answer('GET /v1/kv//a', [], 'location'),
    seen: { straight: '307 /v1/kv/a', through: '400' },
  },
  {
    what: 'a target with a scheme and a host, `GET http://vault/v1/kv/a`',
    vault: 'is taken for its path',
    here: '400',
    why: 'two hosts in one request; only forward proxies are asked so',
    ask: answer('GET http://127.0.0.1/v1/kv/a'),
    seen: { straight: '200', through: '400' },
  },
  {
    what: '`X-Vault-Token` twice',
    vault: 'takes the first',
    here: '400',
    why: 'two readers could take two',
    ask: answer('GET /v1/kv/a', token => [token, 'X-Vault-Token: hvs.none']),
    seen: { straight: '200', through: '400' },
  },
  {
    what: 'a head of more than 32 KiB',
    vault: 'up to 1 MiB',
    here: '431',
    why: 'memory for who has shown no token yet',
    ask: answer('GET /v1/kv/a', [`X-Padding: ${'x'.repeat(40_000)}`]),
    seen: { straight: '200', through: '431' },
  },
  {
    what: 'more than 128 headers',
    vault: 'any number',
    here: '431',
    why: 'as above',
    ask: answer(
      'GET /v1/kv/a',
      Array.from({ length: 140 }, (_, at) => `X-${at}: 1`),
    ),
    seen: { straight: '200', through: '431' },
  },
  {
    what: 'what is neither API nor UI, `/nothing`',
    vault: 'leads to `/ui/`',
    here: '404',
    why: 'only what is known goes on',
    ask: answer('GET /nothing', [], 'location'),
    seen: { straight: '307 /ui/', through: '404' },
  },
  {
    what: '`/healthz`, `/readyz`, `/metrics`',
    vault: 'lead to `/ui/`',
    here: 'are the front door’s own',
    why: 'who operates it has to see it; Vault’s are at `sys/health` and `sys/metrics`, here too',
    ask: answer('GET /healthz', []),
    seen: { straight: '307', through: '200' },
  },
  {
    what: '`Upgrade: websocket` (`sys/events/subscribe`)',
    vault: 'answers',
    here: '400',
    why: 'connections are not handed over; events are of Enterprise',
    ask: async side => (await answer('GET /v1/kv/a', ['Upgrade: websocket', 'Connection: Upgrade'])(side)) === '400',
    seen: { straight: false, through: true },
  },
  {
    what: 'replies on our mounts and to the tables of mounts',
    vault: '–',
    here: 'have `X-Correlation-Id`',
    why: 'the audit log has it too: a refusal is found by it',
    ask: async side => (await own(side, 'sys/mounts', {})).headers.has('x-correlation-id'),
    seen: { straight: false, through: true },
  },
  {
    what: 'a wrapped reply of our mounts, and of the tables of mounts',
    vault: '`creation_path` is the path that was asked',
    here: '`creation_path` is `sys/wrapping/wrap`',
    why: 'Vault wraps it when ours are in it, in the name of the front door',
    ask: async side => {
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', {
        headers: { 'X-Vault-Wrap-TTL': '60s' },
      })
      return ((await reply.json()) as { wrap_info: { creation_path: string } }).wrap_info.creation_path
    },
    seen: { straight: 'kv/a', through: 'sys/wrapping/wrap' },
  },
  {
    what: '`X-Vault-Wrap-Format: jwt` on our mounts, and on the tables of mounts',
    vault: 'the wrapping token is a JWT',
    here: 'the wrapping token is an ordinary one',
    why: 'either is unwrapped in the same way',
    ask: async side => {
      const headers = { 'X-Vault-Wrap-TTL': '60s', 'X-Vault-Wrap-Format': 'jwt' }
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers })
      return ((await reply.json()) as { wrap_info: { token: string } }).wrap_info.token.startsWith('eyJ')
    },
    seen: { straight: true, through: false },
  },
  {
    what: '`sys/internal/specs/openapi` that is to be wrapped',
    vault: 'has the paths of all mounts',
    here: 'has those of Vault’s mounts',
    why: 'it is no reply with data, which could be wrapped with more in it; who makes clients of it reads it plain',
    ask: async side => {
      const wrapped = await own(side, 'sys/internal/specs/openapi', { headers: { 'X-Vault-Wrap-TTL': '60s' } })
      const { token } = ((await wrapped.json()) as { wrap_info: { token: string } }).wrap_info
      const reply = await own(side, 'sys/wrapping/unwrap', { method: 'POST', headers: { 'X-Vault-Token': token } })
      const paths = Object.keys(((await reply.json()) as { paths: object }).paths)
      return [side.name === 'through' ? '/broker/' : '/kv/', '/sys/'].map(mount => paths.some(path => path.startsWith(mount)))
    },
    seen: { straight: [true, true], through: [false, true] },
  },
  {
    what: '`sys/internal/ui/mounts` with a token of few uses',
    vault: 'costs none',
    here: 'costs one, for the list and for a mount of ours',
    why: 'what the token may see of our mounts is asked of Vault in its name',
    ask: async side => {
      const { body } = await side.vault.api('POST', 'auth/token/create', { policies: ['default'], num_uses: 5 })
      const token = body.auth.client_token as string
      await own(side, 'sys/internal/ui/mounts', { headers: { 'X-Vault-Token': token } })
      const left = await side.vault.api('POST', 'auth/token/lookup', { token })
      return 5 - (left.body.data.num_uses as number)
    },
    seen: { straight: 0, through: 1 },
  },
  {
    what: 'a body of more than 1 MiB on our mounts, logs of measurements (`login`, `creds`) and trust anchors aside',
    vault: 'up to 32 MiB',
    here: '413',
    why: 'none of our fields is that large; what goes on to Vault has Vault’s limit',
    ask: async side =>
      (
        await own(side, side.name === 'through' ? 'broker/config' : 'kv/b', {
          method: 'POST',
          body: `{"a":"${'x'.repeat(2 ** 20 - 8)}","b":"${'y'.repeat(99)}"}`,
        })
      ).status,
    seen: { straight: 204, through: 413 },
  },
  {
    what: '`X-Vault-Namespace` at a Vault that has none',
    vault: 'is ignored',
    here: 'our mounts are in the root namespace, and nowhere else',
    why: 'the same request must not change its meaning when namespaces come',
    ask: async side =>
      (await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers: { 'X-Vault-Namespace': 'team' } })).status,
    seen: { straight: 200, through: 404 },
  },
  {
    what: 'how long what a mount issues lives (`default_lease_ttl`, `max_lease_ttl`)',
    vault: '768 h where nothing is said, else what is said',
    here: '15 min where nothing is said, and 1 h at most; `tune` shows what counts',
    why: 'a short life needs no revocation',
    ask: async side => {
      const lives = async (config: object) => {
        const enabled = { type: typeOn(side), config }
        await own(side, 'sys/mounts/lives', { method: 'POST', body: JSON.stringify(enabled) })
        const { data } = (await (await own(side, 'sys/mounts/lives/tune', {})).json()) as {
          data: Record<'default_lease_ttl' | 'max_lease_ttl', number>
        }
        await own(side, 'sys/mounts/lives', { method: 'DELETE' })
        return [data.default_lease_ttl, data.max_lease_ttl]
      }
      return [await lives({}), await lives({ default_lease_ttl: '2h', max_lease_ttl: '3h' })]
    },
    seen: {
      straight: [
        [768 * 3600, 768 * 3600],
        [2 * 3600, 3 * 3600],
      ],
      through: [
        [900, 3600],
        [3600, 3600],
      ],
    },
  },
  {
    what: 'what a mount of ours has no use for (`audit_non_hmac_request_keys`, `passthrough_request_headers`, `local`, ...)',
    vault: 'is kept',
    here: 'is ignored, and named in a warning',
    why: 'what has no effect is not shown as if it had',
    ask: async side => {
      const tuning = { method: 'POST', body: '{"audit_non_hmac_request_keys":["a"]}' }
      const text = await (
        await own(side, side.name === 'through' ? 'sys/mounts/broker/tune' : 'sys/mounts/kv/tune', tuning)
      ).text()
      return text === '' ? 'kept' : (JSON.parse(text) as { warnings: string[] }).warnings[0]
    },
    seen: {
      straight: 'kept',
      through: 'Endpoint ignored these unrecognized parameters: [audit_non_hmac_request_keys]',
    },
  },
  {
    what: 'a parameter that cannot be read, on our mounts and their leases',
    vault: '`Field validation failed`, with what was sent',
    here: 'a sentence that names it and what it wants',
    why: 'what was sent may be a secret in the wrong place',
    ask: async side => {
      const body = JSON.stringify({ lease_id: `${side.name === 'through' ? 'broker' : 'kv'}/a/b`, sync: 'a-secret' })
      const reply = await own(side, 'sys/leases/revoke', { method: 'PUT', body })
      return [reply.status, (await reply.text()).includes('a-secret')]
    },
    seen: { straight: [400, true], through: [400, false] },
  },
  {
    what: 'a negative life (`default_lease_ttl=-1s`) for a mount',
    vault: 'counts as none',
    here: '400',
    why: 'who writes it wants something else',
    ask: async side => {
      const tuning = { method: 'POST', body: '{"default_lease_ttl":"-1s"}' }
      return (await own(side, side.name === 'through' ? 'sys/mounts/broker/tune' : 'sys/mounts/kv/tune', tuning)).status
    },
    seen: { straight: 204, through: 400 },
  },
  {
    what: 'a verb that is none of HTTP’s and none of Vault’s (`FOO`)',
    vault: '405',
    here: '400',
    why: 'the parser of requests knows a list of verbs, and takes nothing else',
    ask: answer('FOO /v1/kv/a'),
    seen: { straight: '405', through: '400' },
  },
  {
    what: 'a client that closes its side of the connection before the reply',
    vault: 'is answered, though what it asked for may be given up',
    here: 'is not answered',
    why: 'it cannot be told from one that has left, and for that one nothing is kept open',
    ask: async side => {
      const connection = await dial(side.address)
      connection.write(`GET /v1/kv/a HTTP/1.1\r\nHost: a\r\nX-Vault-Token: ${side.vault.rootToken}\r\n\r\n`)
      connection.socket.end()
      return (await connection.closed).startsWith('HTTP/1.1 ')
    },
    seen: { straight: true, through: false },
  },
  {
    what: 'JSON that has a name twice, on our mounts',
    vault: '500',
    here: 'the last one counts',
    why: 'nobody reads it after us',
    ask: async side => {
      const body = '{"issuer":"","issuer":""}'
      return (await own(side, side.name === 'through' ? 'broker/config' : 'kv/twice', { method: 'POST', body })).status
    },
    seen: { straight: 500, through: 204 },
  },
  {
    what: 'CORS (`sys/config/cors`) and the headers that Vault’s listener adds (`custom_response_headers`, `Strict-Transport-Security`) on our mounts',
    vault: 'as configured',
    here: 'none: pages of other origins cannot read our mounts',
    why: 'both are in Vault’s configuration, which the front door has no right to read; what passes through has them',
    ask: async side => {
      await side.vault.api('POST', 'sys/config/cors', { allowed_origins: 'https://a.example' })
      const headers = { Origin: 'https://a.example' }
      const reply = await own(side, side.name === 'through' ? 'broker/config' : 'kv/a', { headers })
      await side.vault.api('DELETE', 'sys/config/cors')
      return ['access-control-allow-origin', 'strict-transport-security'].map(name => reply.headers.has(name))
    },
    seen: { straight: [true, true], through: [false, false] },
  },
  {
    what: 'Vault is away',
    vault: 'the connection is refused',
    here: '503, `Retry-After: 1` and a sentence',
    why: 'clients repeat what says so; nothing was sent twice by us',
    ask: async side => {
      if (side.name === 'straight') return 'refused'
      await side.vault.stop()
      return answer('GET /v1/kv/a', [], 'retry-after')(side)
    },
    seen: { straight: 'refused', through: '503 1' },
  },
]

const rowsOverTls: readonly Row<TlsSides>[] = [
  {
    what: 'HTTP/2 over TLS',
    vault: 'is offered',
    here: 'HTTP/1.1 only',
    why: 'verbs such as LIST are read off HTTP/1.1; clients fall back by themselves',
    ask: async ({ address }) => ((await dial(address, { ALPNProtocols: ['h2', 'http/1.1'] })).socket as TLSSocket).alpnProtocol,
    seen: { straight: 'h2', through: 'http/1.1' },
  },
  {
    what: 'TLS 1.2',
    vault: 'is taken (`tls_min_version`)',
    here: 'is refused, unless `min_version: TLSv1.2` says otherwise',
    why: 'clients of today have 1.3',
    ask: ({ address }) =>
      dial(address, { maxVersion: 'TLSv1.2' }).then(
        () => true,
        () => false,
      ),
    seen: { straight: true, through: false },
  },
  {
    what: 'a client’s certificate (`cert` auth method of Vault)',
    vault: 'is seen by Vault',
    here: 'ends at the front door',
    why: 'TLS ends there; nothing that a client says of a certificate in a header goes on',
    ask: async ({ address, vault }, { ca, cert, key }) => {
      await vault.api('POST', 'sys/auth/cert', { type: 'cert' })
      await vault.api('POST', 'auth/cert/certs/web', { certificate: ca, token_policies: 'default' })
      const connection = await dial(address, { cert, key })
      connection.write('POST /v1/auth/cert/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
      return /^HTTP\/1\.1 (\d+)/.exec(await connection.closed)?.[1]
    },
    seen: { straight: '200', through: '400' },
  },
]

describe('what is said to differ over TLS does', () => {
  let overTls: TlsSides
  beforeAll(async () => {
    overTls = await openTlsSides()
  })
  afterAll(() => overTls[Symbol.asyncDispose]())

  test.each(rowsOverTls.map(row => [row.what, row] as const))('%s', async (_, { ask, seen }) => {
    expect(await overTls.both(side => ask(side, overTls))).toEqual(seen)
  })
})

describe('what is said to differ does', () => {
  test.each(rows.map(row => [row.what, row] as const))('%s', async (_, { ask, seen }) => {
    expect(await sides.both(side => ask(side, sides))).toEqual(seen)
  })
})

const MARKS = ['<!-- rows: test/live/differences.test.ts -->\n', '<!-- end of rows -->\n'] as const

test('the page has these rows', async () => {
  const text = await readFile(page, 'utf8')
  const [before = '', rest = ''] = text.split(MARKS[0])
  const [said, after = ''] = rest.split(MARKS[1])
  const lines = [...rows, ...rowsOverTls].map(({ what, vault, here, why }) => `| ${what} | ${vault} | ${here} | ${why} |\n`)
  const wanted = `\n| | Vault | front door | why |\n|---|---|---|---|\n${lines.join('')}\n`
  if (process.env['UPDATE_DOCS']) await writeFile(page, `${before}${MARKS[0]}${wanted}${MARKS[1]}${after}`)
  else expect(said).toBe(wanted)
})
