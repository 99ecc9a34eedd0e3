import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { describeLists } from '#engine'
import { type ListFields, makeCa, makeList, named, pem } from '../attestation/certificates.ts'
import { configure, dataOf, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { anchorPem, fakeMachine, maker } from '../fakes/machine.ts'

// Revocation lists change while something is under way: an enrolment, a fetch, a login at another replica.

const machine = fakeMachine({ label: 'trusted' })
const nobody = { token: '' }
const TPM = `auth/tpm-quote/tpm/${machine.tpmId}`

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const write = (path: string, data: object) => broker.ask('update', `auth/tpm-quote/${path}`, data)
const list = (changes: Partial<ListFields> = {}) => pem(makeList(maker, changes), 'X509 CRL')
const revoked = { revoked: [{ serial: Buffer.of(1) }] }
const shown = async () => dataOf(await broker.ask('read', TPM)) as Record<string, unknown>
const refusal = async (asked: Promise<unknown>) => {
  expect(await outcomeOf(asked)).toBe('permission_denied')
  return (await broker.records()).filter(one => one['type'] === 'refusal').at(-1)?.['code']
}
/** Everything but the answer, which is given when it is called. */
async function offered() {
  const given = dataOf(await broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, nobody))
  const secret = machine.activate(
    Buffer.from(given['credential_blob'] ?? '', 'base64'),
    Buffer.from(given['encrypted_secret'] ?? '', 'base64'),
  )
  const answer = { enrollment: given['enrollment'], secret: secret?.toString('base64') }
  return () => broker.ask('update', 'auth/tpm-quote/enroll/activate', answer, nobody)
}
/** Whoever enrolled before was looked up in the lists of now: the last look ends with the watch. */
const looked = () => broker.broker.attest.watch.stop()

describe('a certificate that is revoked between the offer and its answer', () => {
  test('enrols nobody', async () => {
    const activate = await offered()
    await write('crl/maker', { crl: list(revoked) })
    await looked()
    expect(await refusal(activate())).toBe('REVOKED')
    expect(await outcomeOf(evidence(broker, machine))).toBe('permission_denied')
  })

  test('lets nobody back in who was enrolled before', async () => {
    await enrol(broker, machine)
    const activate = await offered()
    await write('crl/maker', { crl: list(revoked) })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    expect(await refusal(activate())).toBe('REVOKED')
    expect(await refusal(logIn(broker, machine))).toBe('REVOKED')
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
  })
})

describe('a machine whose certificate is revoked', () => {
  const mount = () => broker.broker.mounts.find('auth/tpm-quote/login') ?? expect.unreachable()
  /** The lists change, and the look at the enrolled machines comes to its end. */
  const revoke = async () => {
    await write('crl/maker', { crl: list(revoked) })
    await looked()
  }

  test('loses what it has also where that failed at first', async () => {
    await enrol(broker, machine)
    const token = await logIn(broker, machine)
    broker.vault.fault = ({ path }) => (path.includes('/open/') ? { status: 503 } : undefined)
    await revoke()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    broker.vault.fault = () => undefined
    expect(broker.vault.state.tokens.has(token)).toBe(true)
    broker.broker.attest.watch.begin(mount())
    await expect.poll(() => broker.vault.state.tokens.has(token), { timeout: 10_000 }).toBe(false)
    await looked()
    const epoch = (await shown())['epoch']
    await write('crl/maker', { crl: list({ ...revoked, nextUpdate: new Date('2026-08-01T00:00:00Z') }) })
    await looked()
    expect((await shown())['epoch']).toBe(epoch)
  })

  test('is found also where somebody else writes its record at that moment', async () => {
    await enrol(broker, machine)
    let conflicts = 1
    const text = JSON.stringify({ errors: ['check-and-set parameter did not match the current version'] })
    broker.vault.fault = ({ method, path }) =>
      method !== 'GET' && path.endsWith(`/tpm/${machine.tpmId}`) && conflicts-- > 0 ? { status: 400, text } : undefined
    await revoke()
    expect(conflicts).toBeLessThan(1)
    expect(await refusal(evidence(broker, machine))).toBe('REVOKED')
  })
})

test('one text may hold the anchors and their lists', async () => {
  const both = `${anchorPem()}${list()}`
  await write('config', { crl: 'hard' })
  await write('ca/makers', { certificate: both })
  await write('crl/maker', { crl: both })
  expect(await outcomeOf(enrol(broker, machine))).toBe('OK')
})

describe('lists that are fetched again', () => {
  /** A place that answers when it is told to. */
  async function host(first: Buffer) {
    let body: Promise<Buffer> = Promise.resolve(first)
    const asked: string[] = []
    const server = createServer(({ url = '' }, response) => {
      asked.push(url)
      void body.then(bytes => response.end(bytes))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const place = `127.0.0.1:${(server.address() as AddressInfo).port}`
    await write('config', { crl_hosts: place })
    return {
      url: `http://${place}/maker.crl`,
      asked,
      hold: () => {
        const { promise, resolve } = Promise.withResolvers<Buffer>()
        body = promise
        return resolve
      },
      [Symbol.asyncDispose]: async () => void (await new Promise(resolve => server.close(resolve))),
    }
  }
  /** The list that is there has ended, so whoever enrols waits for the next one. */
  async function again(
    from: Awaited<ReturnType<typeof host>>,
    answer: Buffer,
    meanwhile: () => Promise<unknown> = async () => {},
  ) {
    const give = from.hold()
    broker.world.pass(31 * 86_400_000)
    const before = from.asked.length
    const enrolling = outcomeOf(enrol(broker, machine))
    await expect.poll(() => from.asked.length).toBe(before + 1)
    await meanwhile()
    give(answer)
    await enrolling
    await looked()
  }
  const current = { thisUpdate: new Date('2026-06-30T00:00:00Z'), nextUpdate: new Date('2027-07-01T00:00:00Z') }
  const lists = async () => dataOf(await broker.ask('list', 'auth/tpm-quote/crl'))['keys']

  test('do not come back where they were deleted meanwhile', async () => {
    await using from = await host(makeList(maker))
    await write('crl/maker', { url: from.url })
    await again(from, makeList(maker, current), () => broker.ask('delete', 'auth/tpm-quote/crl/maker'))
    expect(await lists()).toEqual([])
  })

  test('do not take the place of what was written meanwhile', async () => {
    await using from = await host(makeList(maker))
    await write('crl/maker', { url: from.url })
    await again(from, makeList(maker, current), () => write('crl/maker', { crl: list(revoked) }))
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/crl/maker'))).toMatchObject({ url: '', lists: [{ revoked: 1 }] })
  })

  const stranger = makeCa(maker.subject, { label: 'of the same name' })
  test.each([
    ['of another CA', makeList(makeCa(named('Unknown CA')), current)],
    ['that its CA has not signed', makeList(stranger, current)],
  ])('%s, as whoever is in between may send them, let nobody back in', async (_, answer) => {
    await enrol(broker, machine)
    await using from = await host(makeList(maker, revoked))
    await write('crl/maker', { url: from.url })
    await expect.poll(async () => (await shown())['revocation']).toBe('revoked')
    await again(from, answer)
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    expect(await refusal(evidence(broker, machine))).toBe('REVOKED')
  })

  test('that do not name a certificate any more let it back in', async () => {
    await enrol(broker, machine)
    await using from = await host(makeList(maker, revoked))
    await write('crl/maker', { url: from.url })
    await expect.poll(async () => (await shown())['revocation']).toBe('revoked')
    await again(from, makeList(maker, current))
    expect(await shown()).toMatchObject({ revocation: 'checked' })
    await logIn(broker, machine)
  })
})

test('what is read of a list is kept', () => {
  const text = list(revoked)
  expect(describeLists(text)).toMatchObject([{ revoked: 1 }])
  expect(describeLists(`${text}`.slice())).toBe(describeLists(text))
})
