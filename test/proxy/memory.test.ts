import { randomBytes } from 'node:crypto'
import { getHeapSnapshot, setFlagsFromString } from 'node:v8'
import { expect, test, vi } from 'vitest'
import { exchangeRaw, openProxyWorld } from './world.ts'

// V8 cuts texts in snapshots off after a kilobyte; a secret may stand behind that
setFlagsFromString('--heap-snapshot-string-limit=10000000')

/** How often each of these texts stands in the texts on the heap, after garbage was collected. They are made once the snapshot is: else they would be there by
 *  themselves. */
async function onHeap(texts: readonly (() => string)[]): Promise<number[]> {
  const chunks: Buffer[] = []
  for await (const chunk of getHeapSnapshot()) chunks.push(chunk as Buffer)
  const heap = Buffer.concat(chunks).toString('latin1')
  return texts.map(text => heap.split(text()).length - 1)
}

function newCanary(): () => string {
  const mirrored = randomBytes(24).toString('hex')
  return () => Buffer.from(mirrored).reverse().toString('latin1')
}

test('what sealed tokens held is in memory while they live, and not after one expired and the other was revoked', async () => {
  const canaries = [newCanary(), newCanary()] as const
  await using world = await openProxyWorld({ config: { limits: { watch_ms: 50 } } })
  const lives = Math.floor(Date.now() / 1000) + 3600
  const tokens = [
    await world.seal({ fields: { token: canaries[0]() } }),
    await world.seal({ fields: { token: canaries[1]() }, jti: 'jti-2', expiresAt: lives }),
  ]
  // connections that stay open, and ask for nothing more
  const sockets = await Promise.all(tokens.map(() => world.connect()))
  for (const [at, socket] of sockets.entries()) {
    const head = `GET ${world.base}/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${tokens[at]}\r\n\r\n`
    expect(await exchangeRaw(socket, head, text => text.endsWith('fine'))).toContain('200 OK')
  }
  expect(world.upstream.seen.splice(0)).toHaveLength(2)
  await world.records() // nothing is being written while the snapshot stops the world
  expect(Math.min(...(await onHeap(canaries)))).toBeGreaterThan(0)
  await world.sealing.revocations.deny('jti-2')
  world.pass(601_000)
  await vi.waitFor(async () => expect(await onHeap(canaries)).toEqual([0, 0]), { timeout: 60_000, interval: 300 })
  expect(sockets.map(socket => socket.destroyed)).toEqual([false, false])
  for (const socket of sockets) socket.destroy()
})
