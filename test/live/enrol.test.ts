import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { akKinds, ekKinds } from '../../agent/kinds.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import {
  ask,
  codeOf,
  configureAuth,
  done,
  enrol,
  logIn,
  machine,
  openWorld,
  refusal,
  serviceOf,
  type World,
  withheld,
} from './world.ts'

let world: World
let tpm: Swtpm
beforeAll(async () => {
  world = await openWorld({ tpms: [{ p256: true }, {}, {}] })
  tpm = world.tpms[0] as Swtpm
  await using attester = await machine(tpm)
  await configureAuth(world, tpm, attester, { config: { ek_types: ekKinds } })
})
afterAll(() => world[Symbol.asyncDispose]())

const service = () => serviceOf(world.door.address)
const config = (fields: object) => done(world.api('POST', 'auth/tpm-quote/config', fields))
const record = async (id: string) => (await world.api('GET', `auth/tpm-quote/tpm/${id}`)).body.data

describe('every kind of endorsement key, with every kind of attestation key', () => {
  const kinds = ekKinds.map((ek, index) => [ek, akKinds[index]] as const)
  test.each([...kinds, ['rsa-2048', 'rsapss-2048'] as const])('%s, %s: enrols and logs in', async (ek, ak) => {
    await using attester = await machine(tpm, { ek, ...(ak ? { ak } : {}) })
    const { tpm_id, ak_name } = await enrol(service(), tpm, attester)
    expect(tpm_id).toMatch(/^sha256-[0-9a-f]{64}$/)
    expect(await record(tpm_id)).toMatchObject({
      ek_type: ek,
      ak_names: expect.arrayContaining([ak_name]) as string[],
      maker: 'id:00001014',
    })
    expect(await logIn(service(), attester)).toMatch(/^hvs\./)
  })

  test('one TPM has one id per kind, and keeps its attestation keys side by side', async () => {
    const { keys } = (await world.api('LIST', 'auth/tpm-quote/tpm')).body.data as { keys: string[] }
    const records = await Promise.all(keys.map(record))
    expect(new Set(records.map(one => String(one.ek_type)))).toEqual(new Set(ekKinds))
    expect(records).toHaveLength(ekKinds.length)
    expect(records.find(one => one.ek_type === 'rsa-2048')?.ak_names).toHaveLength(2)
  })

  test('a kind that is not configured is refused', async () => {
    await config({ ek_types: 'rsa-2048' })
    await using attester = await machine(tpm, { ek: 'p-384' })
    expect(await refusal(world, enrol(service(), tpm, attester))).toBe('EK_TYPE')
    await config({ ek_types: ekKinds })
  })
})

describe('who may enrol', () => {
  let other: Swtpm
  let attester: Attester
  beforeAll(async () => {
    other = world.tpms[1] as Swtpm
    attester = await machine(other)
  })
  afterAll(() => attester.close())
  afterEach(() => config({ enrollment: 'any', allow_software_tpms: true, allowed_makers: '' }))

  test('listed: nobody whom the operator has not registered', async () => {
    await config({ enrollment: 'listed' })
    expect(await refusal(world, enrol(service(), other, attester))).toBe('NOT_LISTED')
    const id = await idOf(other, attester)
    await done(world.api('POST', `auth/tpm-quote/tpm/${id}`, { labels: 'rack-1' }))
    expect((await enrol(service(), other, attester)).tpm_id).toBe(id)
    expect(await record(id)).toMatchObject({ labels: ['rack-1'], ek_type: 'rsa-2048', ak_names: [expect.any(String)] })
    await done(world.api('DELETE', `auth/tpm-quote/tpm/${id}`))
  })

  test('token: only who brings a token that may write enroll', async () => {
    await config({ enrollment: 'token' })
    const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, other, attester))
    expect(await ask(world.door.address, 'POST', path, { body })).toMatchObject({
      status: 403,
      body: { errors: ['permission denied'] },
    })
    const nobody = (await world.vault.cli(['token', 'create', '-policy=default', '-field=token'])).stdout.trim()
    expect((await ask(world.door.address, 'POST', path, { body, token: nobody })).status).toBe(403)
    expect((await world.api('POST', path, body)).body.data.tpm_id).toMatch(/^sha256-/)
  })

  test('any: whose certificate leads to a trust anchor, of an accepted maker, in hardware unless said otherwise', async () => {
    const tried = () => refusal(world, enrol(service(), other, attester))
    await config({ allowed_makers: 'id:49465800' })
    expect(await tried()).toBe('MAKER_MISMATCH')
    await config({ allowed_makers: 'id:00001014', allow_software_tpms: false })
    expect(await tried()).toBe('MAKER_MISMATCH')
    await config({ allow_software_tpms: true })
    await done(world.api('DELETE', 'auth/tpm-quote/ca/makers'))
    expect(await tried()).toBe('NO_ANCHORS')
    await done(world.api('POST', 'auth/tpm-quote/ca/makers', { certificate: other.rootCaPem }))
    const withoutIssuer = { ...other, issuerPem: '' }
    expect(await refusal(world, enrol(service(), withoutIssuer, attester))).toBe('BAD_CHAIN')
  })

  test('hierarchies that are not configured are refused', async () => {
    // of a machine of its own: the others have made all the offers that one may make at once
    await using third = await machine(world.tpms[2] as Swtpm)
    const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, world.tpms[2] as Swtpm, third))
    const reply = await ask(world.door.address, 'POST', path, { body: { ...body, hierarchy: 'owner' } })
    expect(reply.status).toBe(403)
    expect(await codeOf(world.door.auditFile, reply.body)).toBe('HIERARCHY')
  })
})

describe('what is offered is checked', () => {
  let attester: Attester
  let stranger: Attester
  beforeAll(async () => {
    attester = await machine(tpm)
    stranger = await machine(world.tpms[1] as Swtpm)
  })
  afterAll(() => Promise.all([attester.close(), stranger.close()]))

  test('the certificate of one TPM with the key of another', async () => {
    const { certificate } = await stranger.endorsement()
    const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, tpm, attester))
    const reply = await ask(world.door.address, 'POST', path, {
      body: { ...body, ek_certificate: certificate.toString('base64') },
    })
    expect(await codeOf(world.door.auditFile, reply.body)).toBe('EK_MISMATCH')
  })

  test('a key that is no attestation key', async () => {
    const { public: ek } = await attester.endorsement()
    const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, tpm, attester))
    const reply = await ask(world.door.address, 'POST', path, { body: { ...body, ak_public: ek.toString('base64') } })
    expect(await codeOf(world.door.auditFile, reply.body)).toBe('AK_ATTRIBUTES')
  })

  test('bytes that are no structure, too long, or no base64', async () => {
    const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, tpm, attester))
    const tried = (fields: object) => ask(world.door.address, 'POST', path, { body: { ...body, ...fields } })
    expect(await codeOf(world.door.auditFile, (await tried({ ak_public: 'AAAA' })).body)).toBe('BAD_KEY')
    const reply = await tried({ ek_certificate: Buffer.alloc(1000).toString('base64') })
    expect(await codeOf(world.door.auditFile, reply.body)).toBe('BAD_ENCODING')
    expect((await tried({ ek_public: randomBytes(2049).toString('base64') })).status).toBe(400)
    expect(await tried({ ek_public: '<not base64>' })).toEqual({ status: 400, body: { errors: ['ek_public: wanted base64'] } })
  })

  test('an answer counts once, at this mount, with the right secret, and as an enrolment only', async () => {
    const answer = await withheld(service(), /activate$/, held => enrol(held, tpm, attester))
    const send = (body: object, path = answer.path) => ask(world.door.address, 'POST', path, { body })
    const code = async (body: object, path?: string) => codeOf(world.door.auditFile, (await send(body, path)).body)
    await done(world.api('POST', 'sys/auth/other', { type: 'tpm-quote' }))
    expect(await code(answer.body, 'auth/other/enroll/activate')).toBe('SESSION_BINDING')
    const { challenge: _, ...asLogin } = { ...answer.body, role: 'builder', ak_name: '00', challenge: '' }
    const login = { ...asLogin, challenge: answer.body['enrollment'], attest: 'AAAA', signature: 'AAAA', pcrs: '{}' }
    expect((await send(login, 'auth/tpm-quote/login')).status).toBe(400)
    expect(await code({ ...answer.body, enrollment: `AAAA${String(answer.body['enrollment']).slice(4)}` })).toBe(
      'CHALLENGE_UNKNOWN',
    )
    expect((await send(answer.body)).status).toBe(200)
    expect(await code(answer.body)).toBe('CHALLENGE_USED')
    const guessed = await withheld(service(), /activate$/, held => enrol(held, tpm, attester))
    expect(await code({ ...guessed.body, secret: randomBytes(32).toString('base64') })).toBe('ACTIVATION')
    expect(await code(guessed.body)).toBe('CHALLENGE_USED')
  })
})

async function idOf(of: Swtpm, attester: Attester): Promise<string> {
  await config({ enrollment: 'any' })
  const { path, body } = await withheld(service(), /enroll$/, held => enrol(held, of, attester))
  const { body: offered } = await ask(world.door.address, 'POST', path, { body })
  await config({ enrollment: 'listed' })
  return offered.data.tpm_id as string
}
