import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import { dial } from '../mounts/hosts/wire.ts'
import { type Side, type Sides, seen, shapeOf } from './sides.ts'

type Asked = {
  readonly method?: string
  readonly path: string
  readonly body?: string
  readonly headers?: Readonly<Record<string, string>>
  /** whose token: root's when nothing is said */
  readonly as?: 'root' | 'limited' | 'nobody' | 'none'
}

const JSON_TYPE = { 'Content-Type': 'application/json' }
const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' }
const MERGE = { 'Content-Type': 'application/merge-patch+json' }
const corpus: Readonly<Record<string, readonly Asked[]>> = {
  reads: [
    { path: '/v1/secret/data/app/one' },
    { path: '/v1/secret/data/app/none' },
    { path: '/v1/kv/app/one' },
    { path: '/v1/kv/app%2Done' },
    { path: '/v1/nothing/here' },
    { path: '/v1/sys/nothing' },
    { path: '/v1/sys/mounts' },
    { path: '/v1/sys/auth' },
    { path: '/v1/sys/auth/approle' },
    { path: '/v1/sys/mounts/secret/tune' },
    { path: '/v1/sys/internal/ui/mounts' },
    { path: '/v1/sys/internal/ui/mounts/secret/app' },
    { path: '/v1/sys/policies/acl/default' },
    { path: '/v1/sys/wrapping/lookup', method: 'POST', body: '{"token":"none"}' },
    { path: '/v1/auth/token/lookup-self', as: 'limited' },
  ],
  lists: [
    { path: '/v1/secret/metadata/app', method: 'LIST' },
    { path: '/v1/secret/metadata/app/', method: 'LIST' },
    { path: '/v1/secret/metadata/none', method: 'LIST' },
    ...['true', '1', 'True', 't', 'TRUE', 'false', '0', 'perhaps', ''].map(value => ({ path: `/v1/kv/app?list=${value}` })),
    { path: '/v1/kv/app/?list=true&list=false' },
    { path: '/v1/sys/policies/acl?list=true' },
    { path: '/v1/sys/leases/lookup/auth?list=true' },
  ],
  'as clients made from the OpenAPI document send paths': [
    { path: '/v1/secret/data/app%2Fone' },
    { path: '/v1/kv/app%2Fone', as: 'limited' },
    { path: '/v1/secret/data/app%2Fone', as: 'nobody' },
    { path: '/v1/secret/metadata/app%2F', method: 'LIST' },
    { path: '/v1/secret/data/app%2Fnested%2fdeep', method: 'POST', body: '{"data":{"a":1}}' },
    { path: '/v1/sys/mounts/below%2Fnested', method: 'POST', body: '{"type":"kv"}' },
    { path: '/v1/sys/mounts/below%2Fnested%2Ftune' },
    { path: '/v1/sys/internal/ui/mounts/below%2Fnested' },
    { path: '/v1/sys/mounts/below%2Fnested', method: 'DELETE' },
    { path: '/v1/sys/leases/lookup/auth%2Ftoken?list=true' },
    { path: '/v1/sys/leases/revoke-prefix/none%2Fbelow', method: 'PUT' },
    { path: '/v1/sys/policies/acl/a%2Fb', method: 'POST', body: '{"policy":""}' },
  ],
  writes: [
    { path: '/v1/kv/app/two', method: 'PUT', body: '{"a":1}', headers: JSON_TYPE },
    { path: '/v1/kv/app/two', method: 'POST', body: '{"a":1}' },
    { path: '/v1/kv/app/two', method: 'POST', body: 'a=1', headers: FORM },
    { path: '/v1/kv/app/two', method: 'POST', body: '{"a":1}', headers: FORM },
    { path: '/v1/kv/app/two', method: 'POST', body: '{"a":' },
    { path: '/v1/kv/app/two', method: 'POST', body: '[1]' },
    { path: '/v1/kv/app/two', method: 'POST', body: '' },
    { path: '/v1/kv/app/', method: 'POST', body: '{"a":1}' },
    { path: '/v1/kv/app/two', method: 'DELETE' },
    { path: '/v1/secret/data/app/one', method: 'PATCH', body: '{"data":{"c":"d"}}', headers: MERGE },
    { path: '/v1/secret/data/app/one', method: 'PATCH', body: '{"data":{"c":"d"}}', headers: JSON_TYPE },
    { path: '/v1/sys/mounts/kv', method: 'POST', body: '{"type":"kv"}' },
    { path: '/v1/sys/mounts/nothing', method: 'POST', body: '{"type":"nothing"}' },
    { path: '/v1/sys/mounts/kv/tune', method: 'POST', body: '{"description":"tuned"}' },
    { path: '/v1/sys/mounts/kv/tune', method: 'POST', body: 'description=tuned', headers: FORM },
    { path: '/v1/sys/remount', method: 'POST', body: '{"from":"none","to":"other"}' },
    { path: '/v1/sys/auth/userpass', method: 'POST', body: '{"type":"userpass"}' },
    { path: '/v1/sys/auth/userpass', method: 'DELETE' },
    { path: '/v1/sys/leases/lookup', method: 'PUT', body: '{"lease_id":"none"}' },
    { path: '/v1/sys/leases/revoke', method: 'PUT', body: '{"lease_id":"none"}' },
    { path: '/v1/sys/leases/renew', method: 'PUT', body: '{"lease_id":"none"}' },
    { path: '/v1/sys/leases/revoke-prefix/none', method: 'PUT' },
    { path: '/v1/sys/leases/revoke-force/none', method: 'PUT' },
  ],
  'other verbs and endpoints': [
    { path: '/v1/secret/data/app/one', method: 'HEAD' },
    { path: '/v1/secret/data/app/one', method: 'OPTIONS', headers: { Origin: 'https://a.example' } },
    { path: '/v1/kv/app/one?help=1' },
    { path: '/v1/sys/health' },
    { path: '/v1/sys/health', method: 'HEAD', as: 'none' },
    { path: '/v1/sys/health?sealedcode=299', as: 'none' },
    { path: '/v1/sys/seal-status', as: 'none' },
    { path: '/v1/sys/leader', as: 'none' },
    { path: '/v1/sys/metrics?format=prometheus' },
    { path: '/v1/sys/pprof/cmdline' },
    { path: '/v1/sys/storage/raft/snapshot' },
    { path: '/v1/sys/internal/specs/openapi', as: 'none' },
    { path: '/v1/', as: 'none' },
    { path: '/ui/', as: 'none' },
    { path: '/', as: 'none' },
  ],
  'who asks': [
    ...(['limited', 'nobody', 'none'] as const).flatMap(as => [
      { path: '/v1/secret/data/app/one', as },
      { path: '/v1/kv/app/one', as },
      { path: '/v1/sys/mounts', as },
      { path: '/v1/sys/auth', as },
      { path: '/v1/sys/auth/approle', as },
      { path: '/v1/sys/leases/lookup', method: 'PUT', body: '{"lease_id":"none"}', as },
      { path: '/v1/sys/mounts/other', method: 'POST', body: '{"type":"kv"}', as },
      { path: '/v1/sys/capabilities-self', method: 'POST', body: '{"paths":["kv/app/one"]}', as },
    ]),
    { path: '/v1/kv/app/one', as: 'none', headers: { Authorization: 'Bearer hvs.nobody' } },
    { path: '/v1/kv/app/one', as: 'none', headers: { Authorization: 'bearer hvs.nobody' } },
  ],
  'headers with a meaning': [
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Namespace': 'team' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Namespace': 'root' } },
    { path: '/v1/sys/mounts', headers: { 'X-Vault-Namespace': 'team/' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Wrap-TTL': '60s' } },
    { path: '/v1/sys/mounts', headers: { 'X-Vault-Wrap-TTL': '60s' } },
    { path: '/v1/sys/auth', headers: { 'X-Vault-Wrap-TTL': '60' } },
    { path: '/v1/sys/internal/ui/mounts', headers: { 'X-Vault-Wrap-TTL': '60s' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Wrap-TTL': '-1s' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Wrap-TTL': 'soon' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-MFA': 'not:one:of:them=' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Policy-Override': 'perhaps' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-No-Request-Forwarding': 'true' } },
    { path: '/v1/kv/app/one', headers: { 'X-Vault-Request': 'true', 'X-Vault-Index': 'none' } },
    { path: '/v1/kv/app/one', headers: { 'Accept-Encoding': 'gzip' } },
  ],
}

/** The same requests straight to Vault and through the front door: status, headers that matter, and the shape of the JSON are the same. */
export function differential(open: () => Promise<Sides>): void {
  let sides: Sides
  const limited: Record<Side['name'], string> = { straight: '', through: '' }

  beforeAll(async () => {
    sides = await open()
    await sides.both(async side => {
      const { api } = side.vault
      await api('POST', 'secret/data/app/one', { data: { a: 'b' } })
      await api('POST', 'sys/mounts/kv', { type: 'kv' })
      await api('POST', 'kv/app/one', { a: 'b' })
      await api('PUT', 'sys/policies/acl/reader', { policy: 'path "secret/data/*" { capabilities = ["read"] }' })
      const { body } = await api('POST', 'auth/token/create', { policies: ['reader'] })
      limited[side.name] = body.auth.client_token
    })
  })
  afterAll(() => sides[Symbol.asyncDispose]())

  const tokenOf = (side: Side, as: NonNullable<Asked['as']>) =>
    ({ root: side.vault.rootToken, limited: limited[side.name], nobody: 'hvs.nobody', none: undefined })[as]

  function send(side: Side, { method = 'GET', path, body, headers = {}, as = 'root' }: Asked): Promise<Response> {
    const token = tokenOf(side, as)
    const all = { ...(token === undefined ? {} : { 'X-Vault-Token': token }), ...headers }
    return fetch(`${side.address}${path}`, { method, headers: all, redirect: 'manual', ...(body === undefined ? {} : { body }) })
  }

  describe.each(Object.entries(corpus))('%s', (_, requests) => {
    test.each(
      requests.map(
        asked =>
          [
            `${asked.method ?? 'GET'} ${asked.path} ${JSON.stringify(asked.headers ?? '')} ${asked.as ?? ''}`.trim(),
            asked,
          ] as const,
      ),
    )('%s', async (_name, asked) => {
      const { straight, through } = await sides.both(async side => seen(await send(side, asked)))
      expect(through).toEqual(straight)
    })
  })

  test('what is outside the API, the UI and what is well known is absent; Vault leads a browser to its UI', async () => {
    for (const path of ['/nothing', '/v2/secret/data/app/one']) {
      const { straight, through } = await sides.both(side => send(side, { path }))
      expect({ straight: straight.headers.get('location'), through: through.status }).toEqual({ straight: '/ui/', through: 404 })
    }
  })

  test('a secret is wrapped and unwrapped once, whichever way', async () => {
    const { straight, through } = await sides.both(async side => {
      const wrapped = (await (await send(side, { path: '/v1/kv/app/one', headers: { 'X-Vault-Wrap-TTL': '60s' } })).json()) as {
        wrap_info: { token: string }
      }
      const unwrap = {
        path: '/v1/sys/wrapping/unwrap',
        method: 'POST',
        as: 'none',
        headers: { 'X-Vault-Token': wrapped.wrap_info.token },
      } as const
      return [shapeOf(wrapped), await seen(await send(side, unwrap)), await seen(await send(side, unwrap))]
    })
    expect(through).toEqual(straight)
  })

  describe('sizes', () => {
    /** So many pieces, none of them longer than Vault takes a string. */
    const sized = (mebibytes: number) =>
      JSON.stringify(Object.fromEntries(Array.from({ length: 2 * mebibytes }, (_, at) => [at, 'x'.repeat(2 ** 19 - 10)])))

    test('a body of 31 MiB is kept and comes back', async () => {
      const body = sized(31)
      const { straight, through } = await sides.both(async side => {
        const { status } = await send(side, { path: '/v1/kv/large', method: 'POST', body })
        const back = (await (await send(side, { path: '/v1/kv/large' })).json()) as { data: object }
        await side.vault.api('DELETE', 'kv/large')
        return { status, same: JSON.stringify(back.data) === body }
      })
      expect(through).toEqual(straight)
      expect(through).toEqual({ status: 204, same: true })
    })

    test('one of more than 32 MiB is refused with the same words', async () => {
      const { straight, through } = await sides.both(async side => {
        const { status, body } = await seen(await send(side, { path: '/v1/kv/large', method: 'POST', body: sized(33) }))
        return { status, body }
      })
      expect(through).toEqual(straight)
    })

    test('a head of 20 KB goes on', async () => {
      const asked = { path: '/v1/kv/app/one', headers: { 'X-Padding': 'x'.repeat(20_000) } }
      const { straight, through } = await sides.both(async side => seen(await send(side, asked)))
      expect(through).toEqual(straight)
      expect(through.status).toBe(200)
    })
  })

  describe('on one connection, by the wire', () => {
    const head = (line: string, side: Side, more: readonly string[] = []) =>
      [`${line} HTTP/1.1`, `Host: ${new URL(side.address).host}`, `X-Vault-Token: ${side.vault.rootToken}`, ...more, '', ''].join(
        '\r\n',
      )
    const bodies = (text: string) => [...text.matchAll(/\r\n\r\n(\{.*\})\n/g)].map(([, json = '']) => shapeOf(JSON.parse(json)))

    test('LIST and other verbs by turns, kept alive', async () => {
      const { straight, through } = await sides.both(async side => {
        const line = await dial(side.address)
        const asked = [
          'LIST /v1/kv/app',
          'GET /v1/kv/app/one',
          'LIST /v1/secret/metadata/app',
          'LIST /v1/kv/none',
          'GET /v1/kv/app?list=true',
        ]
        for (const [at, one] of asked.entries()) {
          line.write(head(one, side))
          await line.until(new RegExp(`(?:HTTP/1\\.1 [\\s\\S]*?\\r\\n\\r\\n\\{.*\\}\\n[\\s\\S]*){${at + 1}}`))
        }
        return {
          statuses: [...line.text().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
          bodies: bodies(line.text()),
        }
      })
      expect(through).toEqual(straight)
      expect(through.statuses).toEqual(['200', '200', '200', '404', '200'])
    })

    test('every byte in a packet of its own', async () => {
      const { straight, through } = await sides.both(async side => {
        const line = await dial(side.address)
        line.socket.setNoDelay(true)
        const body = '{"a":"in pieces"}'
        const bytes = `${head('POST /v1/kv/pieces', side, [`Content-Length: ${body.length}`]).slice(0, -2)}\r\n${body}${head('LIST /v1/kv/', side)}`
        for (const byte of bytes.slice(0, bytes.indexOf('LIST'))) await new Promise(resolve => line.socket.write(byte, resolve))
        await line.until('HTTP/1.1 204')
        for (const byte of bytes.slice(bytes.indexOf('LIST'))) await new Promise(resolve => line.socket.write(byte, resolve))
        return bodies(await line.until('"pieces"'))
      })
      expect(through).toEqual(straight)
    })

    test('chunked, and a body that the client waits to be asked for', async () => {
      const { straight, through } = await sides.both(async side => {
        const line = await dial(side.address)
        line.write(`${head('POST /v1/kv/chunks', side, ['Transfer-Encoding: chunked'])}5\r\n{"a":\r\n4\r\n"b"}\r\n0\r\n\r\n`)
        await line.until('HTTP/1.1 204')
        line.write(head('POST /v1/kv/waits', side, ['Expect: 100-continue', 'Content-Length: 9']))
        await line.until('HTTP/1.1 100 Continue\r\n\r\n')
        line.write('{"a":"b"}')
        await line.until(/204[\s\S]*100 Continue[\s\S]*204/)
        line.write(head('LIST /v1/kv', side))
        return bodies(await line.until('"waits"'))
      })
      expect(through).toEqual(straight)
    })

    test('sys/monitor flows until the client leaves', async () => {
      const { straight, through } = await sides.both(async side => {
        const line = await dial(side.address)
        line.write(head('GET /v1/sys/monitor?log_level=trace', side))
        await until('a line of the log', async () => {
          await side.vault.api('POST', 'sys/mounts/logged', { type: 'kv' })
          await side.vault.api('DELETE', 'sys/mounts/logged')
          return line.text().includes('[TRACE]')
        })
        line.socket.destroy()
        return line.text().slice(0, line.text().indexOf('\r\n'))
      })
      expect(through).toEqual(straight)
    })
  })
}
