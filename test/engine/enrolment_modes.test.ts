import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeAk } from '../attestation/attester.ts'
import {
  configure,
  dataOf,
  enrol,
  evidence,
  logIn,
  openTestBroker,
  outcomeOf,
  refusalOf,
  type TestBroker,
} from '../fakes/broker.ts'
import { fakeMachine, type Machine } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'asks' })
const second = fakeMachine({ label: 'asks', ak: makeAk('P-256', 'ECDSA', 'sha256', {}, 'second key') })
const thief = fakeMachine({ label: 'thief', ak: machine.ak })

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker, { auth: { enrollment: 'approved' } })
})
afterEach(() => broker[Symbol.asyncDispose]())

const waiting = async () => dataOf(await broker.ask('list', 'auth/tpm-quote/pending'))['keys']
const decide = (decision: string, reason = '', { tpmId }: Machine = machine) =>
  broker.ask('update', `auth/tpm-quote/pending/${tpmId}`, { decision, reason })
const read = async (path: string) => dataOf(await broker.ask('read', `auth/tpm-quote/${path}`))
const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)

describe('where an operator approves', () => {
  test('a TPM that nobody knows waits, and has no key that counts', async () => {
    expect(await enrol(broker, machine)).toEqual({
      status: 'pending',
      tpm_id: machine.tpmId,
      ak_name: machine.akName.toString('hex'),
    })
    expect(await waiting()).toEqual([machine.tpmId])
    expect(await refusal(evidence(broker, machine))).toBe('AK_NOT_ENROLLED')
    expect(await read(`pending/${machine.tpmId}`)).toMatchObject({
      state: 'waiting',
      maker: 'id:49465800',
      ek_type: 'rsa-2048',
      ak_name: machine.akName.toString('hex'),
      requested_at: '2026-06-01T00:00:00.000Z',
    })
  })

  test('coming again changes nothing, whatever key it brings', async () => {
    await enrol(broker, machine)
    const before = await read(`pending/${machine.tpmId}`)
    broker.world.pass(60_000)
    expect(await enrol(broker, second)).toMatchObject({ status: 'pending' })
    expect(await read(`pending/${machine.tpmId}`)).toEqual(before)
  })

  test('approved, it enrols when it comes again, and a second key is one of the same machine', async () => {
    await enrol(broker, machine)
    await decide('approve', 'delivered in May')
    expect(await waiting()).toEqual([])
    expect(await refusal(evidence(broker, machine))).toBe('AK_NOT_ENROLLED')
    expect(await enrol(broker, machine)).toMatchObject({ status: 'enrolled', tpm_id: machine.tpmId })
    expect(await enrol(broker, second)).toMatchObject({ status: 'enrolled', tpm_id: machine.tpmId })
    await Promise.all([logIn(broker, machine), logIn(broker, second)])
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({
      approved_at: '2026-06-01T00:00:00.000Z',
      approval_reason: 'delivered in May',
      ak_names: [machine, second].map(one => one.akName.toString('hex')),
    })
  })

  test('denied, it stays denied until that is taken back', async () => {
    await enrol(broker, machine)
    await decide('deny', 'not ours')
    expect(await waiting()).toEqual([machine.tpmId])
    expect(await refusal(enrol(broker, machine))).toBe('ENROLMENT_DENIED')
    expect(await refusal(enrol(broker, second))).toBe('ENROLMENT_DENIED')
    expect(await read(`pending/${machine.tpmId}`)).toMatchObject({ state: 'denied', reason: 'not ours' })
    await decide('approve')
    expect(await enrol(broker, machine)).toMatchObject({ status: 'enrolled' })
  })

  test('denied between the offer and its answer, it does not wait', async () => {
    await enrol(broker, machine)
    const offered = dataOf(await broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, { token: '' }))
    await decide('deny')
    const bytes = (name: string) => Buffer.from(offered[name] ?? '', 'base64')
    const secret = machine.activate(bytes('credential_blob'), bytes('encrypted_secret'))?.toString('base64')
    const answer = { enrollment: offered['enrollment'], secret }
    expect(await refusal(broker.ask('update', 'auth/tpm-quote/enroll/activate', answer, { token: '' }))).toBe('ENROLMENT_DENIED')
  })

  test('denied while somebody else approves of it, whoever denies it is told that it is in', async () => {
    await enrol(broker, machine)
    broker.vault.fault = ({ method, path }) => {
      if (method === 'GET' || !path.includes('/denied/')) return undefined
      broker.vault.fault = () => undefined
      return { after: decide('approve') }
    }
    await expect(decide('deny', 'not ours')).rejects.toMatchObject({ code: 'conflict' })
    expect(await waiting()).toEqual([])
    expect(await enrol(broker, machine)).toMatchObject({ status: 'enrolled' })
  })

  test('a thousand wait at most, and those that were denied are not among them', async () => {
    await enrol(broker, machine)
    const [path = '', kept = expect.unreachable()] =
      [...broker.vault.state.kv].find(([name]) => name.endsWith(machine.tpmId)) ?? []
    const waiter = (n: number) => path.replace(machine.tpmId, `sha256-${n}`)
    for (let n = 1; n < 1000; n += 1) broker.vault.state.kv.set(waiter(n), kept)
    const next = fakeMachine({ label: 'one more' })
    expect(await outcomeOf(enrol(broker, next))).toBe('rate_limited')
    await decide('deny')
    expect(await enrol(broker, next)).toMatchObject({ status: 'pending' })
    expect(await waiting()).toHaveLength(1001)
  })

  test('forgotten, it may come and wait again', async () => {
    await enrol(broker, machine)
    await decide('deny')
    await broker.ask('delete', `auth/tpm-quote/pending/${machine.tpmId}`)
    expect(await enrol(broker, machine)).toMatchObject({ status: 'pending' })
  })

  test('a decision is one of two, on a TPM that waits, by who may write there', async () => {
    await expect(decide('approve')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(/^id: no TPM of this id waits/),
    })
    expect(await outcomeOf(broker.ask('read', `auth/tpm-quote/pending/${machine.tpmId}`))).toBe('not_found')
    await enrol(broker, machine)
    expect(await outcomeOf(decide('perhaps'))).toBe('bad_request')
    expect(await outcomeOf(broker.ask('update', `auth/tpm-quote/pending/${machine.tpmId}`))).toBe('bad_request')
    const asked = broker.ask('update', `auth/tpm-quote/pending/${machine.tpmId}`, { decision: 'approve' }, { token: '' })
    expect(await outcomeOf(asked)).toBe('permission_denied')
    expect(await waiting()).toEqual([machine.tpmId])
  })

  test('a TPM that was registered before does not wait', async () => {
    await broker.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { labels: 'rack-1' })
    expect(await enrol(broker, machine)).toMatchObject({ status: 'enrolled' })
  })

  test('a TPM that is disabled is refused, and neither waits nor enrols', async () => {
    await enrol(broker, machine)
    await decide('approve')
    await broker.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { disabled: true })
    expect(await refusal(enrol(broker, machine))).toBe('TPM_DISABLED')
  })
})

describe('nobody takes the place of another', () => {
  test('with the key of an enrolled machine', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'any' })
    await enrol(broker, machine)
    expect(await refusal(enrol(broker, thief))).toBe('EK_IN_USE')
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({ ak_names: [machine.akName.toString('hex')] })
    expect(await outcomeOf(broker.ask('read', `auth/tpm-quote/tpm/${thief.tpmId}`))).toBe('not_found')
  })

  test('with the label of one: labels are for people', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'any' })
    await enrol(broker, machine)
    const other = fakeMachine({ label: 'another' })
    for (const { tpmId } of [machine, other]) await broker.ask('update', `auth/tpm-quote/tpm/${tpmId}`, { labels: 'host-1' })
    await enrol(broker, other)
    expect(await read(`tpm/${other.tpmId}`)).toMatchObject({ ak_names: [other.akName.toString('hex')] })
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({ ak_names: [machine.akName.toString('hex')] })
  })

  test('at another mount, which knows nothing of the first one and tells nothing of it', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'any' })
    await enrol(broker, machine)
    await broker.sys('POST', 'sys/auth/other', { type: 'tpm-quote' })
    const asked = (from: Machine) =>
      broker.ask('update', 'auth/other/challenge', { role: 'builder', ak_name: from.akName.toString('hex') }, { token: '' })
    const said = async (from: Machine) => String(await asked(from).catch((error: unknown) => error)).slice(0, -36)
    expect(await refusal(asked(machine))).toBe('AK_NOT_ENROLLED')
    expect(await said(machine)).toBe(await said(fakeMachine({ label: 'nobody' })))
  })
})
