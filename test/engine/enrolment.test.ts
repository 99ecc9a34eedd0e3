import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeAk } from '../attestation/attester.ts'
import { makeCa, named } from '../attestation/certificates.ts'
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
import { anchorPem, fakeMachine, maker } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'enrolled' })
const second = fakeMachine({ label: 'enrolled', ak: makeAk('P-256', 'ECDSA', 'sha256', {}, 'second key') })
const nobody = { token: '' }

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const offer = async (from = machine, more: object = {}) =>
  dataOf(await broker.ask('update', 'auth/tpm-quote/enroll', { ...from.offer, ...more }, nobody))
const open = (offered: Record<string, string>, from = machine) => ({
  enrollment: offered['enrollment'],
  secret: from
    .activate(Buffer.from(offered['credential_blob'] ?? '', 'base64'), Buffer.from(offered['encrypted_secret'] ?? '', 'base64'))
    ?.toString('base64'),
})
const activate = (answer: object) => broker.ask('update', 'auth/tpm-quote/enroll/activate', answer, nobody)
const tpm = async () => dataOf(await broker.ask('read', `auth/tpm-quote/tpm/${machine.tpmId}`)) as Record<string, unknown>
const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)

test('a key that was enrolled for another hierarchy than it is in is put right by being enrolled again', async () => {
  await enrol(broker, machine, { hierarchy: 'ek' })
  expect(await refusal(logIn(broker, machine))).toBe('QUALIFIED_SIGNER')
  await enrol(broker, machine)
  await logIn(broker, machine)
})

describe('an offer', () => {
  test('can be opened by the TPM of the endorsement key alone, and holds for the offered key alone', async () => {
    const offered = await offer()
    expect(offered).toMatchObject({ tpm_id: machine.tpmId, ak_name: machine.akName.toString('hex'), expires_in: 120 })
    expect(open(offered, second).secret).toBeUndefined()
    expect(() => open(offered, fakeMachine({ label: 'other' }))).toThrow()
    expect(dataOf(await activate(open(offered)))).toMatchObject({ tpm_id: machine.tpmId })
  })

  test('is answered once, whatever the answer was', async () => {
    const offered = await offer()
    expect(await refusal(activate({ ...open(offered), secret: Buffer.alloc(32).toString('base64') }))).toBe('ACTIVATION')
    expect(await refusal(activate(open(offered)))).toBe('CHALLENGE_USED')
    expect(await refusal(evidence(broker, machine))).toBe('AK_NOT_ENROLLED')
  })

  test('of which 50 answers come at once is answered once', async () => {
    const answer = open(await offer())
    const ends = await Promise.all(Array.from({ length: 50 }, () => outcomeOf(activate(answer))))
    expect(ends.filter(end => end === 'OK')).toHaveLength(1)
    expect(new Set(ends)).toEqual(new Set(['OK', 'permission_denied']))
  })

  test('lives for two minutes on the monotonic clock', async () => {
    const [in_time, late] = [open(await offer()), open(await offer())]
    broker.world.step(86_400_000)
    broker.world.pass(120_000)
    expect(await outcomeOf(activate(in_time))).toBe('OK')
    broker.world.pass(1)
    expect(await refusal(activate(late))).toBe('CHALLENGE_EXPIRED')
  })

  test('that was changed, or made by another replica, is unknown', async () => {
    const answer = open(await offer())
    const sealed = Buffer.from(answer.enrollment ?? '', 'base64')
    for (const at of [0, sealed.length >> 1, sealed.length - 1]) {
      const changed = Buffer.from(sealed)
      changed[at] = (changed[at] ?? 0) ^ 1
      expect(await refusal(activate({ ...answer, enrollment: changed.toString('base64') }))).toBe('CHALLENGE_UNKNOWN')
    }
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(31), sealed.subarray(1), Buffer.concat([sealed, Buffer.alloc(1)])])
      expect(await refusal(activate({ ...answer, enrollment: bytes.toString('base64') }))).toBe('CHALLENGE_UNKNOWN')
    await using other = await openTestBroker()
    await configure(other)
    const asked = other.ask('update', 'auth/tpm-quote/enroll/activate', answer, nobody)
    expect(await outcomeOf(asked)).toBe('permission_denied')
    expect((await other.records()).at(-2)).toMatchObject({ type: 'refusal', code: 'CHALLENGE_UNKNOWN' })
  })

  test('belongs to its mount', async () => {
    await broker.sys('POST', 'sys/auth/other', { type: 'tpm-quote' })
    const asked = broker.ask('update', 'auth/other/enroll/activate', open(await offer()), nobody)
    expect(await refusal(asked)).toBe('SESSION_BINDING')
  })

  test('made before an operator changed their mind is worth nothing', async () => {
    const [one, other] = [open(await offer()), open(await offer())]
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'listed' })
    expect(await refusal(activate(one))).toBe('NOT_LISTED')
    await broker.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { disabled: true })
    expect(await refusal(activate(other))).toBe('TPM_DISABLED')
    expect(await refusal(offer())).toBe('TPM_DISABLED')
    expect(await tpm()).toMatchObject({ disabled: true, ak_names: [] })
  })
})

describe('who may enrol', () => {
  test('listed: who is registered, by the id that a refusal names in the audit log', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'listed' })
    expect(await refusal(offer())).toBe('NOT_LISTED')
    const { detail } = (await broker.records()).filter(one => one['code'] === 'NOT_LISTED').at(-1) ?? {}
    await broker.ask('update', `auth/tpm-quote/tpm/${String(detail)}`, { labels: 'rack-7' })
    await enrol(broker, machine)
    expect(await tpm()).toMatchObject({ labels: ['rack-7'], maker: 'id:49465800', ek_type: 'rsa-2048' })
  })

  test('token: who has a token that may write enroll; others are refused, and that is on record', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { enrollment: 'token' })
    const enrolWith = (token: string) => broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, { token })
    expect(await refusal(enrolWith(''))).toBe('permission_denied')
    expect(await refusal(enrolWith(broker.vault.token({ allow: () => ['read'] })))).toBe('permission_denied')
    const operator = broker.vault.token({ allow: path => (path === 'auth/tpm-quote/enroll' ? ['update'] : ['deny']) })
    await activate(open(dataOf(await enrolWith(operator))))
    await logIn(broker, machine)
    const accessor = broker.broker.audit.hash(broker.vault.state.tokens.get(operator)?.accessor ?? '')
    const enrolled = (await broker.records()).filter(one => one['path'] === 'enroll' && one['type'] === 'request')
    expect(enrolled).toMatchObject([{ accessor, display_name: 'token' }])
  })

  test('under which anchors: those that are configured, of the makers that are', async () => {
    const other = makeCa(named('STM TPM Root', 'STMicroelectronics NV'))
    await broker.ask('update', 'auth/tpm-quote/ca/makers', { certificate: anchorPem(other) })
    expect(await refusal(offer())).toBe('BAD_CHAIN')
    await broker.ask('update', 'auth/tpm-quote/ca/more', { certificate: `${anchorPem(maker)}\n${anchorPem(other)}` })
    await offer()
    await broker.ask('update', 'auth/tpm-quote/config', { allowed_makers: 'id:53544D20' })
    expect(await refusal(offer())).toBe('MAKER_MISMATCH')
  })

  test('with which keys: the attestation key has to be one', async () => {
    const weak = makeAk('P-256', 'ECDSA', 'sha256', { attributes: 0x00040072 })
    expect(await refusal(offer(machine, { ak_public: weak.area.toString('base64') }))).toBe('AK_ATTRIBUTES')
    const stranger = { ek_certificate: fakeMachine({ label: 'other' }).offer.ek_certificate }
    expect(await refusal(offer(machine, { ...stranger, ak_public: weak.area.toString('base64') }))).toBe('EK_MISMATCH')
    expect(await refusal(offer(machine, { ek_public: second.offer.ak_public }))).toBe('EK_TEMPLATE')
    expect(await refusal(offer(machine, stranger))).toBe('EK_MISMATCH')
    expect(await refusal(offer(machine, { intermediates: ['AAAA'] }))).not.toBe('OK')
  })
})

describe('a TPM', () => {
  test('may have several attestation keys, each with its record', async () => {
    await enrol(broker, machine)
    await enrol(broker, second)
    expect(await tpm()).toMatchObject({ ak_names: [machine, second].map(one => one.akName.toString('hex')) })
    await Promise.all([logIn(broker, machine), logIn(broker, second)])
  })

  test('that enrols several at the same time has all of them in its record', async () => {
    const keys = Array.from({ length: 12 }, (_, n) =>
      fakeMachine({ label: 'enrolled', ak: makeAk('P-256', 'ECDSA', 'sha256', {}, `key ${n}`) }),
    )
    const answers: object[] = []
    for (const one of keys) {
      answers.push(open(await offer(one), one))
      broker.world.pass(1_000)
    }
    expect(await Promise.all(answers.map(answer => outcomeOf(activate(answer))))).toEqual(Array(12).fill('OK'))
    expect(((await tpm())['ak_names'] as string[]).toSorted()).toEqual(keys.map(one => one.akName.toString('hex')).toSorted())
  })

  test('that enrols the same key again keeps its labels and the day it first came', async () => {
    await enrol(broker, machine)
    const before = await tpm()
    broker.world.pass(86_400_000)
    await broker.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { labels: 'rack-7' })
    await enrol(broker, machine)
    expect(await tpm()).toEqual({ ...before, labels: ['rack-7'] })
  })

  test('whose record was deleted is enrolled no longer, and can come back', async () => {
    await enrol(broker, machine)
    await broker.ask('delete', `auth/tpm-quote/tpm/${machine.tpmId}`)
    expect(await refusal(evidence(broker, machine))).toBe('AK_NOT_ENROLLED')
    await enrol(broker, machine)
    await logIn(broker, machine)
  })

  test('with new firmware has to show itself again', async () => {
    await enrol(broker, machine)
    await logIn(broker, machine)
    const updated = () => evidence(broker, machine, { changes: { firmwareVersion: '2030010100000000' } })
    const login = async () => broker.ask('update', 'auth/tpm-quote/login', await updated(), nobody)
    expect(await refusal(login())).toBe('FIRMWARE_CHANGED')
    await enrol(broker, machine)
    await login()
    expect(await refusal(broker.ask('update', 'auth/tpm-quote/login', await evidence(broker, machine), nobody))).toBe(
      'FIRMWARE_CHANGED',
    )
  })
})

test('what goes wrong at Vault while a key is enrolled leaves no half of it', async () => {
  const answer = open(await offer())
  broker.vault.fault = ({ path, method }) => (method === 'POST' && path.includes('/tpm/') ? { status: 500 } : undefined)
  expect(await outcomeOf(activate(answer))).toBe('unavailable')
  expect(await refusal(evidence(broker, machine))).toBe('AK_NOT_ENROLLED')
  broker.vault.fault = () => undefined
  await enrol(broker, machine)
  await logIn(broker, machine)
})
