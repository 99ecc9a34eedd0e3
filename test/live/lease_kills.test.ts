import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { start, until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { moveClocks } from './in_process.ts'
import { leasesOf } from './leases_child.ts'

/** A provider that keeps its own books of what it made and what of it lives. */
const books = { alive: new Map<string, boolean>(), made: new Map<string, string>(), count: 0 }
const living = () => [...books.alive.values()].filter(Boolean).length

const server = createServer((incoming, outgoing) => void answer(incoming, outgoing))

async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  const { txn = '', id = '' } = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, string>
  if (incoming.url === '/create') {
    books.count += 1
    books.alive.set(String(books.count), true)
    books.made.set(txn, String(books.count))
  } else if (incoming.url === '/revoke') books.alive.set(id, false)
  const found = books.made.get(txn)
  outgoing.end(JSON.stringify(found === undefined ? {} : { id: found }))
}

let vault: Vault
let provider: string
beforeAll(async () => {
  vault = await startVault()
  await vault.api('POST', 'sys/mounts/assay', { type: 'kv', options: { version: '2' } })
  await until('the KV mount to be ready', async () => (await vault.api('LIST', 'assay/metadata/')).status === 404)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  provider = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  vi.restoreAllMocks()
  server.closeAllConnections()
  server.close()
  await vault?.[Symbol.asyncDispose]()
})

test('killed again and again while it issues and revokes: whatever lives has a lease, and ends with it', async () => {
  const child = join(import.meta.dirname, 'leases_child.ts')
  const kills = 8
  for (let kill = 0; kill < kills; kill++) {
    const before = books.count
    const running = await start(process.execPath, [child, vault.address, vault.rootToken, provider])
    await running.line(/^issuing/)
    await until('something to be issued', async () => books.count > before + kill)
    await new Promise(resolve => setTimeout(resolve, (kill * 7) % 40))
    await running.stop('SIGKILL')
  }
  expect(books.count).toBeGreaterThan(kills)
  const passes = moveClocks()
  const here = await leasesOf({ vault: vault.address, token: vault.rootToken, provider })
  // half-made ones are taken for lost after a minute; what was claimed by the dead is free again
  passes(121_000)
  // a kill between the two writes of a begin leaves a record that has no name yet
  await here.leases.tidy()
  await here.leases.sweep()
  const held = async () => (await here.leases.list('broker/creds/deploy')).length
  await rounds(here.leases.sweep, async () => living() === (await held()))
  passes(700_000)
  await rounds(here.leases.sweep, async () => living() === 0)
  // names of leases that were ended before their time are looked at when it comes
  passes(700_000)
  await rounds(here.leases.sweep, async () => (await held()) === 0)
  expect((await vault.api('LIST', 'assay/metadata/leases/record')).status).toBe(404)
  await here.leases.stop()
  await here.close()
})

/** Does it until it has come to this: not by the clock, which the test moves. */
async function rounds(sweep: () => Promise<void>, holds: () => Promise<boolean>): Promise<void> {
  for (let left = 100; left > 0; left--) {
    await sweep()
    if (await holds()) return
  }
  throw new Error('it did not come to this in a hundred rounds')
}
