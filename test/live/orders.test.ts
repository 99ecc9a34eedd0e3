import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, codeOf, done, enrol, logIn, MEASURED, machine, measure, refusal, serviceOf, withheld } from './world.ts'

// What operators order with the stock command line beside what machines do (machines.test.ts): one key, firmware, lists of what
// makers revoked, the word of a second person. Real Vault, real front door, a TPM.

let world: EnrolledWorld
let tpm: Swtpm
let attester: Attester
let tpmId: string
beforeAll(async () => {
  world = await openEnrolledWorld({ broker: { role: { attestation: 'request' } } })
  ;({ tpm, attester, tpmId } = world)
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const operator = (...args: string[]) => world.operator(args)
const config = (...fields: string[]) => operator('write', 'auth/tpm-quote/config', ...fields)
const lives = async (token: string) => (await world.vault.api('POST', 'auth/token/lookup', { token })).status === 200
const gone = (token: string) => until('the token to be revoked at Vault', async () => !(await lives(token)))
const shown = async () => (await world.api('GET', `auth/tpm-quote/tpm/${tpmId}`)).body.data as Record<string, unknown>

test('one key of a machine is disabled: what it has is revoked, and another key of it goes on', async () => {
  const token = await logIn(world.service, attester)
  const key = world.enrolled.ak_name
  await operator('write', `auth/tpm-quote/tpm/${tpmId}`, `disabled_aks=${key}`)
  await gone(token)
  expect(await refusal(world, logIn(world.service, attester))).toBe('AK_DISABLED')
  await attester.close()
  const second = await machine(tpm, { ak: 'rsassa-2048' })
  try {
    expect((await enrol(world.service, tpm, second)).tpm_id).toBe(tpmId)
    expect(await lives(await logIn(world.service, second))).toBe(true)
  } finally {
    await second.close()
    attester = await machine(tpm)
  }
  await operator('write', `auth/tpm-quote/tpm/${tpmId}`, 'disabled_aks=')
  await logIn(world.service, attester)
})

test('firmware of TPMs is denied: machines that showed it fail at once, until it is allowed and they are cleared', async () => {
  const token = await logIn(world.service, attester)
  const { last_result } = (await shown()) as { last_result: { eat: { tpm2: { firmware_version: string } } } }
  await config(`denied_firmware=${last_result.eat.tpm2.firmware_version}`)
  await gone(token)
  expect(await shown()).toMatchObject({ state: 'failed', failure: { code: 'TPM_FIRMWARE' } })
  await config('denied_firmware=')
  await operator('write', `auth/tpm-quote/tpm/${tpmId}/clear`, 'reason=allowed again')
  await logIn(world.service, attester)
})

test('where lists of what was revoked are wanted and there is none, nobody enrols', async () => {
  await config('crl=hard')
  expect(await refusal(world, enrol(world.service, tpm, attester))).toBe('NO_CRL')
  await config('crl=soft')
  await enrol(world.service, tpm, attester)
  expect(await shown()).toMatchObject({ revocation: 'unknown' })
})

test('reference values wait for a second person, whom Vault knows by an entity of their own', async () => {
  await operator('auth', 'enable', 'userpass')
  await world.operator(
    ['policy', 'write', 'values', '-'],
    'path "auth/tpm-quote/reference/*" { capabilities = ["create", "read", "update"] }',
  )
  const [alice, bob] = await Promise.all(
    ['alice', 'bob'].map(async name => {
      const password = randomUUID()
      await operator('write', `auth/userpass/users/${name}`, `password=${password}`, 'token_policies=values')
      return String(
        (await done(ask(world.door.address, 'POST', `auth/userpass/login/${name}`, { body: { password } }))).auth.client_token,
      )
    }),
  )
  const as = (token: string | undefined, path: string, body: object) =>
    ask(world.door.address, 'POST', `auth/tpm-quote/reference/good${path}`, { token: token ?? '', body })
  await config('reference_approval=second-person')
  await done(as(alice, '', { owner: 'boot team', reason: 'change 23' }))
  expect(await refusal(world, logIn(world.service, attester))).toBe('REFERENCE_NOT_APPROVED')
  const { version } = (await world.api('GET', 'auth/tpm-quote/reference/good')).body.data as { version: number }
  for (const token of [alice, world.vault.rootToken]) expect((await as(token, '/approve', { version })).status).toBe(403)
  await done(as(bob, '/approve', { version }))
  await logIn(world.service, attester)
  await config('reference_approval=none')
})

test('a machine that was restarted between its quote and the credential gets none for it', async () => {
  const token = await logIn(world.service, attester)
  const request = { role: 'deploy', plugin: 'kubernetes', scope: ['apps:read'] }
  const held = await withheld(world.service, /\/creds\//, service =>
    flow.creds(service, request, token, { attester, role: 'builder', bind: true }),
  )
  await attester.close()
  await tpm.restart('orderly')
  await measure(tpm, MEASURED, 'good firmware')
  attester = await machine(tpm)
  const after = await logIn(serviceOf(world.door.address), attester)
  for (const holder of [after, token]) {
    const { status, body } = await ask(world.door.address, 'POST', held.path, { token: holder, body: held.body })
    expect([status, JSON.stringify(body)]).toEqual([403, expect.stringMatching(/OLD_BOOT|CHALLENGE_USED|permission denied/)])
  }
  expect(
    await codeOf(
      world.door.auditFile,
      (await ask(world.door.address, 'POST', held.path, { token: after, body: held.body })).body,
    ),
  ).toBe('CHALLENGE_USED')
})
