import { beforeEach, describe, expect, test } from 'vitest'
import { describeLists } from '#engine'
import { pairOf } from '../attestation/attester.ts'
import { certifyEk, EK_EXTENSIONS, makeCa, makeList, named, pem, san } from '../attestation/certificates.ts'
import { dataOf, enrol, evidence, logIn, outcomeOf } from '../fakes/broker.ts'
import { anchorPem, fakeMachine, maker } from '../fakes/machine.ts'
import { list, listHost, revoked, trustWorld } from './trust_world.ts'

// Revocation lists change while something is under way: an enrolment, a fetch, a login at another replica.

const machine = fakeMachine({ label: 'trusted' })
const nobody = { token: '' }

const { broker, write, read, remove, refusal, looked } = trustWorld()
const shown = () => read(`tpm/${machine.tpmId}`)

const mount = () => broker().broker.mounts.find('auth/tpm-quote/login') ?? expect.unreachable()
/** Everything but the answer, which is given when it is called. */
async function offered() {
  const given = dataOf(await broker().ask('update', 'auth/tpm-quote/enroll', machine.offer, nobody))
  const secret = machine.activate(
    Buffer.from(given['credential_blob'] ?? '', 'base64'),
    Buffer.from(given['encrypted_secret'] ?? '', 'base64'),
  )
  const answer = { enrollment: given['enrollment'], secret: secret?.toString('base64') }
  return () => broker().ask('update', 'auth/tpm-quote/enroll/activate', answer, nobody)
}
describe('a certificate that is revoked between the offer and its answer', () => {
  test('enrols nobody', async () => {
    const activate = await offered()
    await write('crl/maker', { crl: list(revoked) })
    await looked()
    expect(await refusal(activate())).toBe('REVOKED')
    expect(await outcomeOf(evidence(broker(), machine))).toBe('permission_denied')
  })

  test('lets nobody back in who was enrolled before', async () => {
    await enrol(broker(), machine)
    const activate = await offered()
    await write('crl/maker', { crl: list(revoked) })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    expect(await refusal(activate())).toBe('REVOKED')
    expect(await refusal(logIn(broker(), machine))).toBe('REVOKED')
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
  })
})

describe('a machine whose certificate is revoked', () => {
  /** The lists change, and the look at the enrolled machines comes to its end. */
  const revoke = async () => {
    await write('crl/maker', { crl: list(revoked) })
    await looked()
  }

  test('loses what it has also where that failed at first', async () => {
    await enrol(broker(), machine)
    const token = await logIn(broker(), machine)
    broker().vault.fault = ({ path }) => (path.includes('/open/') ? { status: 503 } : undefined)
    await revoke()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    broker().vault.fault = () => undefined
    expect(broker().vault.state.tokens.has(token)).toBe(true)
    broker().broker.attest.watch.begin(mount())
    await expect.poll(() => broker().vault.state.tokens.has(token)).toBe(false)
    await looked()
    const epoch = (await shown())['epoch']
    await write('crl/maker', { crl: list({ ...revoked, nextUpdate: new Date('2026-08-01T00:00:00Z') }) })
    await looked()
    expect((await shown())['epoch']).toBe(epoch)
  })

  test.each([
    ['is written over', { deleted: false }],
    ['is deleted and registered anew', { deleted: true }],
  ])('stays out where its record %s', async (_, { deleted }) => {
    await enrol(broker(), machine)
    await revoke()
    if (deleted) await remove(`tpm/${machine.tpmId}`)
    await write(`tpm/${machine.tpmId}`, { labels: 'rack 7', revocation: 'checked' })
    expect(await shown()).toMatchObject({ labels: ['rack 7'], revocation: 'revoked' })
    expect(await refusal(evidence(broker(), machine))).toBe('REVOKED')
  })

  test('is found in a list over SHA-1 where that counts for its maker, as an operator wrote it', async () => {
    const key = pairOf('rsa-2048', 'ek trusted').publicKey
    const ca = makeCa(named('STM TPM EK Intermediate', 'STMicroelectronics NV'), {}, maker)
    const extensions = EK_EXTENSIONS.with(-1, san(['id:53544D20', 'ST33', 'id:0F0A']))
    const ek_certificate = certifyEk(ca, key, { extensions }).toString('base64')
    const offer = { ...machine.offer, ek_certificate, intermediates: ca.certificate.toString('base64') }
    await write('config', { sha1_makers: 'id:53544d20', allowed_makers: 'id:53544d20' })
    await write('ca/makers', { certificate: pem(ca.certificate) })
    await enrol(broker(), { ...machine, offer })
    await write('crl/maker', { crl: pem(makeList(ca, { ...revoked, hash: 'sha1' }), 'X509 CRL') })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    await write('config', { sha1_makers: '' })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'unknown' })
  })

  test('is found also where somebody else writes its record at that moment', async () => {
    await enrol(broker(), machine)
    let conflicts = 1
    const text = JSON.stringify({ errors: ['check-and-set parameter did not match the current version'] })
    broker().vault.fault = ({ method, path }) =>
      method !== 'GET' && path.endsWith(`/tpm/${machine.tpmId}`) && conflicts-- > 0 ? { status: 400, text } : undefined
    await revoke()
    expect(conflicts).toBeLessThan(1)
    expect(await refusal(evidence(broker(), machine))).toBe('REVOKED')
  })
})

describe('what an operator orders', () => {
  const older = { thisUpdate: new Date('2026-04-01T00:00:00Z') }
  beforeEach(async () => {
    await enrol(broker(), machine)
    await write('crl/maker', { crl: list(revoked) })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
  })

  test('counts as it is: a list of theirs may be older', async () => {
    await write('crl/maker', { crl: list(older) })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'checked' })
    await logIn(broker(), machine)
  })

  test.each([
    ['that lists do not count', () => write('config', { crl: 'off' }), 'unchecked'],
    ['that there is none', () => remove('crl/maker'), 'unknown'],
  ])('%s is done later where it fails at first', async (_, order, said) => {
    broker().vault.fault = ({ method, path }) =>
      method !== 'GET' && path.endsWith(`/tpm/${machine.tpmId}`) ? { status: 503 } : undefined
    await order()
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    broker().vault.fault = () => undefined
    broker().broker.attest.watch.begin(mount())
    await looked()
    expect(await shown()).toMatchObject({ revocation: said })
    await logIn(broker(), machine)
  })
})

test('one text may hold the anchors and their lists', async () => {
  const both = `${anchorPem()}${list()}`
  await write('config', { crl: 'hard' })
  await write('ca/makers', { certificate: both })
  await write('crl/maker', { crl: both })
  expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
})

describe('lists that are fetched again', () => {
  /** A place that answers when it is told to. */
  async function host(first: Buffer) {
    let body: Promise<Buffer> = Promise.resolve(first)
    const from = await listHost(async () => ({ body: await body }))
    await write('config', { crl_hosts: from.place })
    const hold = () => {
      const { promise, resolve } = Promise.withResolvers<Buffer>()
      body = promise
      return resolve
    }
    return { ...from, hold }
  }
  /** The list that is there has ended, so whoever enrols waits for the next one. */
  async function again(
    from: Awaited<ReturnType<typeof host>>,
    answer: Buffer,
    meanwhile: () => Promise<unknown> = async () => {},
  ) {
    const give = from.hold()
    broker().world.pass(31 * 86_400_000)
    const before = from.asked.length
    const enrolling = outcomeOf(enrol(broker(), machine))
    await expect.poll(() => from.asked.length).toBe(before + 1)
    await meanwhile()
    give(answer)
    await enrolling
    await looked()
  }
  const current = { thisUpdate: new Date('2026-06-30T00:00:00Z'), nextUpdate: new Date('2027-07-01T00:00:00Z') }
  const lists = async () => dataOf(await broker().ask('list', 'auth/tpm-quote/crl'))['keys']

  test('do not come back where they were deleted meanwhile', async () => {
    await using from = await host(makeList(maker))
    await write('crl/maker', { url: from.url })
    await again(from, makeList(maker, current), () => remove('crl/maker'))
    expect(await lists()).toEqual([])
  })

  test('do not take the place of what was written meanwhile', async () => {
    await using from = await host(makeList(maker))
    await write('crl/maker', { url: from.url })
    await again(from, makeList(maker, current), () => write('crl/maker', { crl: list(revoked) }))
    expect(await read('crl/maker')).toMatchObject({ url: '', lists: [{ revoked: 1 }] })
  })

  const stranger = makeCa(maker.subject, { label: 'of the same name' })
  test.each([
    ['of another CA', makeList(makeCa(named('Unknown CA')), current)],
    ['that its CA has not signed', makeList(stranger, current)],
    ['that are older', makeList(maker, { ...current, thisUpdate: new Date('2026-04-30T00:00:00Z') })],
  ])('%s, as whoever is in between may send them, let nobody back in', async (_, answer) => {
    await enrol(broker(), machine)
    await using from = await host(makeList(maker, revoked))
    await write('crl/maker', { url: from.url })
    await expect.poll(async () => (await shown())['revocation']).toBe('revoked')
    await again(from, answer)
    await write('crl/another', { crl: pem(makeList(makeCa(named('Another CA'))), 'X509 CRL') })
    await looked()
    expect(await shown()).toMatchObject({ revocation: 'revoked' })
    expect(await refusal(evidence(broker(), machine))).toBe('REVOKED')
    expect(await read('crl/maker')).toMatchObject({ lists: [{ revoked: 1 }] })
  })

  test('that do not name a certificate any more let it back in', async () => {
    await enrol(broker(), machine)
    await using from = await host(makeList(maker, revoked))
    await write('crl/maker', { url: from.url })
    await expect.poll(async () => (await shown())['revocation']).toBe('revoked')
    await again(from, makeList(maker, current))
    expect(await shown()).toMatchObject({ revocation: 'checked' })
    await logIn(broker(), machine)
  })
})

test('what is read of a list is kept', () => {
  const text = list(revoked)
  expect(describeLists(text)).toMatchObject([{ revoked: 1 }])
  expect(describeLists(`${text}`.slice())).toBe(describeLists(text))
})
