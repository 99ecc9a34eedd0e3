import { describe, expect, test } from 'vitest'
import { networkOf } from '../../engine/attest/admission.ts'
import { LOOKED_UP, openStrangers } from '../../engine/attest/strangers.ts'
import { rates } from '../../engine/rate.ts'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'known' })
const nobody = (from: string) => ({ token: '', from })
let names = 0
const madeUp = () => `000b${(names++).toString(16).padStart(64, '0')}`

async function count(turns: number, ask: (turn: number) => Promise<string>): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {}
  for (let turn = 0; turn < turns; turn += 1) {
    const outcome = await ask(turn)
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  }
  return outcomes
}

describe('a flood in the names of keys that nobody has', () => {
  const strange = (broker: Awaited<ReturnType<typeof openTestBroker>>, from: string) =>
    outcomeOf(broker.ask('update', 'auth/tpm-quote/challenge', { role: 'builder', ak_name: madeUp() }, nobody(from)))

  test('from one address is held up there, and machines elsewhere go on, known or not', async () => {
    await using broker = await openTestBroker()
    await configure(broker)
    await enrol(broker, machine)
    const { burst } = rates.strangersFrom
    const outcomes = await count(burst + 100, () => strange(broker, '192.0.2.1'))
    expect(outcomes).toEqual({ permission_denied: burst, rate_limited: 100 })
    await logIn(broker, machine)
    broker.world.pass(1000)
    expect(await strange(broker, '192.0.2.1')).toBe('permission_denied')
  })

  test('from everywhere is held up in all, and known machines go on', async () => {
    await using broker = await openTestBroker()
    await configure(broker)
    await enrol(broker, machine)
    await logIn(broker, machine)
    const { burst } = rates.strangers
    const outcomes = await count(burst + 100, turn => strange(broker, `2001:db8:${turn.toString(16)}::1`))
    // the first challenge of the machine itself was one of a stranger, too
    expect(outcomes).toEqual({ permission_denied: burst - 1, rate_limited: 101 })
    await logIn(broker, machine)
    expect(await outcomeOf(evidence(broker, fakeMachine({ label: 'enrolled a moment ago' })))).toBe('rate_limited')
  })

  test('with logins is held up as it is with challenges', async () => {
    await using broker = await openTestBroker()
    await configure(broker)
    await enrol(broker, machine)
    const bad = { ...(await evidence(broker, machine)), challenge: '' }
    const login = () =>
      outcomeOf(broker.ask('update', 'auth/tpm-quote/login', { ...bad, ak_name: madeUp() }, nobody('192.0.2.1')))
    const { burst } = rates.strangersFrom
    expect(await count(burst + 10, login)).toEqual({ permission_denied: burst, rate_limited: 10 })
  })
})

test('who knows the name of a machine uses up nothing of what that may ask', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  const asked = { role: 'builder', ak_name: machine.akName.toString('hex') }
  const { burst } = rates.challengesOfAk
  const asks = () => outcomeOf(broker.ask('update', 'auth/tpm-quote/challenge', asked, nobody('192.0.2.1')))
  expect(await count(burst + 10, asks)).toMatchObject({ rate_limited: 10 })
  await logIn(broker, machine)
})

test('enrolments of keys on P-384, the dearest to answer, have limits of their own: of an address, and of all', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  const offer = (n: number, from: string) => {
    const ek_public = Buffer.concat([Buffer.from('0023000c', 'hex'), Buffer.of(n >> 8, n & 0xff)]).toString('base64')
    return outcomeOf(broker.ask('update', 'auth/tpm-quote/enroll', { ...machine.offer, ek_public }, nobody(from)))
  }
  const own = rates.offersOfP384From.burst
  expect(await count(own + 1, n => offer(n, '192.0.2.1'))).toEqual({ permission_denied: own, rate_limited: 1 })
  const left = rates.offersOfP384.burst - own
  const others = await count(left + 1, n => offer(own + 1 + n, `192.0.2.${n + 2}`))
  expect(others).toEqual({ permission_denied: left, rate_limited: 1 })
  await enrol(broker, machine)
})

test('activations of offers that nobody made are held up by address, and are no flood of records', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  const garbage = { enrollment: Buffer.alloc(64).toString('base64'), secret: Buffer.alloc(32).toString('base64') }
  const activate = () => outcomeOf(broker.ask('update', 'auth/tpm-quote/enroll/activate', garbage, nobody('192.0.2.1')))
  const before = (await broker.records()).length
  const { burst } = rates.activationsFrom
  expect(await count(burst + 100, activate)).toEqual({ permission_denied: burst, rate_limited: 100 })
  const added = (await broker.records()).slice(before).filter(one => one['path'] === 'enroll/activate')
  expect(added).toHaveLength(2 * burst)
  await enrol(broker, machine)
})

describe('who looks keys up', () => {
  test('does so for a few strangers at once, and for known keys at any time', async () => {
    const strangers = openStrangers()
    let [running, most] = [0, 0]
    const gates: (() => void)[] = []
    const find = async () => {
      most = Math.max(most, ++running)
      await new Promise<void>(resolve => gates.push(resolve))
      running -= 1
    }
    const all = Array.from({ length: 50 }, (_, n) => strangers.lookUp(`made up ${n}`, find))
    strangers.found('known')
    expect(await strangers.lookUp('known', async () => 'at once')).toBe('at once')
    for (let done = 0; done < all.length; done += 1) {
      while (gates.length === 0) await new Promise(setImmediate)
      gates.shift()?.()
    }
    await Promise.all(all)
    expect(most).toBe(LOOKED_UP.atOnce)
  })

  test('lets so many wait, and no more', async () => {
    const strangers = openStrangers()
    const { promise, resolve } = Promise.withResolvers<void>()
    const room = LOOKED_UP.atOnce + LOOKED_UP.waiting
    const all = Array.from({ length: room }, (_, n) => strangers.lookUp(`made up ${n}`, () => promise))
    expect(await outcomeOf(strangers.lookUp('one more', () => promise))).toBe('rate_limited')
    resolve()
    await Promise.all(all)
    expect(await outcomeOf(strangers.lookUp('one more', () => promise))).not.toBe('rate_limited')
  })

  test('lets what went wrong through as it is', async () => {
    const strangers = openStrangers()
    const failing = () => strangers.lookUp('made up', () => Promise.reject(new Error('vault is not there')))
    await expect(failing()).rejects.toThrow('vault is not there')
  })
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:0DB8:0001:0002::1', '2001:db8:1:2'],
  ['2001:db8::', '2001:db8:0:0'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['::', '0:0:0:0'],
  ['fe80::1:2:3:4:5', 'fe80:0:0:1'],
])('%s is counted as %s', (address, network) => expect(networkOf(address)).toBe(network))
