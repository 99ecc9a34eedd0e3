import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type AuditRecord, ask, auditOf, done, logIn, machine, measure, POLICY, ROLE, refusal, withheld } from './world.ts'

let world: EnrolledWorld
let tpm: Swtpm
let attester: Attester
let token: string
let tpmId: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ tpm, attester, tpmId } = world)
  for (const [name, role] of Object.entries(ROLES)) await write(`broker/role/${name}`, { ...ROLE, ...role })
  token = await logIn(world.service, attester)
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const ROLES = {
  ask: {},
  fresh: { attestation: 'request' },
  others: { login_roles: 'deployer' },
  lax: { bind_key: 'optional' },
}
const ASKED = { plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
const write = (path: string, body: object) => done(world.api('POST', path, body))
const post = (role: string, body: object = {}, as: string | undefined = token) =>
  ask(world.door.address, 'POST', `broker/creds/${role}`, { body: { ...ASKED, ...body }, ...(as ? { token: as } : {}) })
const audit = (): Promise<AuditRecord[]> => auditOf(world.door.auditFile)

/** Refused with this code, in the reply and in the audit log, with what to do next, and nothing was meant to be issued. */
async function refusedWith(code: string, asked: Promise<{ status: number; body: { errors: string[] } }>): Promise<string> {
  const { status, body } = await asked
  const [message = ''] = body.errors
  expect({ status, message }).toEqual({
    status: 403,
    message: expect.stringMatching(new RegExp(`^${code}: .+: .+; correlation id [0-9a-f-]{36}$`)) as string,
  })
  const txn = message.slice(-36)
  const mine = async () => (await audit()).filter(one => one['txn'] === txn)
  await until('the refusal in the audit log', async () => (await mine()).length > 0)
  expect(await mine()).toEqual([expect.objectContaining({ type: 'refusal', code, mount: 'broker/' })])
  return message
}

describe('the ceiling of the role', () => {
  test.each([
    ['PLUGIN', { plugin: 'github' }, 'kubernetes, payroll'],
    ['ACTION', { action: 'delete' }, 'deploy'],
    ['SCOPE', { scope: ['apps:admin'] }, 'apps:read, apps:write'],
    ['SCOPE', { scope: ['apps:read', 'apps:admin'] }, 'apps:read, apps:write'],
    ['SCOPE', { scope: [] }, 'apps:read, apps:write'],
    ['AUDIENCE_CEILING', { audience: 'https://elsewhere.example' }, 'https://api.example.com'],
    ['TTL', { ttl: 0 }, ''],
  ])('%s %j', async (code, asked, told) => expect(await refusedWith(code, post('ask', asked))).toContain(told))

  test('PLUGIN, when it has to be chosen', async () => void (await refusedWith('PLUGIN', post('ask', { plugin: null }))))
  test('ROLE: none of this name, and one for other logins', async () => {
    await refusedWith('ROLE', post('nobody'))
    await refusedWith('ROLE', post('others'))
  })
  test('KEY_NOT_BOUND', async () => {
    await refusedWith('KEY_NOT_BOUND', post('ask', {}, await logIn(world.service, attester, { bind: false })))
  })
  test('QUOTE_REQUIRED', async () => void (await refusedWith('QUOTE_REQUIRED', post('fresh'))))
})

describe('the policy', () => {
  const policy = (text: string) => write('broker/policy/builders', { policy: text })

  test('POLICY_DENIED: nothing permits it', async () => {
    await refusedWith('POLICY_DENIED', post('ask', { plugin: 'payroll' }))
  })
  test('POLICY_FORBIDDEN: something forbids it', async () => {
    await policy(`${POLICY} forbid (principal, action, resource) when { context.scope.contains("apps:write") };`)
    await refusedWith('POLICY_FORBIDDEN', post('ask', { scope: ['apps:write'] }))
    expect((await post('ask')).status).toBe(200)
  })
  test('POLICY_ERROR: what cannot be evaluated denies, although another permits', async () => {
    await policy(`${POLICY} permit (principal, action, resource) when { context.ttl_seconds * 9223372036854775807 > 1 };`)
    await refusedWith('POLICY_ERROR', post('ask'))
  })
  test('NO_POLICY: there is none', async () => {
    await done(world.api('DELETE', 'broker/policy/builders'))
    await refusedWith('NO_POLICY', post('ask'))
    await policy(POLICY)
    expect((await post('ask')).status).toBe(200)
  })
})

describe('the token', () => {
  const login = (role: object) => write('auth/tpm-quote/role/special', { references: 'good', token_policies: 'builder', ...role })
  const special = () => logIn(world.service, attester, { role: 'special' })
  const permit = () => write('broker/policy/special', { policy: POLICY.replace('"builder"', '"special"') })
  const denied = { status: 403, body: { errors: [expect.stringMatching(/permission denied/)] } }

  test('NOT_ATTESTED: root, a child of an attested one, one of another method', async () => {
    await refusedWith('NOT_ATTESTED', post('ask', {}, world.vault.rootToken))
    await login({ token_policies: 'builder,parent' })
    const rule = 'path "auth/token/create" { capabilities = ["update"] }'
    await done(world.vault.api('PUT', 'sys/policies/acl/parent', { policy: rule }))
    const made = await ask(world.vault.address, 'POST', 'auth/token/create', {
      token: await special(),
      body: { policies: ['builder'] },
    })
    await refusedWith('NOT_ATTESTED', post('ask', {}, made.body.auth.client_token as string))
    const plain = await world.vault.api('POST', 'auth/token/create', {
      policies: ['builder'],
      meta: { tpm_id: tpmId, login_role: 'builder' },
    })
    await refusedWith('NOT_ATTESTED', post('ask', {}, plain.body.auth.client_token as string))
  })

  test('without the capability: permission denied, nothing issued, on record', async () => {
    await login({ token_policies: 'default' })
    const powerless = await special()
    expect(await post('ask', {}, powerless)).toMatchObject(denied)
    expect(await post('nobody', {}, powerless)).toMatchObject(denied)
    expect(await post('ask', { plugin: 7, ttl: 'soon' }, powerless)).toMatchObject(denied)
    const records = async () => (await audit()).filter(one => one['code'] === 'permission_denied')
    await until('all three in the audit log', async () => (await records()).length >= 3)
    const txns = new Set((await records()).map(one => one['txn']))
    expect((await audit()).filter(one => one['result'] === 'issued' && txns.has(one['txn']))).toEqual([])
  })

  test('none, a wrong one, and one that was revoked: refused at once', async () => {
    expect(await post('ask', {}, '')).toMatchObject(denied)
    expect(await post('ask', {}, 'hvs.CAESIIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')).toMatchObject(denied)
    const mine = await logIn(world.service, attester)
    expect((await post('ask', {}, mine)).status).toBe(200)
    await world.vault.cli(['token', 'revoke', mine])
    expect(await post('ask', {}, mine)).toMatchObject(denied)
  })

  test('one whose policy is taken away: refused at once', async () => {
    const rule = (capabilities: string) =>
      done(
        world.vault.api('PUT', 'sys/policies/acl/builder', {
          policy: `path "broker/creds/*" { capabilities = [${capabilities}] }`,
        }),
      )
    await rule('"read"')
    expect(await post('ask')).toMatchObject(denied)
    await rule('"update"')
    expect((await post('ask')).status).toBe(200)
  })

  test('one with a limit of uses is good for all of them', async () => {
    await permit()
    await login({ token_num_uses: 2 })
    const twice = await special()
    for (const status of [200, 200]) expect(await post('ask', {}, twice)).toMatchObject({ status })
    expect(await post('ask', {}, twice)).toMatchObject(denied)
  })

  test('one without the default policy may not ask what it may do: the refusal says so', async () => {
    await login({ token_no_default_policy: true, token_num_uses: 0 })
    const { body } = await post('ask', {}, await special())
    expect(body.errors[0]).toMatch(/^permission denied: the token may not use sys\/capabilities-self/)
  })
})

describe('a quote with the request', () => {
  const asking = (role: string) => flow.creds(world.service, { role, ...ASKED }, token, { attester, role: 'builder', bind: true })
  const evidence = (role = 'fresh') =>
    withheld(world.service, /creds\/fresh$/, to =>
      flow.creds(to, { role, ...ASKED }, token, { attester, role: 'builder', bind: true }),
    )

  test('is taken, once', async () => {
    const { body } = await evidence()
    expect((await post('fresh', body)).status).toBe(200)
    await refusedWith('CHALLENGE_USED', post('fresh', body))
  })

  test.each([
    ['another plugin', { plugin: 'payroll' }],
    ['a wider scope', { scope: ['apps:read', 'apps:write'] }],
    ['no action, which the role would fill in', { action: null }],
    ['another key', { key_thumbprint: 'B'.repeat(43) }],
  ])('answers this very request: %s', async (_, changed) => {
    const { body } = await evidence()
    await refusedWith('SESSION_BINDING', post('fresh', { ...body, ...changed }))
  })

  test('of another role, another audience, or in part', async () => {
    const { body } = await evidence()
    await refusedWith('SESSION_BINDING', post('lax', body))
    const { body: next } = await evidence()
    await refusedWith('AUDIENCE', post('fresh', { ...next, audience: 'https://api.example.com' }))
    expect(await post('fresh', { ...next, signature: null })).toMatchObject({ status: 400 })
  })

  test('what a token that may not ask brings is not looked at', async () => {
    const { body } = await evidence()
    const powerless = (await world.vault.api('POST', 'auth/token/create', { policies: ['default'] })).body.auth
      .client_token as string
    expect((await post('fresh', body, powerless)).status).toBe(403)
    expect((await post('fresh', body)).status).toBe(200)
  })

  test('a machine that changed since its login gets nothing, and loses what it had', async () => {
    expect((await asking('fresh')).token).toMatch(/^eyJ/)
    await attester.close()
    await measure(tpm, [7], 'malware')
    attester = await machine(tpm)
    const { body } = await evidence()
    await refusedWith('PCR_POLICY', post('fresh', body))
    const { status, body: said } = await post('ask')
    expect([status, JSON.stringify(said)]).toEqual([403, expect.stringMatching(/LATCHED|permission denied/)])
    await until('its token to be revoked', async () => /permission denied/.test(JSON.stringify((await post('ask')).body)))
    expect(await refusal(world, logIn(world.service, attester))).toBe('LATCHED')
  })
})

test('simulate says what would be decided and why, and issues nothing', async () => {
  const before = (await audit()).filter(one => one['type'] === 'intent').length
  const simulate = (fields: object) =>
    world.api('POST', 'broker/simulate', { role: 'ask', ...ASKED, tpm_id: tpmId, login_role: 'builder', ...fields })
  expect((await simulate({})).body.data).toMatchObject({
    allowed: true,
    plugin: 'kubernetes',
    ttl: 900,
    key_bound: true,
    policies: [expect.stringContaining('builders')],
  })
  expect((await simulate({ plugin: 'payroll' })).body.data).toMatchObject({ allowed: false, code: 'POLICY_DENIED' })
  expect((await simulate({ role: 'fresh' })).body.data).toMatchObject({ allowed: false, code: 'QUOTE_REQUIRED' })
  expect((await simulate({ role: 'fresh', fresh: true })).body.data).toMatchObject({ allowed: true })
  expect((await simulate({ key_bound: false })).body.data).toMatchObject({ allowed: false, code: 'KEY_NOT_BOUND' })
  expect((await ask(world.door.address, 'POST', 'broker/simulate', { token, body: {} })).status).toBe(403)
  expect((await audit()).filter(one => one['type'] === 'intent')).toHaveLength(before)
})
