import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startAssay } from '../harness/assay.ts'
import { until } from '../harness/process.ts'
import { startSwtpm } from '../harness/swtpm.ts'
import { startVaultRaft, type Vault } from '../harness/vault.ts'
import { ask, configureAuth, configureBroker, done, enrol, logIn, MEASURED, machine, measure, serviceOf } from './world.ts'

// A snapshot of Vault is the whole back-up: what docs/operations.md says of it, on integrated storage.

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-restore-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const scope = ['apps:read']

async function opened(vault: Vault) {
  const door = await startAssay(vault)
  const api = (method: string, path: string, body?: object) =>
    ask(door.address, method, path, { token: vault.rootToken, ...(body ? { body } : {}) })
  const creds = (token: string) =>
    ask(door.address, 'POST', 'broker/creds/deploy', { token, body: { plugin: 'kubernetes', scope } })
  return { door, api, creds, service: serviceOf(door.address), [Symbol.asyncDispose]: () => door.stop() }
}

test('what was there at the snapshot goes on, what came after it is undone: a machine that was disabled comes in again', async () => {
  await using vault = await startVaultRaft()
  await using tpm = await startSwtpm({})
  await measure(tpm, MEASURED, 'good firmware')
  const attester = await machine(tpm)
  const snapshot = join(folder, 'assay.snap')
  const operator = async (of: Awaited<ReturnType<typeof opened>>, ...words: string[]) =>
    expect(await of.door.vault(words)).toMatchObject({ code: 0 })
  let [kid, lost, token] = ['', '', '']
  {
    await using before = await opened(vault)
    await configureAuth(before, tpm, attester)
    await configureBroker(before)
    const { tpm_id } = await enrol(before.service, tpm, attester)
    token = await logIn(before.service, attester)
    const issued = await done(before.creds(token))
    kid = issued.data.kid as string
    await operator(before, 'operator', 'raft', 'snapshot', 'save', snapshot)
    expect((await stat(snapshot)).size).toBeGreaterThan(0)
    lost = (await done(before.api('POST', 'broker/keys/rotate'))).data.keys[2].kid
    await done(before.api('POST', `auth/tpm-quote/tpm/${tpm_id}`, { disabled: true }))
    await done(before.api('POST', 'broker/role/late', { plugins: 'a', actions: 'deploy', audiences: 'b' }))
    await expect(logIn(before.service, attester)).rejects.toThrow(/the evidence was refused/)
    await until('its token to end', async () => (await before.creds(token)).status === 403)
  }
  await done(vault.api('PUT', 'sys/policies/acl/late', { policy: 'path "a" { capabilities = ["read"] }' }))
  expect(await vault.cli(['operator', 'raft', 'snapshot', 'restore', snapshot])).toMatchObject({ code: 0 })
  // the command ends before the restore does
  await until('the restore', async () => (await vault.api('GET', 'sys/policies/acl/late')).status === 404)
  await using after = await opened(vault)
  const issued = await done(after.creds(await logIn(after.service, attester)))
  expect(issued.data.kid).toBe(kid)
  // of the same number as the one that relying parties may keep, and another key
  const rotated = await done(after.api('POST', 'broker/keys/rotate'))
  expect(rotated.data.keys[1].kid).toBe(kid)
  expect([kid, lost]).not.toContain(rotated.data.keys[2].kid)
  expect((await after.api('GET', 'broker/role/late')).status).toBe(404)
  // the token that ended with the machine, too, until whoever restored it ends those of all machines
  expect((await after.creds(token)).status).toBe(200)
  await operator(after, 'lease', 'revoke', '-prefix', 'auth/tpm-quote/login')
  expect((await after.creds(token)).status).toBe(403)
  await attester.close()
})
