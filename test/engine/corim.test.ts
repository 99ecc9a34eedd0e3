import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { comidOf, manifestOf, measurement, signedBy, triplesOf, validity } from '../attestation/corim_maker.ts'
import { configure, dataOf, enrol, evidence, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'

const author = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const stranger = generateKeyPairSync('ed25519')
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString()
const registers = Object.fromEntries(
  Object.entries(REFERENCE.sha256).map(([pcr, hex]) => [pcr, [[1, Buffer.from(hex, 'hex')] as const]]),
)
const START = Date.parse('2026-06-01T00:00:00Z') / 1000

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await broker.ask('update', 'auth/tpm-quote/signer/acme', { public_key: pem(author.publicKey) })
})
afterEach(() => broker[Symbol.asyncDispose]())

const manifest = (until = START + 3600, more = registers) =>
  manifestOf([comidOf(triplesOf(measurement(more)))], [validity(undefined, until)])
const send = (corim: Buffer, name = 'signed') =>
  broker.ask('update', `auth/tpm-quote/reference/${name}/corim`, { corim: corim.toString('base64'), owner: 'acme' })

describe('a signed manifest', () => {
  test('becomes a set that lets in whom it describes, for as long as it says', async () => {
    expect(dataOf(await send(signedBy(author.privateKey, manifest())))).toMatchObject({
      pcrs: REFERENCE,
      not_before: '',
      not_after: '2026-06-01T01:00:00.000Z',
      description: 'CoRIM acme-2026-11, signed by acme',
      owner: 'acme',
      version: 1,
    })
    await broker.ask('update', 'auth/tpm-quote/role/builder', { references: 'signed' })
    const machine = fakeMachine({ label: 'described' })
    await enrol(broker, machine)
    const login = async () => broker.ask('update', 'auth/tpm-quote/login', await evidence(broker, machine), { token: '' })
    expect(await outcomeOf(login())).toBe('OK')
    broker.world.pass(3_600_000)
    expect(await outcomeOf(login())).toBe('permission_denied')
    expect((await broker.records()).findLast(({ type }) => type === 'refusal')).toMatchObject({ code: 'REFERENCE_WINDOW' })
  })

  test('replaces the set, and its version counts on', async () => {
    await send(signedBy(author.privateKey, manifest()), 'good')
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/reference/good'))).toMatchObject({
      version: 2,
      not_after: '2026-06-01T01:00:00.000Z',
    })
    await send(signedBy(author.privateKey, manifest(START + 7200, { 0: registers['0'] ?? [] })), 'good')
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/reference/good'))).toMatchObject({
      version: 3,
      pcrs: { sha256: { 0: REFERENCE.sha256[0] } },
    })
  })

  test.each([
    ['SIGNATURE', () => signedBy(stranger.privateKey, manifest())],
    ['BAD_ENCODING', () => Buffer.from('no manifest')],
  ])('is refused and changes nothing: %s', async (code, corim) => {
    const asked = send(corim(), 'good')
    await expect(asked).rejects.toMatchObject({
      code: 'bad_request',
      message: expect.stringContaining(`corim: ${code}: `) as string,
    })
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/reference/good'))).toMatchObject({ version: 1 })
  })

  test('that names PCRs which software can reset is refused as such sets are, and changes nothing', async () => {
    const corim = signedBy(author.privateKey, manifest(START, { 16: [[1, createHash('sha256').digest()]] }))
    await expect(send(corim, 'good')).rejects.toMatchObject({
      message: expect.stringContaining('software can reset 16 and 23') as string,
    })
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/reference/good'))).toMatchObject({ version: 1 })
  })
})

test.each([
  pem(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey),
  author.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  'nonsense',
  '',
])('a key that may not sign is refused, case %#', async public_key => {
  const asked = broker.ask('update', 'auth/tpm-quote/signer/bad', { public_key })
  await expect(asked).rejects.toMatchObject({
    code: 'bad_request',
    message: expect.stringContaining('public_key: wanted a public key in PEM') as string,
  })
})
