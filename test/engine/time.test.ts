import { expect, test } from 'vitest'
import { openRevocations } from '../../engine/sealing/revocations.ts'
import { openTime } from '../../engine/time.ts'
import { openStore } from '../../engine/vault/store.ts'
import { configure, enrol, logIn, openTestBroker, outcomeOf } from '../fakes/broker.ts'
import { issue, living, openProcess, outside, passes } from '../fakes/leases.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'

// Clocks that are wrong: of a front door, of Vault, and by how much.

const HOUR_MS = 3_600_000
const dateOf = ({ now }: Pick<TestWorld, 'now'>) => new Date(now()).toUTCString()

/** The time as it is here, beside a Vault whose clock is ahead of the true one by so much. */
function beside(aheadMs: number) {
  const world = testWorld()
  const time = openTime(world)
  const tell = () => time.told(new Date(world.now() + aheadMs).toUTCString())
  tell()
  return { world, time, tell }
}

test('before Vault has told anything, and by what is no date, the clock here is the time', () => {
  const world = testWorld()
  const time = openTime(world)
  for (const date of [undefined, '', 'yesterday']) time.told(date)
  expect([time.earlier(), time.later(), time.agreed()]).toEqual([world.now(), world.now(), true])
})

test.each([
  [0, true],
  [30_000, true],
  [32_000, false],
  [-30_000, true],
  [-32_000, false],
  [HOUR_MS, false],
])('a Vault that is ahead by %i ms: they agree: %s', (aheadMs, agreed) => {
  const { time } = beside(aheadMs)
  expect(time.agreed()).toBe(agreed)
  if (agreed) time.assertAgreed()
  else expect(() => time.assertAgreed()).toThrow(/clock/)
})

test('of two clocks the one that is behind says what has ended, and the one that is ahead what is to be remembered', () => {
  const [behind, ahead] = [beside(-HOUR_MS), beside(HOUR_MS)]
  expect(behind.time.earlier()).toBe(behind.world.now() - HOUR_MS + 5_000)
  expect(behind.time.later()).toBe(behind.world.now())
  expect(ahead.time.earlier()).toBe(ahead.world.now())
  expect(ahead.time.later() - ahead.world.now()).toBe(HOUR_MS)
})

test('a clock that is put back does not put back what has ended, and counts for what is issued', () => {
  const { world, time, tell } = beside(0)
  const before = time.earlier()
  world.step(-HOUR_MS)
  expect(time.earlier()).toBe(before)
  expect(time.agreed()).toBe(false)
  world.step(HOUR_MS)
  tell()
  expect(time.agreed()).toBe(true)
})

test('a machine that slept an hour, with its clocks, agrees with itself until Vault answers', () => {
  const { world, time } = beside(0)
  expect(time.agreed()).toBe(true)
  time.told(new Date(world.now() + HOUR_MS).toUTCString())
  expect(time.agreed()).toBe(false)
})

test('that they are apart, and that they are not any more, is said once', () => {
  const { world, time } = beside(0)
  for (const ahead of [HOUR_MS, HOUR_MS, 0, 0]) time.told(new Date(world.now() - ahead).toUTCString())
  expect(world.lines.map(line => JSON.parse(line))).toMatchObject([
    { level: 'error', ahead_seconds: 3600 },
    { level: 'info', ahead_seconds: 0 },
  ])
})

test('a replica that is an hour ahead ends no lease of others, started so or put so, and ends what it is told to', async () => {
  const out = outside()
  const right = await openProcess(out)
  const { leaseId } = await issue(right)
  await issue(right)
  const wrong = await openProcess(out, { world: testWorld({ start: right.world.now() + HOUR_MS }) })
  wrong.time.told(dateOf(right.world))
  await passes(wrong, 120)
  expect(living(out)).toBe(2)
  // right again, by NTP: what it began with counts no more than before
  wrong.world.step(-HOUR_MS)
  await passes(wrong, 120)
  expect(living(out)).toBe(2)
  expect(await wrong.leases.revoke(leaseId, { sync: true })).toBe(0)
  expect(living(out)).toBe(1)
  await passes(wrong, 700)
  expect(living(out)).toBe(0)
})

test('a Vault that is an hour ahead ends no lease of ours, and one that is behind keeps none for longer than it is behind', async () => {
  const out = outside()
  const process = await openProcess(out)
  await issue(process)
  process.time.told(new Date(process.world.now() + HOUR_MS).toUTCString())
  await passes(process, 890)
  expect(living(out)).toBe(1)
  process.time.told(new Date(process.world.now() - HOUR_MS).toUTCString())
  await passes(process, 3600)
  expect(living(out)).toBe(1)
  await passes(process, 30)
  expect(living(out)).toBe(0)
})

test('what was revoked of sealed tokens is remembered for their whole life, whoever revokes something else meanwhile', async () => {
  const [right, vault] = [testWorld(), fakeTransit()]
  const replica = (aheadMs: number) => {
    const world = testWorld({ start: right.now() + aheadMs })
    const time = openTime(world)
    time.told(dateOf(right))
    return openRevocations(openStore(vault, 'assay', world.monotonic), time)
  }
  await replica(0).deny('of the right one')
  await replica(-HOUR_MS).deny('of one that is behind')
  await replica(-HOUR_MS).raise({ agent: 'sha256-aa' })
  await replica(HOUR_MS * 2).deny('of one that is ahead')
  right.pass(HOUR_MS)
  await replica(0).deny('later')
  const kept = JSON.stringify(await vault.read('assay/data/sealing/revocations'))
  for (const one of ['of the right one', 'of one that is behind', 'sha256-aa', 'of one that is ahead'])
    expect(kept).toContain(one)
})

test('while the clocks are apart nobody gets in and nothing is issued, and what is to be ended is', async () => {
  await using test = await openTestBroker()
  const machine = fakeMachine()
  await configure(test)
  const { tpm_id } = await enrol(test, machine)
  const token = await logIn(test, machine)
  const creds = () =>
    outcomeOf(test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token }))
  expect(await creds()).toBe('OK')
  const { now } = test.vault
  for (const wrong of [HOUR_MS, -HOUR_MS]) {
    test.vault.now = () => now() + wrong
    expect(await creds()).toBe('unavailable')
    expect(test.broker.time.agreed()).toBe(false)
    expect(await outcomeOf(logIn(test, machine))).toBe('unavailable')
  }
  test.vault.now = now
  expect(await creds()).toBe('OK')
  await logIn(test, machine)
  test.vault.now = () => now() + HOUR_MS
  expect(await outcomeOf(test.ask('update', `auth/tpm-quote/tpm/${tpm_id}`, { disabled: true }))).toBe('OK')
})
