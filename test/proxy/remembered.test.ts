import { expect, test } from 'vitest'
import type { Opened } from '../../engine/sealing/open.ts'
import type { RevocationWatch } from '../../engine/sealing/revocations.ts'
import { Secret } from '../../engine/secret.ts'
import { openTokens } from '../../proxy/tokens.ts'
import { REAL } from '../fakes/sealing.ts'

const holder = { x5tS256: 'certificate', jkt: 'key' }

const opened = (more: Partial<Opened> = {}): Opened => ({
  fields: { token: new Secret(REAL) },
  binding: { tenant: 'mount', agent: 'a', plugin: 'p', x5tS256: holder.x5tS256, destinations: [], epoch: [0, 0] },
  jti: 'jti-1',
  txn: 'txn',
  issuedAt: 0,
  expiresAt: 600,
  mode: 'datakey',
  ...more,
})
const LIVE = { standing: () => 'live' } as unknown as RevocationWatch

test.each([
  [0, 0, 'OK'],
  [599.999, 0, 'OK'],
  [600, 0, 'TOKEN_EXPIRED'],
  [100, 160, 'OK'],
  [100, 160.001, 'TOKEN_EXPIRED'],
])('at %f, a token of %f that ends at 600: %s', async (second, issuedAt, code) => {
  const to = { scheme: 'https', host: 'api.example.com', port: 443, method: 'GET', path: '/' }
  const rule = { scheme: 'https', host: 'api.example.com', port: 443, methods: [], path: '/**' }
  const value = opened({ issuedAt, binding: { ...opened().binding, destinations: [rule] } })
  const opener = async () => ({ ok: true, value }) as const
  const tokens = openTokens({ opener, revocations: LIVE, now: () => second * 1000, opened: () => undefined })
  const found = await tokens.open('token', holder)
  const permitted = found.ok ? tokens.permits(found.value, to) : found
  expect(permitted.ok ? 'OK' : permitted.code).toBe(code)
})

test.each([
  ['lives', {}, true],
  ['is over', { expiresAt: 100 }, false],
  ['was opened inside Vault', { mode: 'transit' }, false],
] as const)('what %s, %j, is remembered: %s', async (_, more, isRemembered) => {
  const opener = async () => ({ ok: true, value: opened(more) }) as const
  const tokens = openTokens({ opener, revocations: LIVE, now: () => 100_000, opened: () => undefined })
  await tokens.open('token', holder)
  expect(tokens.remembered('token', holder) !== undefined).toBe(isRemembered)
})

test('a token that two requests bring at once is remembered once, and all that looks for it is overwritten when it is over', async () => {
  let second = 0
  const vault = Promise.withResolvers<void>()
  const tokens = openTokens({
    opener: () => vault.promise.then(() => ({ ok: true, value: opened() })),
    revocations: LIVE,
    now: () => second * 1000,
    opened: () => undefined,
  })
  const asking = [tokens.open('token', holder), tokens.open('token', holder)]
  vault.resolve()
  const scrubbers = (await Promise.all(asking)).map(found => (found.ok ? found.value.scrubber([]) : undefined))
  second = 600
  tokens.sweep()
  tokens.sweep()
  for (const scrubber of scrubbers) {
    const text = Buffer.from('anything at all')
    expect([scrubber?.whole(text), text.toString()]).toEqual([true, '*'.repeat(text.length)])
  }
})
