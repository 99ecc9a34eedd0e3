import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { lifeOf } from './lifecycle_world.ts'

const machine = fakeMachine({ label: 'enrolled' })
const other = fakeMachine({ label: 'other' })

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())
const { creds, gone, kept, lives, login, quoted, refusal, settled, shown } = lifeOf(machine, () => broker)

describe('a machine that was restarted', () => {
  test.each([
    ['reset', { resetCount: 8, restartCount: 0 }],
    ['resumed', { resetCount: 7, restartCount: 3 }],
  ])('loses what it had before: %s', async (_, changes) => {
    await enrol(broker, other)
    const [before, neighbour] = [await logIn(broker, machine), await logIn(broker, other)]
    await creds(before)
    await quoted(changes)
    await gone(before)
    await settled()
    expect(lives(neighbour)).toBe(true)
    expect(await shown()).toMatchObject({ state: 'ok', epoch: 1, boots: [{ reset_count: changes.resetCount }] })
  })

  test('keeps what it gets in the new boot', async () => {
    await logIn(broker, machine)
    const sent = await evidence(broker, machine, { changes: { resetCount: 8 } })
    await login(sent)
    const after = [...broker.vault.state.tokens].filter(([, { path }]) => path === 'auth/tpm-quote/login').at(-1)?.[0] ?? ''
    await settled()
    await creds(after)
    await quoted({ resetCount: 8 })
    await creds(after)
  })

  test('is told that its token is of an older boot, should Vault not have revoked it yet', async () => {
    const before = await logIn(broker, machine)
    broker.vault.fault = ({ path }) => (path === 'auth/token/revoke-accessor' ? 'reset' : undefined)
    await quoted({ resetCount: 8 })
    await expect(creds(before)).rejects.toThrow(/^SESSION_ENDED: .*log in again/)
    expect(await shown()).toMatchObject({ pending: [{ reason: 'rebooted', revoked: false }] })
    broker.vault.fault = () => undefined
    await gone(before)
    await settled()
    expect(kept('open')).toEqual([])
  })

  test('is one machine with all its keys: what a newer boot of one key shows, an older one of another cannot take back', async () => {
    const second = fakeMachine({ label: 'enrolled', ak: fakeMachine({ label: 'second' }).ak })
    await enrol(broker, second)
    const token = await logIn(broker, machine)
    await quoted({ resetCount: 8 }, second)
    await gone(token)
    expect(await refusal(quoted({ resetCount: 7 }))).toBe('OLD_BOOT')
    await quoted({ resetCount: 8 })
    expect((await shown())['epoch']).toBe(1)
  })

  test('may count from the beginning after its keys were enrolled anew, and that is a new boot', async () => {
    const token = await logIn(broker, machine)
    expect(await refusal(quoted({ resetCount: 1 }))).toBe('OLD_BOOT')
    await enrol(broker, machine)
    await quoted({ resetCount: 1 })
    await gone(token)
    expect(await refusal(quoted({ resetCount: 0 }))).toBe('OLD_BOOT')
  })
})

describe('quotes of one machine that are on their way together', () => {
  test('may arrive in any order', async () => {
    const older = await evidence(broker, machine)
    broker.world.pass(1)
    const newer = await evidence(broker, machine)
    broker.world.pass(1)
    await login(newer)
    await login(older)
    expect(await refusal(quoted({ clock: 5_000_000n }))).toBe('CLOCK_REPLAY')
  })

  test('hold little memory, however many they are: the last second counts as one', async () => {
    for (let count = 0; count < 50; count += 1) {
      broker.world.pass(10)
      await quoted({})
    }
    broker.world.pass(2_000)
    expect(await refusal(quoted({ clock: 5_000_010n }))).toBe('CLOCK_REPLAY')
  })
})

describe('a TPM that was reset', () => {
  const [one, two] = ['0b0a6c1e-0000-4000-8000-000000000001', '0b0a6c1e-0000-4000-8000-000000000002']
  const incidents = async () => {
    const path = [...broker.vault.state.kv.keys()].find(key => key.includes(`/machine/${machine.tpmId}`)) ?? ''
    const kept = broker.vault.state.kv.get(path)?.value as
      | { value: { incidents: { reason: string; detail: string }[] } }
      | undefined
    return kept?.value.incidents.map(({ reason, detail }) => [reason, detail])
  }
  const said = async (bootId: string, changes: Parameters<typeof machine.quote>[1] = {}) =>
    login({ ...(await evidence(broker, machine, { changes })), boot_id: bootId })
  beforeEach(() => {
    // what is told of an incident is looked at before it is done with
    broker.vault.fault = ({ path }) => (path === 'auth/token/revoke-accessor' ? { status: 503 } : undefined)
  })

  test.each([
    ['without its system, as that says: an alarm', one, { resetCount: 8 }, expect.stringMatching(/^the TPM was reset, but/)],
    ['with its system', two, { resetCount: 8 }, ''],
    ['under a system that does not say', '', { resetCount: 8 }, ''],
    ['not at all, but resumed', one, { restartCount: 3 }, ''],
  ])('%s', async (_, bootId, changes, detail) => {
    await said(one)
    await said(one)
    await said(bootId, changes)
    expect(await incidents()).toEqual([['rebooted', detail]])
    expect(await outcomeOf(said('no uuid', changes))).toBe('bad_request')
  })
})

test('two starts of a system in one boot of the TPM are in the log: it may have been copied', async () => {
  const [one, two] = ['0b0a6c1e-0000-4000-8000-000000000001', '0b0a6c1e-0000-4000-8000-000000000002']
  const warned = () => broker.world.lines.filter(line => line.includes('a copy of the TPM')).length
  for (const [boot_id, times] of [
    [one, 0],
    [one, 0],
    ['', 0],
    [two, 1],
    [one, 1],
    [two, 2],
  ] as const) {
    await login({ ...(await evidence(broker, machine)), ...(boot_id && { boot_id }) })
    expect(warned()).toBe(times)
  }
})
