import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openSides, type Seen, type Side, type Sides, seen } from './sides.ts'

// Requests that Vault's own OpenAPI document leads to, with values of any make: straight and through the front door the same is answered, and done.

let sides: Sides
beforeAll(async () => {
  sides = await openSides()
  await sides.both(async ({ vault }) => {
    for (const [path, body] of BEFORE) await vault.api('POST', path, body)
  })
})
afterAll(() => sides[Symbol.asyncDispose]())

const BEFORE: readonly (readonly [string, object])[] = [
  ...['kv', 'transit', 'pki', 'ssh', 'database'].map(type => [`sys/mounts/${type}`, { type }] as const),
  ...['userpass', 'jwt', 'cert'].map(type => [`sys/auth/${type}`, { type }] as const),
  ['kv/a', { a: 'b' }],
  ['secret/data/a', { data: { a: 'b' } }],
  ['transit/keys/a', {}],
  ['pki/root/generate/internal', { common_name: 'a.example.com', key_type: 'ec', ttl: '24h' }],
  ['pki/roles/a', { allow_any_name: true, key_type: 'ec', ttl: '10m' }],
  ['ssh/config/ca', { generate_signing_key: true, key_type: 'ed25519' }],
  ['auth/userpass/users/a', { password: 'password' }],
  ['auth/approle/role/a', { token_policies: 'default' }],
]

/** What would end the server, the caller or the mounts, what takes long, what differs from one server to the next, and what is compared by tests of its own, as it
 *  concerns our mounts too. */
const LEFT_OUT =
  /assay|audit|auth\/token\/re|config\/(?:cluster|urls)|counters|generate|identity\/(?:alias|entity|lookup|persona)|in-flight|intermediate|leases|metrics|monitor|namespaces|plugins\/reload|pprof|public_key|raft|raw|rekey|remount|renew|replication|revoke|root|rotate|seal|ssh\/config|step-down|sys\/(?:auth|config|init|internal|mounts|quotas|renew)|tidy/

type Operation = {
  readonly path: string
  readonly method: string
  readonly fields: readonly string[]
}
type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>
  readonly components: { readonly schemas: Readonly<Record<string, { readonly properties?: object }>> }
}
type Described = {
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: { readonly $ref?: string } }>> }
}

async function operations({ address, vault }: Side): Promise<Operation[]> {
  const reply = await fetch(`${address}/v1/sys/internal/specs/openapi`, { headers: { 'X-Vault-Token': vault.rootToken } })
  const { paths, components } = (await reply.json()) as Document
  const all = Object.entries(paths).filter(([path]) => !LEFT_OUT.test(path))
  return all.flatMap(([path, item]) =>
    ['get', 'post', 'delete', 'patch'].flatMap(method => {
      const described = item[method]
      if (!described) return []
      const [content] = Object.values(described.requestBody?.content ?? {})
      const { properties = {} } = components.schemas[content?.schema.$ref?.split('/').at(-1) ?? ''] ?? {}
      return [{ path, method: method.toUpperCase(), fields: Object.keys(properties) }]
    }),
  )
}

const name = fc.constantFrom(
  'a',
  'a',
  'a',
  'none',
  'default',
  'a%2Fb',
  'a%20b',
  '%C3%A9',
  '%22',
  '%25',
  '%F0%9F%98%80',
  'x'.repeat(300),
)
const value = fc.oneof(
  fc.constantFrom(
    '"a"',
    '"default"',
    '"YQ=="',
    '"1h"',
    '"1d"',
    '"-1h"',
    '"1e3"',
    '"t"',
    '""',
    '"a,b, c"',
    '"a=b"',
    '"\\u0000"',
    '"\\ud800"',
  ),
  fc.constantFrom('null', 'true', 'false', '0', '-0', '60', '-1', '1.5', '1e3', '1e400', '9223372036854775808'),
  fc.constantFrom('[]', '["a"]', '["a",1,null]', '[[]]', '{}', '{"a":"b"}', '{"a":{"b":1}}'),
  fc.json({ maxDepth: 1 }),
)
const query = fc.constantFrom(
  '',
  '',
  '',
  '',
  '?list=true',
  '?list=1',
  '?list=perhaps',
  '?help=1',
  '?version=1',
  '?version=-1',
  '?a=b&a=c',
  '?a;b',
  '?%zz',
)
const durations = fc.constantFrom(
  '60',
  '60s',
  '1h30m',
  '0',
  '',
  '-1',
  '+60',
  '+1m',
  '1d',
  '1.5h',
  '.5m',
  '1e3',
  '1ns',
  '60S',
  'soon',
  '9223372037',
  '106752d',
)
const header = fc.oneof(
  fc.tuple(fc.constantFrom('X-Vault-Wrap-TTL', 'x-vault-wrap-ttl'), durations),
  fc.tuple(fc.constant('X-Vault-Namespace'), fc.constantFrom('', '/', 'root', 'ROOT', 'a', 'a/b', '..')),
  fc.tuple(
    fc.constantFrom('X-Vault-MFA', 'X-Vault-Policy-Override', 'X-Vault-Forward', 'X-Vault-Index'),
    fc.constantFrom('', 'a', 'a:b', 'true', 'v1:a'),
  ),
  fc.tuple(
    fc.constantFrom('X-Vault-Request', 'X-Vault-Inconsistent', 'X-Vault-Raw-Error'),
    fc.constantFrom('', 'true', 'false', 'a'),
  ),
  fc.tuple(
    fc.constantFrom('Accept', 'Range', 'If-Match', 'If-None-Match', 'If-Modified-Since', 'Content-Encoding'),
    fc.constantFrom('', '*', '"a"', 'bytes=0-1', 'gzip'),
  ),
  fc.tuple(fc.constant('X-Vault-Token'), fc.constantFrom('', 'none', 'hvs.none')),
)
const type = fc.constantFrom('application/json', 'application/json', 'text/plain', 'application/x-www-form-urlencoded', 'a', ';')
const spoilt = fc.constantFrom<(body: string) => string>(
  ...Array.from({ length: 12 }, () => (body: string) => body),
  body => body.slice(0, -1),
  body => `${body}${body}`,
  body => `[${body}]`,
  body => `\ufeff${body}`,
  body => `${body}\0`,
  () => 'null',
  () => 'a=b&c=%zz',
)

type Asked = {
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body?: string
}

const asked = (all: readonly Operation[]) =>
  fc.constantFrom(...all).chain(({ path, method, fields }) =>
    fc
      .record({
        target: fc.tuple(...path.split(/\{[^}]*\}/).map(part => fc.tuple(fc.constant(part), name))),
        members: fc.tuple(
          ...fields.map(field =>
            fc.option(
              value.map(sent => `${JSON.stringify(field)}:${sent}`),
              { freq: 2 },
            ),
          ),
        ),
        query,
        headers: fc.array(header, { maxLength: 2 }),
        type,
        spoilt,
      })
      .map(({ target, members, query: asks, headers, type: kind, spoilt: spoil }): Asked => {
        const place = target.map(([part, id], at) => (at < target.length - 1 ? `${part}${id}` : part)).join('')
        const body = spoil(`{${members.filter(one => one !== null).join(',')}}`)
        const kinds = [['Content-Type', method === 'PATCH' ? 'application/merge-patch+json' : kind]] as const
        const sent = method === 'GET' || method === 'DELETE' ? {} : { body }
        return { method, target: `/v1${place}${asks}`, headers: [...headers, ...kinds], ...sent }
      }),
  )

/** Of several fields that cannot be read Vault names any. Where it breaks down over a request it closes the connection, and the front door says that it did. */
async function answer({ address, vault }: Side, { method, target, headers, body }: Asked): Promise<Seen | string> {
  const all = { 'X-Vault-Token': vault.rootToken, ...Object.fromEntries(headers) }
  const reply = await fetch(`${address}${target}`, { method, headers: all, redirect: 'manual', ...(body && { body }) }).catch(
    () => undefined,
  )
  if (!reply) return BROKE
  const { status, headers: said, body: content } = await seen(reply)
  const text = JSON.stringify(content ?? '')
  if (status === 503 && text.includes('Vault closed the connection')) return BROKE
  return { status, headers: said, body: /error converting input for field/.test(text) ? 'a field that cannot be read' : content }
}
const BROKE = 'broke down'

const RUNS = 1500
/** The same requests each time, and others for who looks for something. */
const seed = Number(process.env['SEED'] ?? 166_299)

test('what Vault answers to requests of its own document, whatever is in them, is what is answered here', async () => {
  const statuses = new Map<number, number>()
  for (const one of fc.sample(asked(await operations(sides.straight)), { numRuns: RUNS, seed })) {
    const { straight, through } = await sides.both(side => answer(side, one))
    expect({ seed, one, through }).toEqual({ seed, one, through: straight })
    if (typeof straight === 'object') statuses.set(straight.status, (statuses.get(straight.status) ?? 0) + 1)
  }
  // a test in which everything is refused would say nothing
  for (const status of [200, 204, 400, 404]) expect(statuses.get(status) ?? 0).toBeGreaterThan(RUNS / 100)
})
