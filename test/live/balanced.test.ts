import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Balancer, startBalancer } from '../fakes/balancer.ts'
import { until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { type Here, moveClocks, serveHere } from './in_process.ts'
import { ask } from './world.ts'

// A front door before a balancer that loses what it knows of its connections, and tells nobody.

const DEADLINE_MS = 1000

let vault: Vault
let balancer: Balancer
let here: Here
let passes: (ms: number) => void
beforeAll(async () => {
  vault = await startVault()
  balancer = await startBalancer(vault.doorAddress)
  passes = moveClocks()
  here = await serveHere({ ...vault, doorAddress: balancer.address }, { vault: { deadline_ms: DEADLINE_MS } })
})
afterAll(async () => {
  vi.restoreAllMocks()
  await here?.[Symbol.asyncDispose]()
  await balancer?.[Symbol.asyncDispose]()
  await vault?.stop()
})

const statuses = async (path: string) => {
  const all = Array.from({ length: 8 }, () => ask(here.address, 'GET', path, { token: vault.rootToken }))
  return new Set((await Promise.all(all)).map(({ status }) => status))
}

test('what is passed on does not wait on connections of which its own calls know that they are dead', async () => {
  expect(await statuses('sys/policies/acl/default')).toEqual(new Set([200]))
  balancer.swallow()
  passes(1000)
  await until('it to be ready', async () => (await fetch(`${here.address}/readyz`)).status === 200)
  // each of them may take a minute and a half
  expect(await statuses('sys/policies/acl/default')).toEqual(new Set([200]))
})
