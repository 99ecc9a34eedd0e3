import { expect, test } from 'vitest'
import { assertNotWider } from '../../engine/issue/not_wider.ts'
import type { Prepared } from '../../engine/issue/prepared.ts'
import type { Credential, Grant } from '../../engine/issuers/index.ts'
import type { IssuerPorts } from '../../engine/issuers/issuer.ts'
import { Unwanted } from '../../engine/issuers/refusal.ts'
import { Secret } from '../../engine/secret.ts'

const NOW = 1_000_000
const handle = { id: 'one' }

type Case = { readonly role?: object; readonly credential?: Partial<Credential>; readonly revoke?: () => Promise<void> }

/** What becomes of a credential that lives `life` seconds, where 900 were asked for; and what was revoked of it. */
async function outcome(life: number, { role = {}, credential = {}, revoke }: Case) {
  const revoked: unknown[] = []
  const issuer = {
    revoke: async (one: unknown) => {
      revoked.push(one)
      await revoke?.()
    },
  }
  const record = { issuer: 'oauth2', delivery: 'direct', provider_ttl: 0, ...role }
  const given = { fields: { token: new Secret('a') }, expiresAt: NOW + life, granted: {}, ...credential }
  const ports = { integration: 'acme', now: () => NOW * 1000 } as IssuerPorts
  const thrown = await assertNotWider({ record, issuer } as unknown as Prepared, { ttlSeconds: 900 } as Grant, given, ports).then(
    () => undefined,
    (error: unknown) => error,
  )
  return { thrown, revoked }
}

test.each<readonly [string, number, Case, string]>([
  ['what lives as long as was asked', 900, {}, 'OK'],
  ['what lives a second', 1, {}, 'OK'],
  ['what ends now', 0, {}, 'EXCHANGE_UNUSABLE'],
  ['what has ended', -1, {}, 'EXCHANGE_UNUSABLE'],
  ['what has no end', Number.NaN, {}, 'EXCHANGE_UNUSABLE'],
  ['what ends never', Number.POSITIVE_INFINITY, {}, 'EXCHANGE_UNUSABLE'],
  ['what ends within a second', 899.5, {}, 'EXCHANGE_UNUSABLE'],
  ['a secret that is empty', 900, { credential: { fields: { user: 'a', token: new Secret('') } } }, 'EXCHANGE_UNUSABLE'],
  ['a text that is empty, and no secret', 900, { credential: { fields: { user: '', token: new Secret('a') } } }, 'OK'],
  ['what lives longer by what clocks may differ', 905, {}, 'OK'],
  ['what lives longer', 906, {}, 'EXCHANGE_WIDER'],
  ['what lives as long as the role puts up with', 1805, { role: { provider_ttl: 1800 } }, 'OK'],
  ['what lives longer than the role puts up with', 1806, { role: { provider_ttl: 1800 } }, 'EXCHANGE_WIDER'],
  ['what lives for more than an hour, which no role puts up with', 3606, { role: { provider_ttl: 7200 } }, 'EXCHANGE_WIDER'],
  ['what was asked for, of a role that puts up with less', 900, { role: { provider_ttl: 60 } }, 'OK'],
  ['what is ended here', 86_400, { credential: { handle } }, 'OK'],
  ['what nobody ends, as it says itself when it does', 906, { credential: { handle, selfContained: true } }, 'EXCHANGE_WIDER'],
  ['what ends at the proxy', 86_400, { role: { delivery: 'sealed' } }, 'OK'],
  ['what has ended, and is to be sealed', 0, { role: { delivery: 'sealed' } }, 'EXCHANGE_UNUSABLE'],
])('%s: of %d s, %j, %s', async (_, life, given, code) => {
  expect((await outcome(life, given)).thrown).toEqual(code === 'OK' ? undefined : expect.objectContaining({ code }))
})

test('what lives longer is refused with how long, and with what would put up with it or end it', async () => {
  expect((await outcome(906, {})).thrown).toMatchObject({
    detail: expect.stringMatching(
      /^acme: it lives 906 s, asked were 900 s; provider_ttl .*, and delivery=sealed ends it$/,
    ) as string,
  })
})

test('what nobody gets is revoked, with what it is known by', async () => {
  expect(await outcome(0, { credential: { handle } })).toMatchObject({ thrown: { code: 'EXCHANGE_UNUSABLE' }, revoked: [handle] })
  expect(await outcome(0, {})).toMatchObject({ thrown: { code: 'EXCHANGE_UNUSABLE' }, revoked: [] })
  expect(await outcome(900, { credential: { handle } })).toEqual({ thrown: undefined, revoked: [] })
})

test('what could not be revoked at once is told with how that is done', async () => {
  const revoke = () => Promise.reject(new Error('down'))
  const { thrown } = await outcome(0, { credential: { handle }, revoke })
  expect(thrown).toBeInstanceOf(Unwanted)
  expect(thrown).toMatchObject({ why: { code: 'EXCHANGE_UNUSABLE' }, handle })
})
