import { expect, test } from 'vitest'
import { type Broker, BrokerError, type ConsentView } from '../../../engine/index.ts'
import { type ConsentParts, consentRoutes } from '../../../mounts/consent/routes.ts'

// What a browser is told beside the page; the journey itself is shown in a browser (`live/consent.test.ts`).

const view: ConsentView = {
  wish: {
    role: 'review',
    integration: 'forge',
    tpmId: 'sha256-aa',
    plugin: 'reviewer',
    action: 'repo.read',
    scope: [],
    audience: 'https://forge.example.com',
    ttlSeconds: 60,
    task: undefined,
  },
  userCode: 'BCDF-GHJK',
  state: 'asked',
  provider: 'id.example.com',
  consentSeconds: 60,
}
const overTls = () => true

async function cookieOf(overTls: boolean): Promise<string> {
  const broker = { issue: { consent: { view: async () => view, overTls: () => overTls } } } as unknown as Broker
  const world = { random: (size: number) => Buffer.alloc(size, 1) } as unknown as ConsentParts['world']
  // as it comes from whoever ended TLS in front of the service
  const answer = await consentRoutes({ broker, world, newId: () => 'txn' }).request('http://assay.internal/assay/consent/one')
  expect(answer.status).toBe(200)
  return answer.headers.get('set-cookie') ?? ''
}

test('the cookie goes over TLS alone where people reach the page that way, whoever ends it', async () => {
  expect(await cookieOf(true)).toMatch(/^__Host-assay-consent=[^;]+; Max-Age=900; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
  expect(await cookieOf(false)).toMatch(/^assay-consent=[^;]+; Max-Age=900; Path=\/assay\/consent\/; HttpOnly; SameSite=Lax$/)
})

test('a cookie that another host of the domain could have set does not count over TLS', async () => {
  const seen: string[] = []
  const callback = async (_: URL, cookie: string) => {
    seen.push(cookie)
    return 'failed'
  }
  const parts = { broker: { issue: { consent: { callback, overTls } } }, newId: () => 'txn' } as unknown as ConsentParts
  for (const cookie of ['assay-consent=planted', '__Host-assay-consent=own; assay-consent=planted'])
    await consentRoutes(parts).request('https://assay.example.com/assay/consent/callback?state=one', { headers: { cookie } })
  expect(seen).toEqual(['', 'own'])
})

test('who opens the page while Vault is away sees that it did not work, and the log says why', async () => {
  const warned: unknown[] = []
  const view = async () => {
    throw new BrokerError('unavailable', 'vault does not answer')
  }
  const broker = { issue: { consent: { view } } } as unknown as Broker
  const world = { log: { warn: (fields: unknown) => warned.push(fields) } } as unknown as ConsentParts['world']
  const answer = await consentRoutes({ broker, world, newId: () => 'txn' }).request('http://assay.internal/assay/consent/one')
  expect([answer.status, answer.headers.get('content-security-policy')]).toEqual([400, expect.stringContaining("'none'")])
  expect(await answer.text()).toContain('It did not work')
  expect(warned).toMatchObject([{ error: { message: 'vault does not answer' } }])
})

test.each([
  ['sent', 200, 'Not finished yet'],
  ['redeeming', 200, 'Not finished yet'],
  ['granted', 200, 'Done'],
  ['denied', 200, 'Denied'],
  ['failed', 400, 'It did not work'],
] as const)('who comes to the page of a request that is %s hears that, and no more of it', async (state, status, words) => {
  const broker = { issue: { consent: { view: async () => ({ ...view, state }), overTls } } } as unknown as Broker
  const parts = { broker, world: {}, newId: () => 'txn' } as unknown as ConsentParts
  const answer = await consentRoutes(parts).request('http://assay.internal/assay/consent/one')
  const text = await answer.text()
  expect([answer.status, /<h1>(.*)<\/h1>/.exec(text)?.[1]]).toEqual([status, words])
  for (const told of [view.wish.plugin, view.wish.audience, view.userCode, '<form']) expect(text).not.toContain(told)
})

test('who allows it is led on by the page itself, to that address and no other', async () => {
  const next = new URL("https://id.example.com/it's?client_id=assay&scope=a+b&state=one")
  const consent = { overTls, view: async () => view, decide: async () => next }
  const parts = { broker: { issue: { consent } }, world: { random: (size: number) => Buffer.alloc(size, 1) }, newId: () => 'txn' }
  const app = consentRoutes(parts as unknown as ConsentParts)
  const asked = await app.request('http://assay.internal/assay/consent/one')
  const [proof = ''] = /(?<=name="proof" value=")[^"]+/.exec(await asked.text()) ?? []
  const answer = await app.request('http://assay.internal/assay/consent/one', {
    method: 'POST',
    headers: { cookie: asked.headers.get('set-cookie')?.split(';')[0] ?? '' },
    body: new URLSearchParams({ decision: 'allow', proof }),
  })
  const headers = ['location', 'refresh', 'cache-control', 'referrer-policy'].map(name => answer.headers.get(name))
  expect([answer.status, ...headers]).toEqual([200, null, null, 'no-store', 'no-referrer'])
  expect(answer.headers.get('content-security-policy')).toContain("form-action 'self';")
  const text = await answer.text()
  const escaped = 'https://id.example.com/it&#39;s?client_id=assay&amp;scope=a+b&amp;state=one'
  expect(text).toContain(`<meta http-equiv="refresh" content="0; url=${escaped}" />`)
  expect(text).toContain(`<a href="${escaped}">`)
})
