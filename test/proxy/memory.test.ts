import { randomBytes } from 'node:crypto'
import { getHeapSnapshot, setFlagsFromString } from 'node:v8'
import { expect, test, vi } from 'vitest'
import { bearer, openProxyWorld } from './world.ts'

// V8 cuts texts in snapshots off after a kilobyte; a secret may stand behind that
setFlagsFromString('--heap-snapshot-string-limit=10000000')

/** How often a text stands in the texts on the heap, after garbage was collected. It is made once the snapshot is: else it would be there by itself. */
async function onHeap(text: () => string): Promise<number> {
  const chunks: Buffer[] = []
  for await (const chunk of getHeapSnapshot()) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('latin1').split(text()).length - 1
}

test('what a sealed token held is in memory while it lives, and not after', async () => {
  const mirrored = randomBytes(24).toString('hex')
  const canary = () => Buffer.from(mirrored).reverse().toString('latin1')
  await using world = await openProxyWorld()
  const token = await world.seal({ fields: { token: canary() }, expiresAt: Math.floor(Date.now() / 1000) + 4 })
  expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
  expect(world.upstream.seen.splice(0)).toHaveLength(1)
  await world.records() // nothing is being written while the snapshot stops the world
  expect(await onHeap(canary)).toBeGreaterThan(0)
  await vi.waitFor(async () => expect((await world.ask({ headers: bearer(token) })).code).toBe('TOKEN_EXPIRED'), {
    timeout: 20_000,
    interval: 200,
  })
  // requests that came in time
  world.upstream.seen.splice(0)
  await world.records()
  expect(await onHeap(canary)).toBe(0)
}, 120_000)
