import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type FrontDoor, openFrontDoor } from '../../mounts/hosts/http.ts'
import { openUpstream, type Upstream } from '../../mounts/hosts/upstream.ts'
import { pause, start, until } from '../harness/process.ts'
import { startVault, type Vault, vaultBinary } from '../harness/vault.ts'
import { serveHere } from './in_process.ts'

let vault: Vault
let upstream: Upstream
let door: FrontDoor

beforeAll(async () => {
  vault = await startVault()
  upstream = openUpstream({ url: vault.address, answerWithinMs: 90_000 })
  door = await openFrontDoor({
    upstream,
    listen: { host: '127.0.0.1', port: 0 },
    owns: (_, path) => path.segments[0] === 'broker',
    own: () => new Response('ours'),
  })
})

afterAll(async () => {
  await door?.close(0)
  upstream?.close()
  await vault?.stop()
})

type Ask = { readonly verb?: string; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
type Seen = { readonly status: number; readonly headers: readonly (readonly [string, string])[]; readonly body: string }

async function ask(base: string, target: string, { verb = 'GET', headers = {}, body }: Ask = {}): Promise<Seen> {
  const { hostname, port } = new URL(base)
  const asked = request({ hostname, port, method: verb, path: target, headers: { 'X-Vault-Token': vault.rootToken, ...headers } })
  asked.on('error', () => {}) // of the rest of an upload, after the reply: before it, `once` throws
  asked.end(body)
  const [reply] = (await once(asked, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of reply) chunks.push(chunk)
  const raw = reply.rawHeaders
  const pairs = raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1] ?? ''] as const] : []))
  return { status: reply.statusCode ?? 0, headers: pairs, body: Buffer.concat(chunks).toString() }
}

/** What differs from one answer to the next at Vault itself, and what is said of one hop only. */
const OF_THE_MOMENT =
  /^(?:request_id|server_time_utc|echo_duration_ms|clock_skew_ms|accessor|token|creation_time|created_time|deletion_time|version)$/
const OF_THE_HOP = /^(?:connection|keep-alive|date|transfer-encoding|content-length)$/i

function comparable({ status, headers, body }: Seen): unknown {
  const length = headers.find(([name]) => name === 'Content-Length')?.[1]
  const kept = headers.filter(([name]) => !OF_THE_HOP.test(name))
  const fits = length === undefined || Number(length) === Buffer.byteLength(body)
  return { status, headers: kept, length: fits || 'of another body', body: body.startsWith('{') ? stable(body) : body }
}

function stable(body: string): unknown {
  return JSON.parse(body, (name, value) => (OF_THE_MOMENT.test(name) ? 'of the moment' : value))
}

describe('Vault answers the same through the front door', () => {
  const table: readonly (readonly [name: string, target: string, ask?: Ask])[] = [
    ['health', '/v1/sys/health'],
    ['health, its head', '/v1/sys/health', { verb: 'HEAD' }],
    ['seal status', '/v1/sys/seal-status'],
    ['leader', '/v1/sys/leader'],
    ['mounts', '/v1/sys/mounts'],
    ['auth methods', '/v1/sys/auth'],
    ['who am I', '/v1/auth/token/lookup-self'],
    ['by bearer', '/v1/auth/token/lookup-self', { headers: { 'X-Vault-Token': '', Authorization: 'Bearer nobody' } }],
    ['without a token', '/v1/secret/data/a', { headers: { 'X-Vault-Token': '' } }],
    ['with a bad token', '/v1/secret/data/a', { headers: { 'X-Vault-Token': 'bad' } }],
    ['a secret that is absent', '/v1/secret/data/absent'],
    ['a mount that is absent', '/v1/absent/a'],
    ['the root of the API', '/v1/'],
    ['write', '/v1/secret/data/same', { verb: 'POST', body: '{"data":{"a":"1"}}' }],
    [
      'write as a form says it, in JSON',
      '/v1/secret/data/same',
      { verb: 'PUT', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: '{"data":{"a":"2"}}' },
    ],
    ['read', '/v1/secret/data/same'],
    ['read, its head', '/v1/secret/data/same', { verb: 'HEAD' }],
    ['list by verb', '/v1/secret/metadata', { verb: 'LIST' }],
    ['list by query', '/v1/secret/metadata/?list=true'],
    ['list by a bad query', '/v1/secret/metadata/?list=maybe'],
    ['help by query', '/v1/secret/data/same?help=1'],
    ['help by verb', '/v1/secret/data/same', { verb: 'HELP' }],
    [
      'patch',
      '/v1/secret/data/same',
      { verb: 'PATCH', headers: { 'Content-Type': 'application/merge-patch+json' }, body: '{"data":{"b":"2"}}' },
    ],
    ['patch of another type', '/v1/secret/data/same', { verb: 'PATCH', body: '{"data":{"b":"2"}}' }],
    ['broken JSON', '/v1/secret/data/same', { verb: 'POST', body: '{"data":' }],
    ['nothing to write', '/v1/secret/data/same', { verb: 'POST' }],
    ['write to a folder', '/v1/secret/data/', { verb: 'POST', body: '{}' }],
    ['wrapped', '/v1/secret/data/same', { headers: { 'X-Vault-Wrap-TTL': '60s' } }],
    ['wrapped for a bad time', '/v1/secret/data/same', { headers: { 'X-Vault-Wrap-TTL': 'soon' } }],
    ['in a namespace', '/v1/secret/data/same', { headers: { 'X-Vault-Namespace': 'team' } }],
    ['preflight', '/v1/secret/data/same', { verb: 'OPTIONS', headers: { Origin: 'https://ui.example' } }],
    ['trace', '/v1/secret/data/same', { verb: 'TRACE' }],
    ['delete', '/v1/secret/data/same', { verb: 'DELETE' }],
    ['what was deleted', '/v1/secret/data/same'],
    ['metrics', '/v1/sys/metrics?format=none'],
    ['the way to the UI', '/'],
    ['the UI', '/ui/'],
    ['robots', '/robots.txt'],
    ['what is well known', '/.well-known/nothing'],
  ]
  test.each(table.map(([name, target, asked]) => ({ name, target, asked })))('$name', async ({ target, asked }) => {
    const [direct, through] = [await ask(vault.address, target, asked), await ask(door.url, target, asked)]
    expect(comparable(through)).toEqual(comparable(direct))
  })

  test('more than the parser’s buffer, both ways', async () => {
    const value = 'v'.repeat(300_000)
    const body = JSON.stringify({ data: { value } })
    expect((await ask(door.url, '/v1/secret/data/large', { verb: 'POST', body })).status).toBe(200)
    expect(JSON.parse((await ask(door.url, '/v1/secret/data/large')).body).data.data.value).toBe(value)
    const chunked = { verb: 'POST', headers: { 'Transfer-Encoding': 'chunked' }, body }
    expect((await ask(door.url, '/v1/secret/data/large', chunked)).status).toBe(200)
  })

  test('more than Vault takes: its refusal', async () => {
    const body = JSON.stringify({ data: { value: 'v'.repeat(33 * 2 ** 20) } })
    const direct = await ask(vault.address, '/v1/secret/data/huge', { verb: 'POST', body })
    const through = await ask(door.url, '/v1/secret/data/huge', { verb: 'POST', body })
    expect([through.status, through.body]).toEqual([direct.status, direct.body])
    expect(through.status).toBeGreaterThanOrEqual(400)
  })
})

describe('a name is the same resource for us and for Vault', () => {
  const names = [
    'plain',
    'with space',
    'plus+plus',
    '100%',
    '%25',
    '%2f',
    '%252e%252e',
    'grüße',
    '鍵🔑',
    'e\u0301 is not \u00e9',
    'a:b@c~d;e=f,g&h$i!j',
    'quote\'quote"(round)[square]{curly}',
    'a?b#c',
    '...',
    '..a',
    'a..',
    '<tag>|`^*',
    '-_.~',
  ]
  test.each(names)('%j', async name => {
    const path = `/v1/secret/data/names/${encodeURIComponent(name)}`
    const body = JSON.stringify({ data: { name } })
    expect((await ask(door.url, path, { verb: 'POST', body })).status).toBe(200)
    for (const base of [vault.address, door.url]) expect(JSON.parse((await ask(base, path)).body).data.data.name).toBe(name)
    const bare = encodeURI(name).replaceAll('?', '%3F').replaceAll('#', '%23') // as clients that encode less send it
    expect(JSON.parse((await ask(door.url, `/v1/secret/data/names/${bare}`)).body).data.data.name).toBe(name)
  })

  test('Vault lists exactly these', async () => {
    const { body } = await ask(vault.address, '/v1/secret/metadata/names?list=true')
    expect(JSON.parse(body).data.keys.sort()).toEqual([...names].sort())
  })

  test('an encoded slash is a slash for both, as clients made from the OpenAPI document send it', async () => {
    const body = JSON.stringify({ data: { a: 1 } })
    expect(await ask(door.url, '/v1/secret/data/below%2Fnested', { verb: 'POST', body })).toMatchObject({ status: 200 })
    for (const path of ['/v1/secret/data/below/nested', '/v1/secret%2fdata/below%2Fnested'])
      for (const base of [vault.address, door.url]) expect(await ask(base, path)).toMatchObject({ status: 200 })
    expect(await ask(door.url, '/v1/%62roker/a')).toMatchObject({ status: 200, body: 'ours' })
    expect(await ask(door.url, '/v1/broker%2fa')).toMatchObject({ status: 200, body: 'ours' })
  })

  test('slashes that follow each other lead to the path without them, as such a client lists all of a mount', async () => {
    for (const base of [vault.address, door.url]) {
      const target = '/v1/secret/metadata//?list=true'
      const { headers } = await ask(base, target)
      expect(headers.find(([name]) => name === 'Location')?.[1]).toBe('/v1/secret/metadata/?list=true')
    }
  })
})

describe('the stock CLI', () => {
  const cli = async (...args: string[]) => vault.cli(args, { env: { VAULT_ADDR: door.url } })

  test('reads, writes, lists and looks up', async () => {
    const steps: readonly (readonly [string[], RegExp])[] = [
      [['status'], /Sealed\s+false/],
      [['token', 'lookup'], /policies\s+\[root\]/],
      [['secrets', 'enable', '-path=kv1', 'kv'], /Success/],
      [['write', 'kv1/a b', 'x=1'], /Success/],
      [['read', '-field=x', 'kv1/a b'], /^1$/],
      [['list', 'kv1'], /a b/],
      [['kv', 'put', '-mount=secret', 'app', 'user=me'], /version\s+1/],
      [['kv', 'patch', '-mount=secret', 'app', 'more=1'], /version\s+2/],
      [['kv', 'get', '-mount=secret', '-field=user', 'app'], /^me$/],
      [['kv', 'list', '-mount=secret', '/'], /app/],
      [['path-help', 'secret'], /versioned key-value store/],
      [['token', 'create', '-ttl=1m', '-field=token'], /^hvs\./],
      [['read', '-wrap-ttl=60s', '-field=wrapping_token', 'kv1/a b'], /^hvs\./],
      [['delete', 'kv1/a b'], /Success/],
      [['secrets', 'disable', 'kv1'], /Success/],
    ]
    for (const [args, wanted] of steps) {
      const { code, stdout, stderr } = await cli(...args)
      expect([args, code, stderr]).toEqual([args, 0, ''])
      expect(stdout).toMatch(wanted)
    }
    expect(await cli('read', 'kv1/absent')).toMatchObject({ code: 2, stderr: expect.stringContaining('No value found') })
  })

  test('monitor shows what happens as it happens', async () => {
    const env = { ...vault.env, VAULT_ADDR: door.url }
    const monitor = await start(await vaultBinary(), ['monitor', '-log-level=trace'], { env })
    onTestFinished(async () => void (await monitor.stop()))
    await until('it to be seen', async () => {
      await vault.api('POST', 'sys/mounts/kv-seen', { type: 'kv' })
      await vault.api('DELETE', 'sys/mounts/kv-seen')
      return monitor.output().includes('kv-seen')
    })
  })
})

describe('Vault that is not well', () => {
  test('sealed: its own words; unsealed: served again', async () => {
    await vault.seal()
    const reply = await ask(door.url, '/v1/secret/data/a')
    await vault.unseal()
    expect([reply.status, JSON.parse(reply.body)]).toEqual([503, { errors: ['Vault is sealed'] }])
    expect((await ask(door.url, '/v1/sys/health')).status).toBe(200)
  })

  test('stopped in its tracks: 503 in time; going on: served again', async () => {
    const own = await startVault()
    onTestFinished(() => own.stop())
    await using before = await serveHere(own, { vault: { answer_within_ms: 500 } })
    await until('it to be served', async () => (await ask(before.address, '/v1/sys/health')).status === 200)
    await pause(own.pid)
    // that it comes while Vault stands still is what is in time
    const reply = await ask(before.address, '/v1/sys/health')
    process.kill(own.pid, 'SIGCONT')
    expect([reply.status, reply.body]).toEqual([503, '{"errors":["Vault did not answer within 0.5 s"]}\n'])
    await until('it to be served again', async () => (await ask(before.address, '/v1/sys/health')).status === 200)
    await own.stop()
    expect(JSON.parse((await ask(before.address, '/v1/sys/health')).body)).toEqual({ errors: [expect.stringMatching(/^Vault /)] })
  })
})
