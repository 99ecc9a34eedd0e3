import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { dataOf, type TestBroker } from '../fakes/broker.ts'
import type { FakeVault } from '../fakes/vault.ts'
import { openDeaths, type Provider } from './rotation_deaths_world.ts'

// A rotation of what an operator brought, whose process dies at any step: nothing is made, and nothing is ended, at the provider.

const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const key = { public_key: publicKey.export({ type: 'spki', format: 'pem' }) }
const data = { type: 'rsa-2048', exportable: false, allow_plaintext_backup: false, keys: { 1: key } }
const vault: FakeVault['fault'] = ({ path }) => {
  if (path === 'transit/keys/assay-gh-next') return { status: 200, body: { data } }
  return path === 'transit/sign/assay-gh-next' ? { status: 200, body: { data: { signature: 'vault:v1:c2ln' } } } : undefined
}
const settings = { app_id: '12', installation_id: '34', key: 'assay-gh' }

const gitHub = (): Provider => ({
  vault,
  answer: () => ({ status: 200, body: {} }),
  write: (ask, url) => ask('update', 'broker/integration/it', { type: 'github_app', settings: { ...settings, api_url: url } }),
  order: { settings: { key: 'assay-gh-next' } },
})

const used = async ({ ask }: TestBroker) =>
  (dataOf(await ask('read', 'broker/integration/it'))['settings'] as unknown as { key: string }).key

/** What the log has of it by now: whoever died wrote into one of its own. */
const told = async (process: TestBroker) =>
  (await process.records())
    .filter(one => one['operation'] === 'rotate')
    .map(one => `${String(one['result'])} ${String(one['handle'])}`)

async function steps(): Promise<number> {
  await using at = await openDeaths(gitHub)
  return await at.rotate(await at.start())
}

test.each(['before', 'after'] as const)('%s it takes effect: the log says of the key in use that it is', async when => {
  const all = await steps()
  expect(all).toBeGreaterThan(6)
  const seen = new Set<string>()
  for (let step = 1; step <= all; step++) {
    await using at = await openDeaths(gitHub)
    await at.rotate(await at.start(), { step, when })
    const process = await at.start()
    at.world.pass(61_000)
    await process.broker.integrations.upkeep.round()
    for (const one of await told(process)) seen.add(`${await used(process)}: ${one}`)
  }
  expect([...seen]).toEqual(['assay-gh: discarded {"key":"assay-gh-next"}', 'assay-gh-next: rotated {"key":"assay-gh-next"}'])
})
