import { expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { type Login, MOST_LOGINS, openLogins } from '../../engine/lifecycle/logins.ts'
import { VaultRefusal } from '../../engine/vault/client.ts'
import type { OwnVault } from '../../engine/vault/own.ts'
import type { Store } from '../../engine/vault/store.ts'
import { testWorld } from '../fakes/world.ts'

// What is on record of the tokens of a machine, how many they are, and what is taken off it.

const id = { mountId: 'mount', tpmId: 'tpm' }

/** Tokens by their accessors, with the seconds that Vault gives them; `lost` are those that it does not answer for. */
function opened(alive: Readonly<Record<string, number>> = {}) {
  const world = testWorld()
  const kept = new Map<string, Login>()
  const [lost, revoked] = [new Set<string>(), [] as string[]]
  let lists = 0
  const store = {
    list: async (folder: string) => {
      lists += 1
      return [...kept.keys()].map(path => path.slice(folder.length))
    },
    fresh: async (path: string) => ({ value: kept.get(path), version: 1 }),
    put: async (path: string, login: Login) => void kept.set(path, login),
    delete: async (path: string) => void kept.delete(path),
  } as unknown as Store
  const write = async (path: string, { accessor }: { readonly accessor: string }) => {
    if (lost.has(accessor)) throw new BrokerError('unavailable', 'vault does not answer')
    if (path === 'auth/token/revoke-accessor') return void revoked.push(accessor)
    const ttl = alive[accessor]
    if (ttl === undefined) throw new VaultRefusal(403, ['invalid accessor'])
    return { data: { ttl } }
  }
  const logins = openLogins({ write } as unknown as OwnVault, store, world)
  const note = (accessor: string, more: Partial<Login> = {}) =>
    logins.note(id, { accessor, role: 'r', reference: 'good', epoch: 0, expires_at: seconds() + 900, ...more })
  const seconds = () => Math.floor(world.now() / 1000)
  return { world, kept, lost, revoked, logins, note, seconds, lists: () => lists }
}

test('how many a machine has is looked up once in a minute, and counted on from there', async () => {
  const { logins, note, world, kept, lists } = opened()
  await note('a')
  expect(await logins.count(id)).toBe(1)
  await note('b')
  expect([await logins.count(id), lists()]).toEqual([2, 1])
  // by another replica
  kept.clear()
  world.pass(59_999)
  expect(await logins.count(id)).toBe(2)
  world.pass(2)
  expect([await logins.count(id), lists()]).toEqual([0, 2])
})

test('where they are as many as may be, those that ended are taken out, and those that were renewed stay', async () => {
  const { logins, note, world, kept, seconds } = opened({ renewed: 600 })
  for (let count = 0; count < MOST_LOGINS - 2; count++) await note(`${count}`, { expires_at: seconds() + 3600 })
  await note('ended')
  await note('renewed')
  world.pass(900_000)
  expect(await logins.count(id)).toBe(MOST_LOGINS - 1)
  const accessors = new Map([...kept.values()].map(login => [login.accessor, login.expires_at]))
  expect([accessors.has('ended'), accessors.get('renewed')]).toEqual([false, seconds() + 600])
})

test('those that Vault does not end now stay on record, and are told', async () => {
  const { logins, note, kept, lost, revoked } = opened()
  for (const [epoch, accessor] of ['old', 'lost', 'new'].entries()) await note(accessor, { epoch })
  lost.add('lost')
  expect(await logins.end(id, ({ epoch }) => epoch < 2)).toEqual({ accessors: ['old'], failed: 1 })
  expect([revoked, [...kept.values()].map(({ accessor }) => accessor)]).toEqual([['old'], ['lost', 'new']])
  expect(await logins.count(id)).toBe(2)
  lost.clear()
  expect(await logins.end(id, ({ epoch }) => epoch < 2)).toEqual({ accessors: ['lost'], failed: 0 })
})

test('what Vault does not answer for is not taken for ended', async () => {
  const { logins, note, world, kept, lost } = opened()
  await note('a')
  lost.add('a')
  world.pass(901_000)
  expect(await logins.end(id, () => false)).toEqual({ accessors: [], failed: 1 })
  expect(kept.size).toBe(1)
})
