import { describe, expect, test } from 'vitest'
import { openLeased } from '../../engine/issue/leased.ts'
import type { Order } from '../../engine/issue/under_lease.ts'
import type { Credential } from '../../engine/issuers/index.ts'
import type { Leases } from '../../engine/leases/service.ts'
import { Secret } from '../../engine/secret.ts'
import { type Vault, VaultRefusal } from '../../engine/vault/client.ts'
import { testWorld } from '../fakes/world.ts'

/** Who asks again for credentials of an engine, whose leases Vault keeps, or of ours. */
function asking({ ours }: { readonly ours?: { state: string } } = {}) {
  const world = testWorld()
  const at = () => Math.floor(world.now() / 1000)
  let made = 0
  let refusal: Error | undefined
  const leases = { lookup: async () => ours, begin: async () => ({}) } as unknown as Leases
  const vault = {
    write: async () => {
      if (refusal) throw refusal
    },
  } as unknown as Vault
  const leased = openLeased(leases, { still: async () => true }, vault, world)
  const ask = async (who: { request?: string; lastUse?: boolean; decision?: object; life?: number; lease?: boolean } = {}) => {
    const { request = 'same', lastUse = false, decision = {}, life = 600, lease = true } = who
    const make = async (): Promise<Credential> => {
      made += 1
      const held = { id: 'database/creds/r/1', durationSeconds: life, renewable: false }
      return { fields: {}, expiresAt: at() + life, granted: {}, ...(lease ? { lease: held } : {}) }
    }
    const asker = { token: new Secret('hvs.a'), accessor: 'a', role: 'r', lastUse, request }
    const order = { engine: true, grant: { issuedAt: at(), ttlSeconds: 600 }, asker, make } as unknown as Order
    return leased(order, decision)
  }
  const refuse = (error: Error | undefined) => {
    refusal = error
  }
  return { world, ask, refuse, made: () => made }
}

describe('who asks the same again', () => {
  test('gets the same for a minute, with what is left of its life', async () => {
    const { world, ask, made } = asking()
    expect((await ask()).lease?.durationSeconds).toBe(600)
    world.pass(59_000)
    expect((await ask()).lease?.durationSeconds).toBe(541)
    expect(made()).toBe(1)
    world.pass(1_001)
    await ask()
    expect(made()).toBe(2)
  })

  test.each([
    ['another request', { request: 'other' }],
    ['what was decided otherwise', { decision: { scope: ['b'] } }],
  ])('gets another one for %s', async (_, other) => {
    const { ask, made } = asking()
    await ask()
    await ask(other)
    expect(made()).toBe(2)
  })

  test.each([
    ['has ended', { life: 10 }],
    ['has no lease', { lease: false }],
  ])('gets another one where that one %s', async (_, other) => {
    const { world, ask, made } = asking()
    await ask(other)
    world.pass(10_000)
    await ask(other)
    expect(made()).toBe(2)
  })

  test.each([
    ['active', 1],
    ['pending', 2],
    ['revoked', 2],
  ])('of a lease of ours that is %s: %i in all', async (state, count) => {
    const { ask, made } = asking({ ours: { state } })
    await ask()
    await ask()
    expect(made()).toBe(count)
  })

  test.each([
    ['says that it is gone', new VaultRefusal(400, ['invalid lease']), 2],
    ['does not let them ask', new VaultRefusal(403, ['permission denied']), 1],
    ['does not answer', new Error('down'), 1],
  ])('of a lease of Vault, when Vault %s, %s: %i in all', async (_, error, count) => {
    const { ask, refuse, made } = asking()
    await ask()
    refuse(error)
    await ask()
    expect(made()).toBe(count)
  })
})

test('a token with one use left gets nothing that has a lease, in the words of Vault', async () => {
  const { ask, made } = asking()
  await expect(ask({ lastUse: true })).rejects.toThrow(/^Secret cannot be returned; token had one use left/)
  expect(made()).toBe(0)
})
