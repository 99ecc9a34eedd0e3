import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type Here, moveClocks, serveHere } from './in_process.ts'
import {
  ask,
  auditOf,
  codeOf,
  done,
  enrol,
  logIn,
  MEASURED,
  machine,
  measure,
  POLICY,
  refusal,
  serviceOf,
  withheldLogin,
} from './world.ts'

// Two front doors beside one Vault: one as a process, one in this process whose clock is moved.

/** How old what a replica knows of another's changes may be. */
const STATED_MS = 5000

let world: EnrolledWorld
let here: Here
let passes: (ms: number) => void
let tpm: Swtpm
let tpmId: string
let attester: Attester
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ tpm, attester, tpmId } = world)
  here = await serveHere(world.vault)
  passes = moveClocks()
})
afterAll(async () => {
  vi.restoreAllMocks()
  await here?.[Symbol.asyncDispose]()
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const atHere = () => serviceOf(here.address)
const refusedHere = (asked: Promise<unknown>) => refusal({ door: { ...world.door, auditFile: here.auditFile } }, asked)
const creds = (service: flow.Service, token: string) =>
  flow.creds(service, { role: 'deploy', plugin: 'kubernetes', scope: ['apps:read'] }, token)
const write = (path: string, body: object) => done(world.api('POST', path, body))

describe('challenges', () => {
  test('of one front door are unknown to the other', async () => {
    const { path, body } = await withheldLogin(world.service, attester)
    const reply = await ask(here.address, 'POST', path, { body })
    expect(reply.status).toBe(403)
    expect(await codeOf(here.auditFile, reply.body)).toBe('CHALLENGE_UNKNOWN')
    expect((await ask(world.door.address, 'POST', path, { body })).status).toBe(200)
  })

  test('end with the front door that drew them', async () => {
    const before = await serveHere(world.vault)
    const { path, body } = await withheldLogin(serviceOf(before.address), attester)
    await before[Symbol.asyncDispose]()
    await using after = await serveHere(world.vault)
    const reply = await ask(after.address, 'POST', path, { body })
    expect(await codeOf(after.auditFile, reply.body)).toBe('CHALLENGE_UNKNOWN')
    expect(await logIn(serviceOf(after.address), attester)).toMatch(/^hvs\./)
  })

  test('live for as long as they say', async () => {
    const { path, body } = await withheldLogin(atHere(), attester)
    passes(59_000)
    const { body: late } = await withheldLogin(atHere(), attester)
    passes(2000)
    const reply = await ask(here.address, 'POST', path, { body })
    expect(await codeOf(here.auditFile, reply.body)).toBe('CHALLENGE_EXPIRED')
    expect((await ask(here.address, 'POST', path, { body: late })).status).toBe(200)
  })

  test('offers of enrolment live for two minutes', async () => {
    const enrolling = (client: flow.Service['client']) => enrol({ ...atHere(), client }, tpm, attester)
    const { client } = atHere()
    const late: typeof client.post = async (path, body, options) => {
      if (path.endsWith('activate')) passes(121_000)
      return client.post(path, body, options)
    }
    expect(await refusedHere(enrolling({ post: late }))).toBe('CHALLENGE_EXPIRED')
  })
})

describe('what was written at one is seen by the other', () => {
  test('an enrolment, and a login with it', async () => {
    const token = await logIn(atHere(), attester)
    expect((await creds(atHere(), token)).token).toMatch(/^eyJ/)
    expect((await creds(world.service, token)).token).toMatch(/^eyJ/)
  })

  test('a mount, by itself', async () => {
    await write('sys/mounts/second', { type: 'broker' })
    await write('sys/auth/second', { type: 'tpm-quote' })
    const seen = async () => {
      const replies = await Promise.all(
        ['second/config', 'auth/second/config'].map(path => ask(here.address, 'GET', path, { token: world.vault.rootToken })),
      )
      return replies.every(({ status }) => status === 200)
    }
    await until('both mounts to be seen', seen)
  })

  test('a TPM that was disabled there, within the stated time: no challenge, no login, no credential', async () => {
    const token = await logIn(atHere(), attester)
    const { body, path } = await withheldLogin(atHere(), attester)
    await enrol(world.service, tpm, attester)
    await creds(atHere(), token)
    await write(`auth/tpm-quote/tpm/${tpmId}`, { disabled: true })
    passes(STATED_MS + 1)
    expect(await codeOf(here.auditFile, (await ask(here.address, 'POST', path, { body })).body)).toBe('TPM_DISABLED')
    expect(await refusedHere(logIn(atHere(), attester))).toBe('TPM_DISABLED')
    await expect(creds(atHere(), token)).rejects.toThrow(/TPM_DISABLED|permission denied/)
    await write(`auth/tpm-quote/tpm/${tpmId}`, { disabled: false })
    passes(STATED_MS + 1)
  })

  test('a policy that was changed there, within the stated time', async () => {
    const token = await logIn(atHere(), attester)
    expect((await creds(atHere(), token)).token).toMatch(/^eyJ/)
    passes(STATED_MS + 1)
    // somebody reads it here just before it is changed there; what is compiled next must not come from what was kept of that
    await done(ask(here.address, 'GET', 'broker/policy/builders', { token: world.vault.rootToken }))
    await write('broker/policy/builders', { policy: 'forbid (principal, action, resource);' })
    passes(STATED_MS - 2000)
    await creds(atHere(), token).catch(() => undefined)
    passes(2000)
    await expect(creds(atHere(), token)).rejects.toThrow(/POLICY_FORBIDDEN/)
    await write('broker/policy/builders', { policy: POLICY })
  })

  test('a policy that was changed here, at once', async () => {
    const token = await logIn(atHere(), attester)
    passes(STATED_MS + 1)
    expect((await creds(atHere(), token)).token).toMatch(/^eyJ/)
    const policy = (text: string) =>
      done(ask(here.address, 'POST', 'broker/policy/builders', { token: world.vault.rootToken, body: { policy: text } }))
    await policy('forbid (principal, action, resource);')
    await expect(creds(atHere(), token)).rejects.toThrow(/POLICY_FORBIDDEN/)
    await policy(POLICY)
    expect((await creds(atHere(), token)).token).toMatch(/^eyJ/)
  })
})

describe('a machine that was reset', () => {
  const sessions = async () =>
    (await auditOf(world.door.auditFile)).filter(one => one['type'] === 'intent').map(one => one['session'])

  test('starts anew: another boot, whose PCRs have to be measured again', async () => {
    await logIn(world.service, attester)
    await attester.close()
    await tpm.restart('orderly')
    attester = await machine(tpm)
    expect(await refusal(world, logIn(world.service, attester))).toBe('PCR_POLICY')
    await write(`auth/tpm-quote/tpm/${tpmId}/clear`, { reason: 'its firmware had not measured yet' })
    await attester.close()
    await measure(tpm, MEASURED, 'good firmware')
    attester = await machine(tpm)
    await logIn(world.service, attester)
    await logIn(world.service, attester)
    expect((await sessions()).slice(-2)).toEqual(['REBOOTED', 'SAME'])
  })

  test('without a proper stop: not before its clock is certain again, unless the role allows it', async () => {
    await write('auth/tpm-quote/config', { allow_software_tpms: false })
    const stopped = async () => {
      await attester.close()
      await tpm.restart('unclean')
      await measure(tpm, MEASURED, 'good firmware')
      attester = await machine(tpm)
      const refused = logIn(world.service, attester)
      await refused.catch(error => (said = String(error)))
      return refusal(world, refused)
    }
    let said = ''
    // its clock is certain when it next writes it down, four seconds after each start: a machine with much else to do may come later
    let code = await stopped()
    for (let stops = 1; code !== 'CLOCK_NOT_SAFE' && stops < 20; stops += 1) code = await stopped()
    expect(code).toBe('CLOCK_NOT_SAFE')
    expect(said).toContain('does not trust its clock yet')
    await write('auth/tpm-quote/role/outage', { references: 'good', token_policies: 'default', allow_unsafe_clock: true })
    await logIn(world.service, attester, { role: 'outage' })
    expect((await sessions()).at(-1)).toBe('REBOOTED')
    await until('the clock to be certain', async () =>
      logIn(world.service, attester).then(
        () => true,
        () => false,
      ),
    )
    expect((await sessions()).at(-1)).toBe('SAME')
  })
})
