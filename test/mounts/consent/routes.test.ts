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
  providerOrigin: 'https://id.example.com',
  consentSeconds: 60,
  overTls: true,
}

async function cookieOf(shown: ConsentView): Promise<string> {
  const broker = { issue: { consent: { view: async () => shown } } } as unknown as Broker
  const world = { random: (size: number) => Buffer.alloc(size, 1) } as unknown as ConsentParts['world']
  // as it comes from whoever ended TLS in front of the service
  const answer = await consentRoutes({ broker, world, newId: () => 'txn' }).request('http://assay.internal/assay/consent/one')
  expect(answer.status).toBe(200)
  return answer.headers.get('set-cookie') ?? ''
}

test('the cookie goes over TLS alone where people reach the page that way, whoever ends it', async () => {
  expect(await cookieOf(view)).toMatch(/; HttpOnly; Secure; SameSite=Lax$/)
  expect(await cookieOf({ ...view, overTls: false })).toMatch(/; HttpOnly; SameSite=Lax$/)
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
