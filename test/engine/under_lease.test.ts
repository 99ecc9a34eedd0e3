import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { type Order, openUnderLease } from '../../engine/issue/under_lease.ts'
import type { Credential } from '../../engine/issuers/index.ts'
import { NothingDone } from '../../engine/issuers/outbound.ts'
import { ExchangeRefusal, Unwanted } from '../../engine/issuers/refusal.ts'
import type { Leases } from '../../engine/leases/service.ts'
import { Secret } from '../../engine/secret.ts'

const handle = { id: 'one' }
const made: Credential = { fields: { token: new Secret('a') }, expiresAt: 1600, granted: {} }

type Wanted = { readonly order?: Partial<Order>; readonly still?: boolean; readonly lease?: object }

/** Makes a credential, with all that is asked of leases meanwhile. */
async function under(make: Order['make'], { order = {}, still = true, lease = {} }: Wanted = {}) {
  const told: unknown[] = []
  const begun = {
    leaseId: 'broker/creds/r/1',
    confirm: async (...of: unknown[]) => {
      told.push(['confirm', ...of])
      return { leaseId: 'broker/creds/r/1', issuedAt: 1000, expiresAt: 1600, maxExpiresAt: 4600, ...lease }
    },
    abandon: async (certain: boolean) => void told.push(['abandon', certain]),
  }
  const leases = {
    begin: async ({ accessor, ttlSeconds, maxTtlSeconds, under: of }: Readonly<Record<string, unknown>>) => {
      told.push(['begin', { accessor, ttlSeconds, maxTtlSeconds, ...(of === undefined ? {} : { under: of }) }])
      return begun
    },
    revoke: async (id: string) => void told.push(['revoke', id]),
  } as unknown as Leases
  const asked = {
    mount: {},
    maxTtlSeconds: 3600,
    grant: { ttlSeconds: 600, issuedAt: 1000 },
    asker: { accessor: 'accessor', role: 'r', request: 'q' },
    make,
    ...order,
  } as unknown as Order
  const issue = openUnderLease(leases, { still: async () => still })
  const came = await issue(asked).catch((error: unknown) => error)
  return { came, told }
}

const BEGUN = ['begin', { accessor: 'accessor', ttlSeconds: 600, maxTtlSeconds: 3600 }]

describe('a credential', () => {
  test('that can be revoked has a lease, and ends with it', async () => {
    const { came, told } = await under(async () => ({ ...made, expiresAt: 9000, handle }))
    expect(told).toEqual([BEGUN, ['confirm', handle, 9000]])
    expect(came).toMatchObject({ expiresAt: 1600, lease: { id: 'broker/creds/r/1', durationSeconds: 600, renewable: true } })
  })

  test('that ends before its lease ends then, and one that cannot live longer is not renewed', async () => {
    const { came } = await under(async () => ({ ...made, expiresAt: 1300, handle }), { lease: { maxExpiresAt: 1600 } })
    expect(came).toMatchObject({ expiresAt: 1300, lease: { durationSeconds: 600, renewable: false } })
  })

  test('that cannot be revoked has none, and what was begun for it is dropped', async () => {
    const { came, told } = await under(async () => made)
    expect([came, told]).toEqual([made, [BEGUN, ['abandon', true]]])
  })

  test('is not made on a mount that is being disabled', async () => {
    const make = async () => {
      throw new Error('made')
    }
    const { came, told } = await under(make, { still: false })
    expect(came).toMatchObject({ code: 'unavailable', message: 'the mount is being disabled or moved' })
    expect(told).toEqual([BEGUN, ['abandon', true]])
  })

  test.each([
    ['which nobody watches', false, ''],
    ['which is found by the token of who asked, where that has to show that it lives', true, 'accessor'],
  ])('of an engine hangs under what was made for it, %s', async (_, heartbeat, accessor) => {
    const engine = { engine: true, heartbeat } as const
    const lease = { id: 'database/creds/r/1', durationSeconds: 600, renewable: false }
    const { came, told } = await under(
      async keep => {
        await keep?.({ token: 'accessor of a token' })
        return { ...made, handle, lease }
      },
      { order: engine },
    )
    expect(came).toMatchObject({ lease })
    expect(told).toEqual([
      ['begin', { accessor, ttlSeconds: 600, maxTtlSeconds: 600, under: { token: 'accessor of a token' } }],
      ['confirm', handle, 1600],
    ])
  })
})

describe('one that was not made', () => {
  test.each([
    ['the provider refused', new ExchangeRefusal('EXCHANGE_REFUSED', 'no'), true],
    ['the provider did nothing', new NothingDone('unavailable', 'no'), true],
    ['the provider did not answer', new BrokerError('unavailable', 'no answer'), false],
    ['something else went wrong', new Error('mistake'), false],
  ])('as %s: what was begun is dropped, for certain or not', async (_, error, certain) => {
    const { came, told } = await under(() => Promise.reject(error))
    expect(came).toBe(error)
    expect(told).toEqual([BEGUN, ['abandon', certain]])
  })

  test('or that nobody gets, and that lives, is revoked like any other', async () => {
    const error = new Unwanted(new Error('wider'), handle)
    const { came, told } = await under(() => Promise.reject(error))
    expect(came).toBe(error)
    expect(told).toEqual([BEGUN, ['confirm', handle, Number.POSITIVE_INFINITY], ['revoke', 'broker/creds/r/1']])
  })
})
