import { randomBytes } from 'node:crypto'
import type { Lease } from '../engine/leases/lease.ts'
import { openLedger } from '../engine/leases/ledger.ts'
import { minuteOf, nameOf } from '../engine/leases/name.ts'
import { openPacks } from '../engine/leases/packs.ts'
import { openLeases } from '../engine/leases/service.ts'
import { openLog } from '../engine/log.ts'
import { inParallel } from '../engine/parallel.ts'
import { Secret } from '../engine/secret.ts'
import { openTime } from '../engine/time.ts'
import { openVault } from '../engine/vault/client.ts'
import { openOwn } from '../engine/vault/own.ts'
import { openStore, type Store } from '../engine/vault/store.ts'
import type { World } from '../engine/world.ts'
import { heapUsed } from '../test/fakes/heap.ts'
import { activeLease } from '../test/fakes/leases.ts'
import { lasting } from '../test/fakes/session.ts'
import { startVault } from '../test/harness/vault.ts'
import { limitRow, type Row } from './rows.ts'

const LEASES = 100_000
const OVERDUE = 2_000
const TOKENS = 1_000
const AT_ONCE = 64

/** B6: a start with many leases, until all of them are known; what they take in memory; how fast those that are overdue end, at a provider that
 *  takes no time. Vault keeps them in memory here, so its disk is not in these figures. */
export async function benchLeases(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await vault.api('POST', 'sys/mounts/assay', { type: 'kv', options: { version: '2' } })
  const client = openVault({ address: vault.address, deadlineMs: 30_000 })
  const log = openLog({ level: 'silent' })
  const world: World = { now: Date.now, monotonic: () => performance.now(), random: randomBytes, log }
  const token = new Secret(vault.rootToken)
  const session = lasting(token)
  const store = openStore(openOwn(client, session, log), 'assay', world.monotonic, 1)
  await fill(store)
  const before = heapUsed()
  let ended = 0
  const began = performance.now()
  const leases = await openLeases({
    world,
    time: openTime(world),
    store,
    provider: { revoke: async () => {}, find: async () => undefined },
    tokens: async () => ({ alive: true, ttlSeconds: 3600 }),
    longest: async () => 3600,
    onEnd: () => {
      ended += 1
    },
    onFailure: () => {},
  })
  const restored = performance.now() - began
  const megabytes = (heapUsed() - before) / 2 ** 20
  const sweeping = performance.now()
  await leases.sweep()
  while (ended < OVERDUE) await new Promise(resolve => setTimeout(resolve, 10))
  const each = (performance.now() - sweeping) / OVERDUE
  await leases.stop()
  await client.close()
  return [
    limitRow({ id: 'B6', what: `start with ${LEASES} leases until all are known, ms`, ours: restored, limit: 1000 }),
    limitRow({ id: 'B6', what: `${LEASES} leases in memory, MiB`, ours: megabytes, limit: 15 }),
    limitRow({
      id: 'B6',
      what: `end of an overdue lease, provider aside, ${OVERDUE} in one go, ms each`,
      ours: each,
      limit: 0.5,
    }),
  ]
}

/** As a broker that has run for a while leaves them: names that are due later are in packs. A start reads no record of a lease that is not due, so
 *  those have none here: it would take the store long to fill. */
async function fill(store: Store): Promise<void> {
  const ledger = openLedger(store)
  const packs = openPacks(store)
  const now = Math.floor(Date.now() / 1000)
  const leases = Array.from({ length: LEASES }, (_, at) => lease(at, now))
  await inParallel(leases.slice(0, OVERDUE), AT_ONCE, ledger.create)
  const minutes = Map.groupBy(leases.slice(OVERDUE), ({ due }) => minuteOf(due))
  for (const some of minutes.values()) await packs.write(some.map(nameOf))
}

/** Spread over an hour; the first are overdue. */
const lease = (at: number, now: number): Lease =>
  activeLease({
    // the watch of tokens reads a record of each, and most have none here
    accessor: at < OVERDUE ? `accessor-${at % TOKENS}` : '',
    tpmId: `sha256-${at % TOKENS}`,
    expiresAt: at < OVERDUE ? now - 1 : now + 600 + (at % 3000),
    handle: { token: `vault:v1:${randomBytes(60).toString('base64')}` },
  })
