import { afterEach, beforeEach, expect, test } from 'vitest'
import { configure, dataOf, enrol, evidence, openTestBroker, outcomeOf, refusalOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

// An operator speaks to one replica, and the machine to another, which may know of it some seconds later.

const machine = fakeMachine({ label: 'enrolled' })
const tpm = `auth/tpm-quote/tpm/${machine.tpmId}`
const nobody = { token: '' }

let broker: TestBroker
let other: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  other = await openTestBroker({ beside: broker })
})
afterEach(async () => {
  await other[Symbol.asyncDispose]()
  await broker[Symbol.asyncDispose]()
})

const held = () => [...broker.vault.state.tokens.values()].filter(one => JSON.stringify(one).includes(machine.tpmId)).length

test.each([
  ['disabled', () => broker.ask('update', tpm, { disabled: true })],
  ['without its key', () => broker.ask('update', tpm, { disabled_aks: machine.akName.toString('hex') })],
  ['deleted', () => broker.ask('delete', tpm)],
])('a TPM that is %s at one replica keeps nothing of what another one gave it', async (_, end) => {
  // the other replica knows the record of the TPM, and nothing yet of what became of the machine
  const sent = await evidence(other, machine)
  await end()
  expect(await outcomeOf(other.ask('update', 'auth/tpm-quote/login', sent, nobody))).toBe('permission_denied')
  expect(held()).toBe(0)
})

test('a TPM that was deleted at one replica does not come back by enrolling at another one', async () => {
  await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'listed' })
  await evidence(other, machine)
  await broker.ask('delete', tpm)
  expect(await refusalOf(other, enrol(other, machine))).toBe('NOT_LISTED')
  expect(dataOf(await broker.ask('list', 'auth/tpm-quote/tpm'))).toMatchObject({ keys: [] })
})

test('a TPM that is deleted while it enrols is not there afterwards', async () => {
  await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'listed' })
  broker.vault.fault = ({ method, path }) => {
    if (method === 'GET' || !path.includes('/endorsement/')) return undefined
    broker.vault.fault = () => undefined
    return { after: broker.ask('delete', tpm) }
  }
  expect(await refusalOf(broker, enrol(broker, machine))).toBe('NOT_LISTED')
  expect(dataOf(await broker.ask('list', 'auth/tpm-quote/tpm'))).toMatchObject({ keys: [] })
})
