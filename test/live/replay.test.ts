import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BoundRequest, qualifyingData } from '#attestation'
import type { Attester } from '../../agent/attester.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import {
  ask,
  auditOf,
  codeOf,
  configureAuth,
  done,
  enrol,
  logIn,
  MEASURED,
  machine,
  openWorld,
  refusal,
  serviceOf,
  type World,
  withheld,
  withheldLogin,
} from './world.ts'

// A quote answers one challenge, in one request, once. Everything else that can be done with one is tried here.

let world: World
let a: Attester
let b: Attester
beforeAll(async () => {
  world = await openWorld({ tpms: [{}, {}] })
  const [one, two] = world.tpms as [Swtpm, Swtpm]
  a = await machine(one)
  b = await machine(two)
  await configureAuth(world, one, a)
  await done(world.api('POST', 'auth/tpm-quote/role/deployer', { references: 'good', token_policies: 'builder' }))
  await enrol(service(), one, a)
  await enrol(service(), two, b)
})
afterAll(async () => {
  await a?.close()
  await b?.close()
  await world?.[Symbol.asyncDispose]()
})

const service = (auth = 'tpm-quote') => serviceOf(world.door.address, auth)
const post = (path: string, body: object) => ask(world.door.address, 'POST', path, { body })
const login = (body: object, auth = 'tpm-quote') => post(`auth/${auth}/login`, body)
const code = async (body: object, auth?: string) => codeOf(world.door.auditFile, (await login(body, auth)).body)

async function challengeFor(attester: Attester, fields: object = {}) {
  const ak_name = (await attester.attestationKey()).name.toString('hex')
  const asked = { operation: 'login', role: 'builder', ak_name, ...fields }
  const { data } = await done(post('auth/tpm-quote/challenge', asked))
  return { ...(data as { challenge: string; nonce: string; pcrs: { sha256: number[] } }), ak_name }
}

const NOTHING = { audience: '', keyThumbprint: '', plugin: '', action: '', scope: [] }

/** What a machine that was talked into it would quote, and send with the challenge. */
async function quoted(
  attester: Attester,
  { challenge, nonce }: { challenge: string; nonce: string },
  says: Partial<BoundRequest> = {},
  pcrs = MEASURED,
) {
  const { name } = await attester.attestationKey()
  const request: BoundRequest = {
    operation: 'login',
    mount: 'auth/tpm-quote/',
    role: 'builder',
    akName: name,
    ...NOTHING,
    ...says,
  }
  const quote = await attester.quote({ sha256: pcrs }, qualifyingData(Buffer.from(nonce, 'base64'), request))
  const evidence = { attest: quote.attest.toString('base64'), signature: quote.signature.toString('base64'), pcrs: quote.pcrs }
  return { role: request.role, ak_name: name.toString('hex'), challenge, ...evidence }
}

test('of 50 identical logins at the same time exactly one succeeds', async () => {
  const { body } = await withheldLogin(service(), a)
  const replies = await Promise.all(Array.from({ length: 50 }, () => login(body)))
  const refused = replies.filter(({ status }) => status === 403)
  expect(replies.filter(({ status }) => status === 200)).toHaveLength(1)
  expect(refused).toHaveLength(49)
  const codes = await Promise.all(refused.map(reply => codeOf(world.door.auditFile, reply.body)))
  expect(new Set(codes)).toEqual(new Set(['CHALLENGE_USED']))
})

test('a login that was refused has used up its challenge too', async () => {
  const { body } = await withheldLogin(service(), a)
  expect(await code({ ...body, signature: body['attest'] })).not.toBe('CHALLENGE_USED')
  expect(await code(body)).toBe('CHALLENGE_USED')
})

describe('a challenge answers the request that it was drawn for', () => {
  test.each([
    ['another thumbprint than the relayed machine bound', { key_thumbprint: 'B'.repeat(43) }, 'SESSION_BINDING'],
    ['no thumbprint', { key_thumbprint: '' }, 'SESSION_BINDING'],
    ['another role', { role: 'deployer' }, 'SESSION_BINDING'],
    ['another audience', { audience: 'https://elsewhere.example' }, 'AUDIENCE'],
  ])('%s', async (_, changed, expected) => {
    const { body } = await withheldLogin(service(), a)
    expect(await code({ ...body, ...changed })).toBe(expected)
  })

  test('another mount', async () => {
    await configureAuth(world, world.tpms[0] as Swtpm, a, { path: 'second' })
    await enrol(service('second'), world.tpms[0] as Swtpm, a)
    const { body } = await withheldLogin(service(), a)
    expect(await code(body, 'second')).toBe('SESSION_BINDING')
  })

  test('a challenge for a credential is none for a login', async () => {
    const creds = { operation: 'creds', mount: 'broker', creds_role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: [] }
    const challenge = await challengeFor(a, creds)
    expect(await code(await quoted(a, challenge))).toBe('SESSION_BINDING')
  })

  test('another attestation key', async () => {
    const challenge = await challengeFor(a)
    expect(await code(await quoted(b, challenge))).toBe('CHALLENGE_WRONG_KEY')
  })

  test('an offer of an enrolment is no challenge', async () => {
    const answer = await withheld(service(), /activate$/, held => enrol(held, world.tpms[0] as Swtpm, a))
    const enrollment = Buffer.from(String(answer.body['enrollment']), 'base64').subarray(-112).toString('base64')
    const { body } = await withheldLogin(service(), a)
    expect(await code({ ...body, challenge: enrollment })).toBe('CHALLENGE_UNKNOWN')
  })

  test.each(['', 'AAAA', randomBytes(110).toString('base64')])('bytes of nobody’s: %j', async challenge => {
    const { body } = await withheldLogin(service(), a)
    const reply = await login({ ...body, challenge })
    expect(reply.status).toBe(403)
    expect(await codeOf(world.door.auditFile, reply.body)).toBe('CHALLENGE_UNKNOWN')
  })

  test('one bit changed', async () => {
    const { body } = await withheldLogin(service(), a)
    const bytes = Buffer.from(String(body['challenge']), 'base64')
    for (const at of [0, 8, 20, 40, bytes.length - 1]) {
      const changed = Buffer.from(bytes)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      expect(await code({ ...body, challenge: changed.toString('base64') })).toBe('CHALLENGE_UNKNOWN')
    }
  })
})

describe('a quote answers one challenge', () => {
  test('the quote of an earlier challenge', async () => {
    const earlier = await quoted(a, await challengeFor(a))
    const { challenge } = await challengeFor(a)
    expect(await code({ ...earlier, challenge })).toBe('NONCE_MISMATCH')
  })

  test('a quote over the right nonce for another request: a machine that was asked on behalf of another service', async () => {
    for (const says of [
      { role: 'deployer' },
      { mount: 'auth/second/' },
      { audience: 'x' },
      { keyThumbprint: 'A'.repeat(43) },
      { operation: 'creds' as const },
    ]) {
      const challenge = await challengeFor(a)
      expect(await code({ ...(await quoted(a, challenge, says)), role: 'builder' })).toBe('NONCE_MISMATCH')
    }
  })

  test('two that were on their way together may arrive in any order, each once', async () => {
    const [older, newer] = [await withheldLogin(service(), a), await withheldLogin(service(), a)]
    expect((await login(newer.body)).status).toBe(200)
    expect((await login(older.body)).status).toBe(200)
    expect(await code(older.body)).toBe('CHALLENGE_USED')
  })

  test("another machine's quote, under this machine's name", async () => {
    const challenge = await challengeFor(a)
    const { name: akName } = await a.attestationKey()
    const other = await quoted(b, challenge, { akName })
    expect(await code({ ...other, ak_name: challenge.ak_name })).toBe('SIGNATURE')
  })

  test('fewer PCRs than were asked for, or a table that says something else', async () => {
    expect(await code(await quoted(a, await challengeFor(a), {}, [0, 4]))).toBe('PCR_NOT_QUOTED')
    const whole = await quoted(a, await challengeFor(a))
    const table = JSON.parse(whole.pcrs) as { sha256: Record<string, string> }
    const lie = JSON.stringify({ sha256: { ...table.sha256, 7: 'ab'.repeat(32) } })
    expect(await code({ ...whole, pcrs: lie })).toBe('PCR_DIGEST_MISMATCH')
    const { body } = await withheldLogin(service(), a)
    const { 7: _, ...some } = table.sha256
    expect(await code({ ...body, pcrs: JSON.stringify({ sha256: some }) })).toBe('PCR_SELECTION_MISMATCH')
  })
})

test('the audit log has an intent for nobody but who got a token', async () => {
  await expect(refusal(world, logIn(service(), a, { role: 'nobody' }))).resolves.toBe('ROLE')
  const records = await auditOf(world.door.auditFile)
  const intents = new Set(records.filter(one => one['type'] === 'intent').map(one => one['txn']))
  const issued = new Set(records.filter(one => one['result'] === 'issued').map(one => one['txn']))
  expect(intents).toEqual(issued)
  expect(intents.size).toBe(3)
})
