import { expect, test } from 'vitest'
import { rates } from '../../engine/rate.ts'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'known' })

test('a flood of challenges in the names of keys that nobody has is held up in all, and known machines go on', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  await logIn(broker, machine)
  let names = 0
  const stranger = () => {
    const ak_name = `000b${(names++).toString(16).padStart(64, '0')}`
    return outcomeOf(broker.ask('update', 'auth/tpm-quote/challenge', { role: 'builder', ak_name }, { token: '' }))
  }
  const outcomes: Record<string, number> = {}
  for (let turn = 0; turn < rates.strangers.burst + 100; turn += 1) {
    const outcome = await stranger()
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  }
  // the first challenge of the machine itself was one of a stranger, too
  expect(outcomes).toEqual({ permission_denied: rates.strangers.burst - 1, rate_limited: 101 })
  await logIn(broker, machine)
  expect(await outcomeOf(evidence(broker, fakeMachine({ label: 'enrolled a moment ago' })))).toBe('rate_limited')
  broker.world.pass(1000)
  expect(await stranger()).toBe('permission_denied')
})

test('enrolments of keys on P-384, the dearest to answer, have a limit of their own', async () => {
  await using broker = await openTestBroker()
  await configure(broker)
  const offer = (n: number) => {
    const ek_public = Buffer.concat([Buffer.from('0023000c', 'hex'), Buffer.of(n >> 8, n & 0xff)]).toString('base64')
    return outcomeOf(broker.ask('update', 'auth/tpm-quote/enroll', { ...machine.offer, ek_public }, { token: '' }))
  }
  const outcomes: string[] = []
  for (let n = 0; n <= rates.offersOfP384.burst; n += 1) outcomes.push(await offer(n))
  expect(outcomes.slice(0, -1)).toEqual(Array(rates.offersOfP384.burst).fill('permission_denied'))
  expect(outcomes.at(-1)).toBe('rate_limited')
  await enrol(broker, machine)
})
