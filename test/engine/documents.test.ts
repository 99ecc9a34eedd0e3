import { createHash } from 'node:crypto'
import { decodeJwt } from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { qualifyingData } from '#attestation'
import { pem } from '../attestation/certificates.ts'
import { type Document, nitroDocument, pcr, root } from '../attestation/nitro_maker.ts'
import { configure, dataOf, enrol, evidence, openTestBroker, outcomeOf, refusalOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

const nobody = { token: '' }
const ID = 'aws-nitro-i-0123456789abcdef0-enc0123456789abcdef'
const THUMBPRINT = 'b'.repeat(43)
const image = { sha384: Object.fromEntries([0, 1, 2].map(index => [index, pcr(index).toString('hex')])) }

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker, { auth: { crl: 'off' } })
  await write('ca/amazon', { certificate: pem(root.certificate), format: 'aws-nitro' })
  await write('reference/image', { pcrs: image })
  await write('role/enclave', { format: 'aws-nitro', references: 'image', token_policies: 'builder' })
})
afterEach(() => broker[Symbol.asyncDispose]())

const write = (path: string, data: object) => broker.ask('update', `auth/tpm-quote/${path}`, data)
const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)

/** A document that answers a fresh challenge of the mount, or says something else. */
async function answer(document: Document = {}, asked: Record<string, string> = {}) {
  const request = { role: 'enclave', audience: '', key_thumbprint: THUMBPRINT, ...asked }
  const drawn = dataOf(await broker.ask('update', 'auth/tpm-quote/challenge/document', request, nobody))
  const binding = qualifyingData(Buffer.from(drawn['nonce'] ?? '', 'base64'), {
    operation: 'login',
    mount: 'auth/tpm-quote/',
    role: request.role,
    audience: request.audience,
    akName: Buffer.alloc(0),
    keyThumbprint: request.key_thumbprint,
    plugin: '',
    action: '',
    scope: [],
  })
  const made = { nonce: binding, timestamp: broker.world.now(), ...document.members }
  const bytes = nitroDocument({ ...document, members: made })
  return { ...request, challenge: drawn['challenge'], document: bytes.toString('base64') }
}
const send = (sent: object) => broker.ask('update', 'auth/tpm-quote/login/document', sent, nobody)
const logIn = async (document: Document = {}, asked: Record<string, string> = {}) => send(await answer(document, asked))
const tokenOf = (outcome: Awaited<ReturnType<typeof logIn>>) =>
  String('reply' in outcome && outcome.reply && 'vault' in outcome.reply ? outcome.reply.vault.auth?.['client_token'] : '')

describe('a role whose format is that of documents', () => {
  test('lets an enclave in that answers the challenge, and gives it credentials', async () => {
    const token = tokenOf(await logIn())
    const asked = { plugin: 'kubernetes', scope: 'apps:read' }
    expect(dataOf(await broker.ask('update', 'broker/creds/deploy', asked, { token }))['token']).toMatch(/^eyJ/)
    expect(dataOf(await broker.ask('read', `auth/tpm-quote/tpm/${ID}`))).toMatchObject({
      maker: 'aws-nitro',
      ek_type: 'aws-nitro',
    })
    expect(tokenOf(await logIn())).not.toBe(token)
  })

  test('says what it established as claims of an Entity Attestation Token, to Vault and to who looks later', async () => {
    const sent = await answer()
    await send(sent)
    const { body } = broker.vault.asked.findLast(({ path }) => path === 'auth/tpm-quote/login') ?? { body: {} }
    const { jwt } = body as { jwt: string }
    const said = decodeJwt(jwt)
    const digest = createHash('sha256').update(ID).digest()
    const claims = {
      eat_profile: 'urn:x-assay:eat:aws-nitro:1',
      eat_nonce: expect.stringMatching(/^[\w-]{43}$/) as string,
      ueid: Buffer.concat([Buffer.of(1), digest]).toString('base64url'),
      dbgstat: 'disabled',
      measres: [['aws-nitro-pcr', [['image@1', 'success']]]],
    }
    expect(said).toMatchObject(claims)
    const shown = async () =>
      (dataOf(await broker.ask('read', `auth/tpm-quote/tpm/${ID}`)) as Record<string, unknown>)['last_result']
    await expect.poll(shown).toMatchObject({ outcome: 'OK', role: 'enclave', reference: 'image', eat: claims })
  })

  test('takes a document once, for what it was asked', async () => {
    const sent = await answer()
    await send(sent)
    expect(await refusal(send(sent))).toBe('CHALLENGE_USED')
    expect(await refusal(send({ ...(await answer()), key_thumbprint: '' }))).toBe('SESSION_BINDING')
    expect(await refusal(send({ ...(await answer()), audience: 'https://elsewhere.example' }))).toBe('AUDIENCE')
    expect(await refusal(send({ ...(await answer()), document: sent.document }))).toBe('NONCE_MISMATCH')
    const late = await answer()
    broker.world.pass(60_001)
    expect(await refusal(send(late))).toBe('CHALLENGE_EXPIRED')
  })

  test.each([
    ['PCR_POLICY', { members: { pcrs: new Map([0, 1, 2].map(index => [index, pcr(index + 1)])) } }],
    ['DEBUG', { members: { pcrs: new Map([0, 1, 2].map(index => [index, Buffer.alloc(48)])) } }],
    ['KIND', { members: { pcrs: undefined, nitrotpm_pcrs: new Map([[4, pcr(4)]]) } }],
    ['BAD_CHAIN', { bundle: [root] }],
    ['SIGNATURE', { signature: () => Buffer.alloc(96) }],
  ] as const)('%s', async (code, document) => expect(await refusal(logIn(document))).toBe(code))

  test('trusts the roots of its own format alone', async () => {
    await write('ca/amazon', { format: 'tpm2-quote' })
    broker.world.pass(10_000)
    expect(await refusal(logIn())).toBe('NO_ANCHORS')
    const tpm = fakeMachine({ label: 'under amazon', ca: root })
    await write('ca/amazon', { format: 'aws-nitro' })
    expect(await refusal(enrol(broker, tpm))).toBe('BAD_CHAIN')
  })

  test('takes no quotes, and roles of quotes take no documents', async () => {
    const machine = fakeMachine({ label: 'tpm' })
    await enrol(broker, machine)
    expect(await refusal(evidence(broker, machine, { role: 'enclave' }))).toBe('KIND')
    expect(await refusal(answer({}, { role: 'builder' }))).toBe('KIND')
    expect(await refusal(answer({}, { role: 'nobody' }))).toBe('ROLE')
  })

  test('wants a bound key where it says so', async () => {
    await write('role/enclave', { bind_key: 'required' })
    expect(await refusal(logIn({}, { key_thumbprint: '' }))).toBe('KEY_NOT_BOUND')
    await logIn()
  })

  test('lists machines by their ids, and refuses those that are disabled', async () => {
    await write('role/enclave', { tpm_ids: 'aws-nitro-other' })
    expect(await refusal(logIn())).toBe('ROLE')
    await write('role/enclave', { tpm_ids: ID })
    const token = tokenOf(await logIn())
    await write(`tpm/${ID}`, { disabled: true })
    expect(await refusal(logIn())).toBe('TPM_DISABLED')
    const asked = broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
    expect(await outcomeOf(asked)).toBe('permission_denied')
  })

  test('lets in whom the mount lets in: any, listed ones, or those an operator approves of', async () => {
    await write('config', { enrollment: 'listed' })
    expect(await refusal(logIn())).toBe('NOT_LISTED')
    await write('config', { enrollment: 'approved' })
    expect(await refusal(logIn())).toBe('NOT_LISTED')
    expect(dataOf(await broker.ask('list', 'auth/tpm-quote/pending'))['keys']).toEqual([ID])
    await write(`pending/${ID}`, { decision: 'deny' })
    expect(await refusal(logIn())).toBe('ENROLMENT_DENIED')
    await write(`pending/${ID}`, { decision: 'approve' })
    await logIn()
  })

  test('is not met by reference values that want logs of a TPM', async () => {
    await write('reference/image', { firmware_versions: '2020010100000000' })
    expect(await refusal(logIn())).toBe('PCR_POLICY')
  })
})
