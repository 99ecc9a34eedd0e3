import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, auditOf, codeOf, configureBroker, done, enrol, logIn, machine, measure, refusal, withheldLogin } from './world.ts'

let world: EnrolledWorld
let tpm: Swtpm
let attester: Attester
let enrolled: flow.Enrolled
beforeAll(async () => {
  world = await openEnrolledWorld({
    args: ['--log-level', 'debug'],
    auth: { role: { token_explicit_max_ttl: '20m', token_policies: 'builder,other' } },
    broker: false,
  })
  ;({ tpm, attester, enrolled } = world)
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const write = (path: string, fields: object) => done(world.api('POST', `auth/tpm-quote/${path}`, fields))
const clear = () => write(`tpm/${enrolled.tpm_id}/clear`, { reason: 'the test wanted it' })
const login = (body: object, headers = {}) => ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body, headers })
const audited = () => auditOf(world.door.auditFile)
const lookup = async (token: string) => (await world.vault.api('POST', 'auth/token/lookup', { token })).body.data

describe('the token is Vault’s own', () => {
  test('with what was attested in its metadata, an alias of the TPM, the role’s policies and life', async () => {
    const { auth } = await flow.login(world.service, attester, { role: 'builder', bind: true })
    const { client_token: token, ...told } = auth as Record<string, unknown> & { client_token: string }
    const { thumbprint } = await attester.boundKey()
    const meta = {
      tpm_id: enrolled.tpm_id,
      login_role: 'builder',
      role: 'builder',
      ak_name: enrolled.ak_name,
      key_thumbprint: thumbprint,
      maker: 'id:00001014',
      reference: 'good',
      reference_version: '1',
      secure_boot: '',
      boot_log: 'false',
      ima: 'false',
      reset_count: expect.stringMatching(/^\d+$/) as string,
      restart_count: '0',
      firmware_version: expect.stringMatching(/^\d+$/) as string,
      attested_at: expect.stringMatching(/^\d{10}$/) as string,
    }
    expect(told).toMatchObject({
      policies: ['builder', 'default', 'other'],
      metadata: meta,
      lease_duration: 900,
      renewable: true,
      token_type: 'service',
    })
    const facts = await lookup(token)
    expect(facts).toMatchObject({ path: 'auth/tpm-quote/login', meta, explicit_max_ttl: 1200, creation_ttl: 900 })
    const { body } = await world.vault.api('GET', `identity/entity/id/${facts.entity_id}`)
    expect(body.data.aliases).toMatchObject([{ name: enrolled.tpm_id, mount_path: 'auth/tpm-quote/', mount_type: 'jwt' }])
    expect((await ask(world.vault.address, 'GET', 'auth/token/lookup-self', { token })).status).toBe(200)
  })

  test('the same machine is the same entity at its next login', async () => {
    const tokens = [await logIn(world.service, attester), await logIn(world.service, attester, { bind: false })]
    const entities = await Promise.all(tokens.map(async token => (await lookup(token)).entity_id as string))
    expect(entities[0]).toBe(entities[1])
  })

  test('wrapped, and unwrapped once', async () => {
    const { body } = await withheldLogin(world.service, attester)
    const reply = await login(body, { 'X-Vault-Wrap-TTL': '60s' })
    expect(reply.body).toMatchObject({ auth: null, wrap_info: { ttl: 60, creation_path: 'auth/tpm-quote/login' } })
    const { token } = reply.body.wrap_info as { token: string }
    const opened = await world.door.vault(['unwrap', '-format=json', token], { env: { VAULT_TOKEN: '' } })
    expect((JSON.parse(opened.stdout) as { auth: object }).auth).toMatchObject({ metadata: { tpm_id: enrolled.tpm_id } })
    expect((await world.door.vault(['unwrap', token], { env: { VAULT_TOKEN: '' } })).code).toBe(2)
  })

  test('a batch token, when the role does not promise that it can be revoked', async () => {
    const batch = { references: 'good', token_policies: 'builder', token_type: 'batch' }
    expect(await world.api('POST', 'auth/tpm-quote/role/batch', batch)).toMatchObject({ status: 400 })
    await write('role/batch', { ...batch, token_type: 'default' })
    const native = (await world.vault.api('GET', 'auth/tpm-quote/role/batch')).body.data as object
    await done(world.vault.api('POST', 'auth/tpm-quote/role/batch', { ...native, token_type: 'batch' }))
    expect(await refusal(world, logIn(world.service, attester, { role: 'batch' }))).toBe('NOT_REVOCABLE')
    expect(await world.api('POST', 'auth/tpm-quote/role/batch', { token_ttl: '5m' })).toMatchObject({ status: 400 })
    await write('role/batch', { revocable: false })
    expect(await logIn(world.service, attester, { role: 'batch' })).toMatch(/^hvb\./)
  })

  test('the stock CLI can send the login too', async () => {
    const { body } = await withheldLogin(world.service, attester)
    const token = await world.operator(['write', '-field=token', 'auth/tpm-quote/login', '-'], JSON.stringify(body))
    expect(await lookup(token.trim())).toMatchObject({ path: 'auth/tpm-quote/login' })
  })
})

describe('the jwt mount behind it', () => {
  const direct = (jwt: string) => ask(world.vault.address, 'POST', 'auth/tpm-quote/login', { body: { role: 'builder', jwt } })

  test('lets nobody in without our key', async () => {
    const { privateKey } = await generateKeyPair('ES256')
    const { uuid } = (await world.vault.api('GET', 'sys/auth/tpm-quote')).body.data as { uuid: string }
    const forged = await new SignJWT({ login_role: 'builder', tpm_id: enrolled.tpm_id })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer('assay')
      .setAudience(`assay/${uuid}`)
      .setSubject(enrolled.tpm_id)
      .setIssuedAt()
      .setExpirationTime('30s')
      .sign(privateKey)
    const [, claims] = forged.split('.')
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${claims}.`
    for (const jwt of [forged, none, '']) expect((await direct(jwt)).status).toBe(400)
  })

  test('the login JWT is in no log, no audit and no reply, not even when the role is refused by Vault', async () => {
    const log = join(String(world.vault.env['HOME']), 'raw.log')
    await done(world.vault.api('PUT', 'sys/audit/raw', { type: 'file', options: { file_path: log, log_raw: 'true' } }))
    await logIn(world.service, attester)
    await done(world.vault.api('DELETE', 'auth/tpm-quote/role/builder'))
    const { body } = await withheldLogin(world.service, attester)
    const refused = await login(body)
    await done(world.vault.api('DELETE', 'sys/audit/raw'))
    expect(refused).toEqual({ status: 403, body: { errors: [expect.stringContaining('vault refused the login of this role')] } })
    const failed = await until('the outcome', async () => (await audited()).find(one => one['result'] === 'failed'))
    expect((await audited()).filter(one => one['txn'] === failed['txn'])).toMatchObject([{ type: 'intent' }, { type: 'outcome' }])
    const jwts = (await readFile(log, 'utf8')).match(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g) ?? []
    expect(new Set(jwts).size).toBe(2)
    const texts = [await readFile(world.door.auditFile, 'utf8'), world.door.server.output(), JSON.stringify(refused)]
    for (const text of texts) {
      expect(text).not.toMatch(/eyJ[\w-]+\./)
      for (const jwt of jwts) for (const part of jwt.split('.')) expect(text).not.toContain(part)
    }
    await write('role/builder', { references: 'good', token_policies: 'builder' })
  })
})

describe('roles', () => {
  test('one that is not there, and one that does not list this TPM', async () => {
    expect(await refusal(world, logIn(world.service, attester, { role: 'nobody' }))).toBe('ROLE')
    await write('role/listed', { references: 'good', tpm_ids: `sha256-${'00'.repeat(32)}` })
    expect(await refusal(world, logIn(world.service, attester, { role: 'listed' }))).toBe('ROLE')
    await write('role/listed', { tpm_ids: `sha256-${'00'.repeat(32)},${enrolled.tpm_id}` })
    expect(await logIn(world.service, attester, { role: 'listed' })).toMatch(/^hvs\./)
  })

  test('one that wants a bound key', async () => {
    await write('role/bound', { references: 'good', bind_key: 'required' })
    expect(await refusal(world, logIn(world.service, attester, { role: 'bound', bind: false }))).toBe('KEY_NOT_BOUND')
    expect(await logIn(world.service, attester, { role: 'bound' })).toMatch(/^hvs\./)
  })

  test('several sets of reference values: the machine has to match one of them, whole', async () => {
    const good = (await world.api('GET', 'auth/tpm-quote/reference/good')).body.data.pcrs.sha256 as Record<string, string>
    const other = Object.fromEntries(Object.keys(good).map(pcr => [pcr, 'ab'.repeat(32)]))
    const half = { ...good, 4: 'ab'.repeat(32) }
    for (const [name, sha256] of Object.entries({ other, half })) await write(`reference/${name}`, { pcrs: { sha256 } })
    await write('role/either', { references: 'other,half' })
    expect(await refusal(world, logIn(world.service, attester, { role: 'either' }))).toBe('PCR_POLICY')
    await clear()
    await write('role/either', { references: 'other,half,good' })
    expect(await lookup(await logIn(world.service, attester, { role: 'either' }))).toMatchObject({ meta: { reference: 'good' } })
    await done(world.api('DELETE', 'auth/tpm-quote/reference/half'))
    expect(await refusal(world, logIn(world.service, attester, { role: 'either' }))).toBe('PCR_POLICY')
  })
})

test('the caller learns one generic sentence, the audit log the reason', async () => {
  const { body } = await withheldLogin(world.service, attester)
  const refused = await login({ ...body, pcrs: '{"sha256":{"0":"ff"}}' })
  expect(refused).toEqual({
    status: 403,
    body: { errors: [expect.stringMatching(/^the evidence was refused; correlation id [0-9a-f-]{36}$/)] },
  })
  const code = await codeOf(world.door.auditFile, refused.body)
  const record = (await audited()).findLast(one => one['type'] === 'refusal')
  expect(record).toMatchObject({
    code,
    mount: 'auth/tpm-quote/',
    path: 'login',
    role: expect.stringMatching(/^hmac-sha256:/) as string,
  })
  expect(code).toBe('BAD_PCR_TABLE')
})

test('a machine that measured something else, a disabled one, a deleted one and one that never enrolled', async () => {
  await configureBroker(world)
  await write('role/builder', { references: 'good', token_policies: 'builder' })
  const token = await logIn(world.service, attester)
  const creds = () => flow.creds(world.service, { role: 'deploy', plugin: 'kubernetes', scope: ['apps:read'] }, token)
  expect((await creds()).token).toMatch(/^eyJ/)
  const tpmPath = `tpm/${enrolled.tpm_id}`

  const held = await withheldLogin(world.service, attester)
  await write(tpmPath, { disabled: true })
  expect(await codeOf(world.door.auditFile, (await login(held.body)).body)).toBe('TPM_DISABLED')
  expect(await refusal(world, logIn(world.service, attester))).toBe('TPM_DISABLED')
  expect(await refusal(world, enrol(world.service, tpm, attester))).toBe('TPM_DISABLED')
  await expect(creds()).rejects.toThrow(/TPM_DISABLED|permission denied/)
  await write(tpmPath, { disabled: false })
  await until('its token to be revoked', () =>
    creds().then(
      () => false,
      error => /permission denied/.test(String(error)),
    ),
  )
  await logIn(world.service, attester)

  await attester.close()
  await measure(tpm, [7], 'malware')
  attester = await machine(tpm)
  expect(await refusal(world, logIn(world.service, attester))).toBe('PCR_POLICY')
  expect(await refusal(world, logIn(world.service, attester))).toBe('LATCHED')

  await done(world.api('DELETE', `auth/tpm-quote/${tpmPath}`))
  expect(await refusal(world, logIn(world.service, attester))).toBe('AK_NOT_ENROLLED')
  await expect(creds()).rejects.toThrow(/permission denied/)
  await enrol(world.service, tpm, attester)
  await attester.close()
  attester = await machine(tpm, { ak: 'ecdsa-p384' })
  expect(await refusal(world, logIn(world.service, attester))).toBe('AK_NOT_ENROLLED')
})
