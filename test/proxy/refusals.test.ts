import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { refusals } from '../../proxy/refusals.ts'
import { REAL } from '../fakes/sealing.ts'
import { provocations } from './provocations.ts'
import { openProxyWorld, type ProxyWorld } from './world.ts'

const aims = ['http://127.0.0.1:PORT', 'http://aws.test:81', 'http://body.test:81', 'http://inside.test:81', 'http://down.test:1']
let world: ProxyWorld
let token: string

beforeAll(async () => {
  const inject = [{ header: { name: 'Authorization', value: 'Bearer {token}' } }]
  const http = { kind: 'http', scheme: 'http' }
  world = await openProxyWorld({
    service: { allow: ['GET,POST /repos/**', 'GET /'], token_routes: ['POST /repos/token'], head_within_ms: 1000 },
    config: { limits: { held_body_bytes: 1024, head_within_ms: 2000 } },
    more: [
      {
        ...http,
        name: 'aws',
        hosts: ['aws.test:81'],
        match: 'aws',
        inject: [{ aws: { regions: ['eu-west-1'], services: ['s3'] } }],
      },
      { ...http, name: 'body', hosts: ['body.test:81'], inject: [{ body: { placeholder: '{{token}}', value: '{token}' } }] },
      { ...http, name: 'basic', hosts: ['basic.test:81'], match: 'basic', inject },
      { ...http, name: 'crates', hosts: ['crates.test:81'], match: 'header Authorization', inject },
      { ...http, name: 'inside', hosts: ['inside.test:81'], inject },
      { ...http, name: 'down', hosts: ['down.test:1'], addresses: ['127.0.0.1'], inject },
    ],
  })
  world.upstream.answer = (incoming, outgoing) => {
    if (incoming.url === '/repos/gzip') outgoing.setHeader('Content-Encoding', 'gzip').end('x')
    else if (incoming.url === '/repos/broken') incoming.socket.destroy()
    else if (incoming.url !== '/repos/never') outgoing.end('fine')
  }
  token = await world.seal({ destinations: aims.map(aim => aim.replace('PORT', String(world.upstream.port))) })
})
afterAll(() => world[Symbol.asyncDispose]())

test.each(provocations)('%s: %s', async (_, code, provoke) => {
  const before = world.upstream.seen.length
  const answered = await provoke(world, token)
  expect(answered.code).toBe(code)
  expect(answered.status).toBe(refusals[code].status)
  expect(answered.text).toContain('correlation id')
  expect(answered.text).not.toContain(token)
  const asked = { NO_PASSWORD: 'Basic realm="assay"', NO_AUTHORIZATION: 'Bearer realm="assay"' }[code as string]
  expect(answered.headers['www-authenticate']).toBe(asked)
  if (!code.startsWith('UPSTREAM')) expect(world.upstream.seen.length).toBe(before)
})

test('the refusals of tokens, of clocks, of outages, of connections and of SSH are provoked in their own files', () => {
  const elsewhere = Object.keys(refusals).filter(code =>
    /^TOKEN_(?!ROUTE|STRAY|DESTINATION)|^REVOCATIONS|^UNAVAILABLE|^CONNECTIONS|^HOST_KEY|^SESSION_SIGNATURE/.test(code),
  )
  expect(new Set([...provocations.map(([, code]) => code), ...elsewhere])).toEqual(new Set(Object.keys(refusals)))
})

test('every refusal is in the audit log, with its code, and none with what was sent', async () => {
  const records = await world.records()
  const codes = new Set(records.filter(one => one['type'] === 'refusal').map(one => one['code']))
  expect(codes).toEqual(new Set(provocations.map(([, code]) => code)))
  expect(JSON.stringify(records)).not.toContain(token)
  expect(JSON.stringify(records)).not.toContain(REAL)
})

test('the table in the README is this table', async () => {
  const readme = await readFile(new URL('../../proxy/README.md', import.meta.url), 'utf8')
  const [, table] = /<!-- refusals:start -->\n([\s\S]*?)\n<!-- refusals:end -->/.exec(readme) ?? []
  expect(table).toBe(rows())
})

function rows(): string {
  const lines = Object.entries(refusals).map(
    ([code, { status, means, next, told }]) => `| \`${code}\` | ${status} | ${told ? code : 'TOKEN'} | ${means} | ${next} |`,
  )
  return ['| code | status | told as | what was wrong | what to do |', '|---|---|---|---|---|', ...lines].join('\n')
}
