import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { assay, startAssay } from '../harness/assay.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { done, logIn, MEASURED, machine, measure, refusal } from './world.ts'

// What becomes of a machine between its logins: reboots, failures, orders. Real Vault, real front door, a TPM of its own.

let world: EnrolledWorld
let tpm: Swtpm
let attester: Attester
let tpmId: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ tpm, attester, tpmId } = world)
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const write = (path: string, fields: object) => done(world.api('POST', `auth/tpm-quote/${path}`, fields))
const creds = (token: string) => flow.creds(world.service, { role: 'deploy', plugin: 'kubernetes', scope: ['apps:read'] }, token)
const lives = async (token: string) => (await world.vault.api('POST', 'auth/token/lookup', { token })).status === 200
const gone = (token: string) => until('the token to be revoked at Vault', async () => !(await lives(token)))
const shown = async () => (await world.api('GET', `auth/tpm-quote/tpm/${tpmId}`)).body.data as Record<string, unknown>
const operator = (...args: string[]) => world.operator(args)

/** As a machine that is switched off and on, and measures what it boots. */
async function reboot(what: string): Promise<void> {
  await attester.close()
  await tpm.restart('orderly')
  await measure(tpm, MEASURED, what)
  attester = await machine(tpm)
}

test('a reboot is a new session: what the machine had is revoked, at Vault itself, and its new token works', async () => {
  const [one, two] = [await logIn(world.service, attester), await logIn(world.service, attester)]
  expect((await creds(one)).token).toMatch(/^eyJ/)
  await reboot('good firmware')
  expect(await lives(one)).toBe(true)
  const after = await logIn(world.service, attester)
  await Promise.all([gone(one), gone(two)])
  await expect(creds(one)).rejects.toThrow(/permission denied|SESSION_ENDED/)
  expect((await creds(after)).token).toMatch(/^eyJ/)
  expect(await shown()).toMatchObject({ state: 'ok', epoch: 1 })
})

test('a machine that fails is out, with all it had, until the operator clears it with the stock CLI', async () => {
  const token = await logIn(world.service, attester)
  await reboot('malware')
  expect(await refusal(world, logIn(world.service, attester))).toBe('PCR_POLICY')
  await gone(token)
  expect(await shown()).toMatchObject({ state: 'failed', failure: { code: 'PCR_POLICY', role: 'builder' } })
  await reboot('good firmware')
  expect(await refusal(world, logIn(world.service, attester))).toBe('LATCHED')
  await expect(operator('write', '-f', `auth/tpm-quote/tpm/${tpmId}/clear`)).rejects.toThrow(/missing reason/)
  await operator('write', `auth/tpm-quote/tpm/${tpmId}/clear`, 'reason=reinstalled')
  expect((await creds(await logIn(world.service, attester))).token).toMatch(/^eyJ/)
  const counted = /^assay_revocation_seconds_count\{reason="failed"\} 1$/m
  await until('it to be counted', async () => counted.test(await (await fetch(`${world.door.address}/metrics`)).text()))
})

test('what a machine had is revoked although the front door died before it was done', async () => {
  const tokens = []
  for (let count = 0; count < 20; count += 1) tokens.push(await logIn(world.service, attester))
  await using second = await startAssay(world.vault)
  await second.vault(['write', `auth/tpm-quote/tpm/${tpmId}/reattest`, 'reason=an alert', 'revoke=true'])
  process.kill(second.server.pid, 'SIGKILL')
  // the other one finds what is left to do
  for (const token of tokens) await gone(token)
  expect((await creds(await logIn(world.service, attester))).token).toMatch(/^eyJ/)
})

describe('an operator asks for a new attestation', () => {
  const agent = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    assay(['agent', ...args, '--address', world.door.address, '--tpm', tpm.spec], env)
  const asked = ['creds', 'deploy', '--role', 'builder', '--plugin', 'kubernetes', '--scope', 'apps:read', '--json']

  test('of a token that was issued before: the agent quotes with the request', async () => {
    const token = await logIn(world.service, attester)
    await operator('write', `auth/tpm-quote/tpm/${tpmId}/reattest`, 'reason=an alert')
    await expect(creds(token)).rejects.toThrow(/REATTEST/)
    await attester.close()
    const { code, stdout, stderr } = await agent(asked, { VAULT_TOKEN: token })
    attester = await machine(tpm)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({ data: { token_type: 'DPoP' } })
    expect(await lives(token)).toBe(true)
  })

  test('by the age that the role allows', async () => {
    await done(world.api('POST', 'broker/role/deploy', { max_attestation_age: '1s' }))
    const token = await logIn(world.service, attester)
    await until('the attestation to be too old', () =>
      creds(token).then(
        () => false,
        error => /ATTESTATION_STALE/.test(String(error)),
      ),
    )
    await attester.close()
    const { code } = await agent(asked, { VAULT_TOKEN: token })
    attester = await machine(tpm)
    expect(code).toBe(0)
    await done(world.api('POST', 'broker/role/deploy', { max_attestation_age: 0 }))
  })

  test('and no token outlives the age that the role of the login allows', async () => {
    await write('role/short', { references: 'good', token_policies: 'builder', max_attestation_age: '2m' })
    const token = await logIn(world.service, attester, { role: 'short' })
    const { data } = (await world.vault.api('POST', 'auth/token/lookup', { token })).body
    expect(data).toMatchObject({ explicit_max_ttl: 120 })
    expect(await world.api('POST', 'auth/tpm-quote/role/short', { token_explicit_max_ttl: '1h' })).toMatchObject({ status: 400 })
  })
})

test.each([
  ['the TPM', () => `tpm/${tpmId}`, 'TPM_DISABLED'],
  ['the role', () => 'role/second', 'ROLE_DISABLED'],
  ['the reference values', () => 'reference/second', 'REFERENCE_DISABLED'],
])('disabling %s revokes what it gave', async (_, path, code) => {
  const { pcrs } = (await world.api('GET', 'auth/tpm-quote/reference/good')).body.data as { pcrs: object }
  await write('reference/second', { pcrs })
  await write('role/second', { references: 'second', token_policies: 'builder' })
  const token = await logIn(world.service, attester, { role: 'second' })
  await operator('write', `auth/tpm-quote/${path()}`, 'disabled=true')
  await gone(token)
  expect(await refusal(world, logIn(world.service, attester, { role: 'second' }))).toBe(code)
  await operator('write', `auth/tpm-quote/${path()}`, 'disabled=false')
  await logIn(world.service, attester, { role: 'second' })
})

test('subscribers are told by events that are signed in transit', async () => {
  const pushes: string[] = []
  const receiver = createServer((incoming, outgoing) => {
    let jwt = ''
    incoming.on('data', chunk => (jwt += String(chunk)))
    // the first try is lost
    incoming.on('end', () => outgoing.writeHead(pushes.push(jwt) === 1 ? 503 : 202).end())
  })
  await new Promise<void>(resolve => receiver.listen(0, '127.0.0.1', resolve))
  try {
    const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/events`
    await operator('write', 'auth/tpm-quote/config', 'webhook_networks=127.0.0.1')
    await operator('write', 'auth/tpm-quote/webhook/soc', `url=${url}`, 'audience=https://soc.example')
    await operator('write', `auth/tpm-quote/tpm/${tpmId}/reattest`, 'reason=a drill')
    await until('the event, and the same again', async () => pushes.length > 1)
    const jwks = createRemoteJWKSet(new URL(`${world.door.address}/v1/auth/tpm-quote/.well-known/jwks.json`), {
      timeoutDuration: PATIENCE_MS,
    })
    const rules = { issuer: `${world.door.address}/v1/auth/tpm-quote`, audience: 'https://soc.example', typ: 'secevent+jwt' }
    const [first, second] = await Promise.all(pushes.map(async jwt => (await jwtVerify(jwt, jwks, rules)).payload))
    expect(second?.jti).toBe(first?.jti)
    expect(first).toMatchObject({
      sub_id: { format: 'opaque', id: tpmId },
      events: { 'https://schemas.openid.net/secevent/caep/event-type/session-revoked': { reason: 'reattest' } },
    })
  } finally {
    receiver.closeAllConnections()
    receiver.close()
  }
})
