import { expect, test } from 'vitest'
import { LIFE_MS, openRequests, type Requests, stateOf, type Wish } from '../../engine/consent/requests.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'

const mount = { id: 'mount', path: 'broker/', type: 'broker' } as Mount
const wish: Wish = {
  role: 'review',
  integration: 'forge',
  tpmId: 'sha256-aa',
  plugin: 'p',
  action: 'a',
  scope: [],
  audience: '',
  ttlSeconds: 60,
  task: undefined,
}

function opened() {
  const world = testWorld()
  const store = openStore(fakeTransit(), 'assay', world.monotonic)
  const requests = openRequests(store, world)
  const kept = async () => {
    const places = await store.list('mount/consent/')
    return (await Promise.all(places.map(place => store.list(`mount/consent/${place}`)))).flat().length
  }
  return { world, requests, kept, ask: (tpmId = wish.tpmId) => requests.open(mount, { ...wish, tpmId }) }
}

/** A request that a person was sent away with, and all that leads to it. */
async function sent() {
  const { world, requests, ask } = opened()
  const { id, handle } = await ask()
  const found = await requests.byId(id)
  if (!found) throw new Error('it is not there')
  const state = stateOf(found, world.random)
  await requests.move(found, 'sent', { browser: '', state, nonce: '', verifier: '' })
  return { world, requests, id, handle, state }
}

type Way = readonly [name: string, which: 'id' | 'handle' | 'state', find: (requests: Requests, by: string) => Promise<unknown>]
const ways: readonly Way[] = [
  ['the address of its page', 'id', (requests, id) => requests.byId(id)],
  ['the handle of the agent', 'handle', (requests, handle) => requests.byHandle(mount, handle)],
  ['what came back from the provider', 'state', (requests, state) => requests.byState(state)],
]

test.each(ways)('%s leads to it for ten minutes', async (_, which, find) => {
  const { world, requests, ...by } = await sent()
  world.pass(LIFE_MS - 1)
  expect(await find(requests, by[which])).toMatchObject({ request: { state: 'sent' } })
  world.pass(1)
  expect(await find(requests, by[which])).toBeUndefined()
})

test.each(ways)(
  '%s leads to it as a whole: nothing does of which a part is another, missing or added',
  async (_, which, find) => {
    const { requests, ...by } = await sent()
    const parts = by[which].split('.')
    const others = parts.map((part, at) => parts.with(at, part.startsWith('x') ? `y${part.slice(1)}` : `x${part.slice(1)}`))
    for (const other of [
      ...others,
      ...parts.map((_, at) => parts.toSpliced(at, 1)),
      [...parts, 'x'],
      ['x', ...parts],
      ['..', ...parts.slice(1)],
    ])
      expect(await find(requests, other.join('.')), other.join('.')).toBeUndefined()
  },
)

test('what is no part of an address is not looked for in Vault', async () => {
  const looked: string[] = []
  const fresh = async (path: string) => void looked.push(path)
  const requests = openRequests({ fresh } as unknown as Store, testWorld())
  for (const bad of ['..', '', 'a/b', '../../other', 'x'.repeat(129), 'a%2fb'])
    for (const [, , find] of ways)
      for (const parts of [
        [bad, 'b', 'c'],
        ['a', bad, 'c'],
        ['a', 'b', bad],
      ])
        for (const by of [parts, [...parts, 'd']]) expect(await find(requests, by.join('.'))).toBeUndefined()
  expect(looked).toEqual([])
})

test('nothing came back of what nobody was sent away with', async () => {
  const { world, requests, ask } = opened()
  const found = await requests.byId((await ask()).id)
  expect(found && (await requests.byState(stateOf(found, world.random)))).toBeUndefined()
})

test('a machine waits for eight people at once, and for others as soon as one of those answered or all took too long', async () => {
  const { world, requests, kept, ask } = opened()
  const ids: string[] = []
  for (let count = 0; count < 8; count += 1) ids.push((await ask()).id)
  await expect(ask()).rejects.toMatchObject({ code: 'rate_limited' })
  await ask('sha256-bb')
  const first = await requests.byId(ids[0] ?? '')
  if (first) await requests.close(first)
  await ask()
  await expect(ask()).rejects.toMatchObject({ code: 'rate_limited' })
  expect(await kept()).toBe(9)
  world.pass(LIFE_MS)
  for (let count = 0; count < 8; count += 1) await ask()
  expect(await kept()).toBe(9)
})

test('the code that a person compares is eight letters that make no words', async () => {
  const { ask } = opened()
  const codes = [await ask(), await ask()].map(({ userCode }) => userCode)
  for (const code of codes) expect(code).toMatch(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
  expect(codes[0]).not.toBe(codes[1])
})
