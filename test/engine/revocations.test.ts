import { expect, onTestFinished, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { openRevocations, watchRevocations } from '../../engine/sealing/revocations.ts'
import { openStore } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'
import { eventually } from '../harness/patience.ts'

async function both() {
  const world = testWorld()
  const vault = fakeTransit()
  const errors: unknown[] = []
  const watch = await watchRevocations({
    vault,
    kv: 'assay',
    monotonic: world.monotonic,
    pollMs: 5,
    limitMs: 10_000,
    onError: error => errors.push(error),
  })
  onTestFinished(() => watch.stop())
  const revocations = () => openRevocations(openStore(vault, 'assay', world.monotonic), world.now)
  return { world, vault, watch, errors, revocations: revocations(), replica: revocations }
}

const token = { tenant: 'mount', agent: 'sha256-aa', jti: 'one', epoch: [0, 0] as const }

test('nothing is revoked to begin with', async () => {
  const { watch, revocations } = await both()
  expect(watch.standing(token)).toBe('live')
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([0, 0])
})

test('a denied token ends, others of its agent do not', async () => {
  const { watch, revocations } = await both()
  await revocations.deny('one')
  await eventually(() => expect(watch.standing(token)).toBe('revoked'))
  expect(watch.standing({ ...token, jti: 'two' })).toBe('live')
})

test('a raised generation ends every token of the agent, or of the mount, that came before', async () => {
  const { watch, revocations } = await both()
  await revocations.raise({ agent: 'sha256-aa' })
  await eventually(() => expect(watch.standing(token)).toBe('revoked'))
  expect(watch.standing({ ...token, agent: 'sha256-bb' })).toBe('live')
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([0, 1])
  expect(watch.standing({ ...token, epoch: [0, 1] })).toBe('live')
  await revocations.raise({ tenant: 'mount' })
  await eventually(() => expect(watch.standing({ ...token, epoch: [0, 1] })).toBe('revoked'))
  expect(watch.standing({ ...token, tenant: 'other', epoch: [0, 1] })).toBe('live')
})

test('an agent that is called like a member of every object is an agent like others', async () => {
  const { watch, revocations } = await both()
  expect(watch.standing({ ...token, jti: 'constructor', agent: 'sha256-bb' })).toBe('live')
  await revocations.raise({ agent: 'toString' })
  await eventually(() => expect(watch.standing({ ...token, agent: 'toString' })).toBe('revoked'))
})

test('replicas that revoke at once lose nothing', async () => {
  const { revocations, replica, watch } = await both()
  const others = [revocations, replica(), replica()]
  await Promise.all(others.map((one, at) => one.raise({ agent: `sha256-${at}` })))
  await eventually(() => {
    for (const at of others.keys()) expect(watch.standing({ ...token, agent: `sha256-${at}` })).toBe('revoked')
  })
})

test('many that are revoked at once, at several replicas, are all revoked', async () => {
  const { revocations, replica, vault } = await both()
  const others = [revocations, replica(), replica()]
  const agents = Array.from({ length: 60 }, (_, at) => `sha256-${at}`)
  await Promise.all(agents.map(async (agent, at) => others[at % 3]?.raise({ agent })))
  const kept = (await vault.read('assay/data/sealing/revocations'))?.data?.['data'] as { value: { agents: object } }
  expect(kept.value.agents).toEqual(Object.fromEntries(agents.map(agent => [agent, 1])))
})

test('what ended anyway is forgotten', async () => {
  const { revocations, vault, world } = await both()
  await revocations.deny('old')
  world.pass(3_700_000)
  await revocations.deny('new')
  const record = await vault.read('assay/data/sealing/revocations')
  expect(JSON.stringify(record)).toContain('new')
  expect(JSON.stringify(record)).not.toContain('"old"')
})

test('a copy above its limit says so, whatever the token', async () => {
  const { watch, vault, world, errors } = await both()
  vault.fault = () => new BrokerError('unavailable', 'down')
  world.pass(9_000)
  expect(watch.standing(token)).toBe('live')
  world.pass(2_000)
  expect(watch.standing(token)).toBe('stale')
  await eventually(() => expect(errors.length).toBeGreaterThan(0))
  vault.fault = undefined
  await eventually(() => expect(watch.standing(token)).toBe('live'))
})

test('a record that cannot be read is no empty one', async () => {
  const { vault, errors } = await both()
  await vault.write('assay/data/sealing/revocations', { data: { value: { tenants: {} } } })
  await eventually(() => expect(String(errors[0])).toContain('cannot be read'))
})

test('a record that goes away takes nothing back: it is known until the copy is too old, and then nobody is served', async () => {
  const { world, vault, watch, revocations, errors } = await both()
  await revocations.deny('one')
  await eventually(() => expect(watch.standing(token)).toBe('revoked'))
  await vault.delete('assay/data/sealing/revocations')
  await eventually(() => expect(errors.length).toBeGreaterThan(1))
  expect(watch.standing(token)).toBe('revoked')
  world.pass(10_001)
  expect([watch.standing(token), watch.current()]).toEqual(['stale', false])
  expect(String(errors[0])).toContain('vault keeps no assay/sealing/revocations any more')
})
