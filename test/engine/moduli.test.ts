import { afterEach, beforeEach, expect, test } from 'vitest'
import { pairOf } from '../attestation/attester.ts'
import { configure, dataOf, enrol, openTestBroker, outcomeOf, refusalOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'trusted' })

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)
const prime = (label: string, name: 'p' | 'q') =>
  BigInt(
    `0x${Buffer.from(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' })[name] ?? '', 'base64url').toString('hex')}`,
  )
const path = () => `${broker.broker.mounts.find('auth/tpm-quote/enroll')?.id ?? ''}/moduli/0`
/** A TPM is enrolled that has a prime of the machine. */
const enrolShared = () => {
  const shared = prime('ek trusted', 'p') * prime('ek of another', 'q')
  const moduli = [Buffer.from(shared.toString(16).padStart(512, '0'), 'hex').toString('base64')]
  broker.vault.state.kv.set(path(), { version: 1, value: { value: { moduli } } })
}
const kept = () => (broker.vault.state.kv.get(path())?.value as { value?: { moduli: string[] } } | undefined)?.value?.moduli

test('a modulus with a prime that another TPM has is refused', async () => {
  enrolShared()
  expect(await refusal(enrol(broker, machine))).toBe('WEAK_KEY')
  expect(await outcomeOf(enrol(broker, fakeMachine({ label: 'unrelated' })))).toBe('OK')
  expect(kept()).toHaveLength(2)
})

test('also where the other TPM enrols between the offer and its answer', async () => {
  const nobody = { token: '' }
  const given = dataOf(await broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, nobody))
  const sealed = ['credential_blob', 'encrypted_secret'].map(name => Buffer.from(given[name] ?? '', 'base64'))
  const secret = machine.activate(sealed[0] ?? Buffer.alloc(0), sealed[1] ?? Buffer.alloc(0))?.toString('base64')
  enrolShared()
  const answer = { enrollment: given['enrollment'], secret }
  expect(await refusal(broker.ask('update', 'auth/tpm-quote/enroll/activate', answer, nobody))).toBe('WEAK_KEY')
  expect(kept()).toHaveLength(1)
  expect(dataOf(await broker.ask('list', 'auth/tpm-quote/tpm'))['keys']).toEqual([])
})
