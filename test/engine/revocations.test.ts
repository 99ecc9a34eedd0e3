import { expect, onTestFinished, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { openRevocations, watchRevocations } from '../../engine/sealing/revocations.ts'
import { openStore } from '../../engine/vault/store.ts'
import { type FakeTransit, fakeTransit } from '../fakes/transit.ts'
import { agreeing, testWorld } from '../fakes/world.ts'
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
  const revocations = () => openRevocations(openStore(vault, 'assay', world.monotonic), agreeing(world))
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
  const epoch = await revocations.epoch('mount', 'sha256-aa')
  expect(watch.standing({ ...token, epoch })).toBe('live')
  await revocations.raise({ agent: 'sha256-aa' })
  await eventually(() => expect(watch.standing({ ...token, epoch })).toBe('revoked'))
  const next = await revocations.epoch('mount', 'sha256-aa')
  await revocations.raise({ tenant: 'mount' })
  await eventually(() => expect(watch.standing({ ...token, epoch: next })).toBe('revoked'))
  expect(watch.standing({ ...token, tenant: 'other', epoch: next })).toBe('live')
})

test('an agent that is called like a member of every object is an agent like others', async () => {
  const { watch, revocations } = await both()
  expect(watch.standing({ ...token, jti: 'constructor', agent: 'sha256-bb' })).toBe('live')
  expect(await revocations.epoch('constructor', 'toString')).toEqual([0, 0])
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
  expect(await agentsIn(vault)).toEqual(agents.toSorted())
})

test('what ended anyway is forgotten', async () => {
  const { revocations, vault, world } = await both()
  await revocations.deny('old')
  world.pass(4_300_000)
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

test('of machines that ended long ago nothing is kept: what was sealed for them before has expired, and what they have now still ends', async () => {
  const { revocations, vault, watch, world } = await both()
  await revocations.raise({ agent: 'sha256-aa' })
  const [, before] = await revocations.epoch('mount', 'sha256-aa')
  world.pass(4_199_000)
  await revocations.raise({ agent: 'sha256-bb' })
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([0, before])
  world.pass(1_000)
  await revocations.raise({ agent: 'sha256-bb' })
  expect(await agentsIn(vault)).toEqual(['sha256-bb'])
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([0, 0])
  await revocations.raise({ agent: 'sha256-aa' })
  // sealed before it was forgotten, and after
  for (const epoch of [before, 0]) {
    const one = { ...token, epoch: [0, epoch] as const }
    await eventually(() => expect(watch.standing(one)).toBe('revoked'))
  }
})

test('a generation that was counted from one holds for as long as others, and ends what came before it', async () => {
  const { revocations, vault, watch, world } = await both()
  const value = { tenants: { mount: 2 }, agents: { 'sha256-aa': 3 }, denied: {} }
  await vault.write('assay/data/sealing/revocations', { data: { value } })
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([2, 3])
  await revocations.raise({ agent: 'sha256-bb' })
  world.pass(4_199_000)
  await revocations.raise({ agent: 'sha256-cc' })
  expect(await agentsIn(vault)).toEqual(['sha256-aa', 'sha256-bb', 'sha256-cc'])
  await revocations.raise({ agent: 'sha256-aa' })
  await eventually(() => expect(watch.standing({ ...token, epoch: [2, 3] })).toBe('revoked'))
  world.pass(1_000)
  await revocations.raise({ agent: 'sha256-cc' })
  expect(await agentsIn(vault)).toEqual(['sha256-aa', 'sha256-cc'])
})

test('twenty thousand machines end, and then another: the record stays in its bounds, and none of theirs lives', async () => {
  const { revocations, vault, watch } = await both()
  const agents = Array.from({ length: 20_000 }, (_, at) => `sha256-${String(at).padStart(64, '0')}`)
  await revocations.raise({ tenant: 'mount' })
  await revocations.deny('one')
  await Promise.all(agents.map(agent => revocations.raise({ agent })))
  await revocations.raise({ agent: 'sha256-bb' })
  expect((await agentsIn(vault)).length).toBeLessThan(10_000)
  const of = (agent: string, epoch: number) => watch.standing({ ...token, agent, epoch: [1, epoch] })
  await eventually(() => expect(of('sha256-bb', 0)).toBe('revoked'))
  expect(agents.filter(agent => of(agent, 0) !== 'revoked')).toEqual([])
  // more than one record holds: whoever asks now gets what counts, and can be ended
  for (const agent of [agents[7] ?? '', 'sha256-cc']) {
    const [tenant, now] = await revocations.epoch('mount', agent)
    expect([tenant, of(agent, now)]).toEqual([1, 'live'])
    await revocations.raise({ agent })
    await eventually(() => expect(of(agent, now)).toBe('revoked'))
  }
})

test.each([
  ['so many', 9_000, 20, 'kept'],
  ['more', 9_001, 20, 'ended'],
  ['as many, of long names', 9_000, 128, 'ended'],
])('%s in one record: %i names of %i characters', async (_, count, length, what) => {
  const { revocations, vault } = await both()
  await Promise.all(Array.from({ length: count }, (_, at) => revocations.raise({ agent: String(at).padStart(length, 'x') })))
  expect((await agentsIn(vault)).length).toBe(what === 'kept' ? count : 0)
  const [, now] = await revocations.epoch('mount', 'another')
  expect(now > 0).toBe(what === 'ended')
})

test('where all end at once, so do those whose generation is ahead of the clock', async () => {
  const { revocations, vault, watch, world } = await both()
  const ahead = Math.floor(world.now() / 1000) + 100
  const value = { tenants: {}, agents: { 'sha256-aa': ahead }, denied: {}, from: ahead }
  await vault.write('assay/data/sealing/revocations', { data: { value } })
  expect(await revocations.epoch('mount', 'sha256-aa')).toEqual([0, ahead])
  await Promise.all(Array.from({ length: 9_000 }, (_, at) => revocations.raise({ agent: String(at) })))
  expect(await agentsIn(vault)).toEqual([])
  await eventually(() => expect(watch.standing({ ...token, epoch: [0, ahead] })).toBe('revoked'))
})

/** Whose generations are kept. */
async function agentsIn(vault: FakeTransit): Promise<readonly string[]> {
  const kept = (await vault.read('assay/data/sealing/revocations'))?.data?.['data'] as { value: { agents: object } }
  return Object.keys(kept.value.agents).toSorted()
}
