import { randomBytes, randomUUID } from 'node:crypto'
import type { Handle } from '../../engine/leases/lease.ts'
import { openLeases } from '../../engine/leases/service.ts'
import { openLog } from '../../engine/log.ts'
import { Secret } from '../../engine/secret.ts'
import { openTime } from '../../engine/time.ts'
import { openVault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { openStore } from '../../engine/vault/store.ts'
import type { World } from '../../engine/world.ts'
import { asked } from '../fakes/leases.ts'
import { lasting } from '../fakes/session.ts'

/** Leases kept in a real Vault, of credentials of a provider over HTTP that keeps its own books. */
export async function leasesOf({ vault, token, provider }: { vault: string; token: string; provider: string }) {
  const log = openLog({ level: 'silent' })
  const world: World = { now: Date.now, monotonic: () => performance.now(), random: randomBytes, log }
  const client = openVault({ address: vault, deadlineMs: 60_000 })
  const own = new Secret(token)
  const session = lasting(own)
  const call = async (what: string, body: object) => {
    const reply = await fetch(`${provider}/${what}`, { method: 'POST', body: JSON.stringify(body) })
    if (!reply.ok) throw new Error(`the provider answered ${reply.status}`)
    return (await reply.json()) as Handle
  }
  const leases = await openLeases({
    world,
    time: openTime(world),
    store: openStore(openOwn(client, session, log), 'assay', world.monotonic, 1),
    provider: {
      revoke: async (_, handle) => void (await call('revoke', handle)),
      find: async ({ txn }) => {
        const found = await call('find', { txn })
        return found['id'] === undefined ? undefined : found
      },
    },
    tokens: async () => ({ alive: true, ttlSeconds: Number.POSITIVE_INFINITY }),
    longest: async () => 3600,
    onEnd: () => {},
    onFailure: () => {},
  })
  const issue = async () => {
    const request = asked({ txn: randomUUID(), ttlSeconds: 600 })
    const begun = await leases.begin(request)
    const handle = await call('create', { txn: request.txn })
    await begun.confirm(handle, Date.now() / 1000 + 3600)
    return begun.leaseId
  }
  return { leases, issue, close: () => client.close() }
}

/** Issues and revokes until it is killed. */
async function main([vault = '', token = '', provider = '']: readonly string[]): Promise<void> {
  const { leases, issue } = await leasesOf({ vault, token, provider })
  process.stdout.write('issuing\n')
  const work = async () => {
    for (;;) {
      const leaseId = await issue()
      if (Math.random() < 0.5) await leases.revoke(leaseId, { sync: true })
    }
  }
  await Promise.all([work(), work(), work()])
}

if (import.meta.main) await main(process.argv.slice(2))
