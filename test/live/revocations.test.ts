import { expect, test } from 'vitest'
import { openRevocations } from '../../engine/sealing/revocations.ts'
import { Secret } from '../../engine/secret.ts'
import { openVault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { PLACES, provision } from '../../engine/vault/provision.ts'
import { openSession } from '../../engine/vault/session.ts'
import { openStore } from '../../engine/vault/store.ts'
import { agreeing, testWorld } from '../fakes/world.ts'
import { startVault } from '../harness/vault.ts'

// What a real Vault takes in one record, which it bounds by names as well as by bytes.
test('twenty thousand machines end at once, and then another', async () => {
  await using parts = new AsyncDisposableStack()
  const vault = parts.adopt(await startVault(), one => one.stop())
  const at = { address: vault.address, deadlineMs: 60_000 }
  const client = parts.adopt(openVault(at), one => one.close())
  const { roleId, secretId } = await provision(at, PLACES, new Secret(vault.rootToken))
  const world = testWorld()
  const login = { mount: PLACES.approle, roleId, secretId: async () => secretId }
  const session = parts.adopt(await openSession(client, login, world), one => one.stop())
  const store = openStore(openOwn(client, session, world.log), PLACES.kv, world.monotonic)
  const revocations = openRevocations(store, agreeing(world))
  const raise = (count: number, of: string) =>
    Promise.all(Array.from({ length: count }, (_, at) => revocations.raise({ agent: `sha256-${of}-${at}`.padEnd(71, '0') })))

  // the most that is kept
  await raise(9_000, 'some')
  expect(await revocations.epoch('mount', 'another')).toEqual([0, 0])
  await raise(11_000, 'more')
  await raise(1, 'another')
  const [, now] = await revocations.epoch('mount', 'somebody else')
  expect(now).toBeGreaterThan(0)
})
