import { expect, test } from 'vitest'
import { openPolicies } from '../../engine/issue/policies.ts'
import type { IssueSettings } from '../../engine/issue/settings.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { FRESH_MS } from '../../engine/vault/store.ts'
import { testWorld } from '../fakes/world.ts'

const mount = (id: string) => ({ id }) as Mount

/** Policies over a store that counts how often it is asked for their list. */
function opened() {
  const world = testWorld()
  let looked = 0
  let record: { policy: string } | undefined = { policy: 'permit (principal, action, resource);' }
  const settings = {
    policy: {
      list: async () => {
        looked += 1
        return ['one']
      },
      fresh: async () => record,
    },
    config: { fresh: async () => ({ actions: ['deploy'] }) },
  } as unknown as IssueSettings
  const policies = openPolicies(settings, world.monotonic)
  const reads = (policy: string | undefined) => {
    record = policy === undefined ? undefined : { policy }
  }
  return { world, policies, reads, looked: () => looked }
}

test('policies are compiled once for as long as what the store remembers counts, for each mount', async () => {
  const { world, policies, looked } = opened()
  await Promise.all([policies.of(mount('a')), policies.of(mount('b'))])
  world.pass(FRESH_MS - 1)
  await policies.of(mount('a'))
  expect(looked()).toBe(2)
  world.pass(1)
  await policies.of(mount('a'))
  expect(looked()).toBe(3)
})

test('what was written here counts at the next question', async () => {
  const { policies, looked } = opened()
  await policies.of(mount('a'))
  policies.changed(mount('b'))
  await policies.of(mount('a'))
  expect(looked()).toBe(1)
  policies.changed(mount('a'))
  await policies.of(mount('a'))
  expect(looked()).toBe(2)
})

test('a policy that is listed and cannot be read decides nothing, and is not remembered', async () => {
  const { policies, reads } = opened()
  reads(undefined)
  await expect(policies.of(mount('a'))).rejects.toThrow('the policy one is listed but cannot be read')
  reads('forbid (principal, action, resource);')
  expect(await policies.of(mount('a'))).toBeDefined()
})
