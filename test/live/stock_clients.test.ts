import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import nodeVault from 'node-vault'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { assay } from '../harness/assay.ts'
import { run } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, machine } from './world.ts'

// Clients that know Vault and nothing of us: each logs in with evidence in the shape of a method that it has.

let world: EnrolledWorld
let tpm: Swtpm
let attester: Attester
let home: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ tpm, attester } = world)
  home = await mkdtemp(join(tmpdir(), 'assay-stock-'))
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

const prepared = () => flow.evidence(world.service, attester, { role: 'builder', bind: true })

test('the stock CLI, by its method userpass: it keeps the token as it does with every other', async () => {
  await writeFile(join(home, 'evidence'), await prepared())
  const words = ['-method=userpass', '-path=tpm-quote', 'username=builder', `password=@${join(home, 'evidence')}`]
  const env = { HOME: home, VAULT_TOKEN: '' }
  const { code, stderr } = await world.door.vault(['login', ...words], { env })
  expect({ code, stderr }).toMatchObject({ code: 0 })
  const token = (await readFile(join(home, '.vault-token'), 'utf8')).trim()
  const lookup = await ask(world.door.address, 'GET', 'auth/token/lookup-self', { token })
  expect(lookup.body.data).toMatchObject({ path: 'auth/tpm-quote/login', meta: { role: 'builder' } })
  const again = await world.door.vault(['login', ...words], { env })
  expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('correlation id') as string })
})

test('node-vault, by userpassLogin', async () => {
  const client = nodeVault({ endpoint: world.door.address })
  const reply = (await client.userpassLogin({ mount_point: 'tpm-quote', username: 'builder', password: await prepared() })) as {
    auth: object
  }
  expect(reply.auth).toMatchObject({ token_policies: ['builder', 'default'] })
})

test('evidence of one role is none of another, and what is no evidence is told so', async () => {
  const answer = async (path: string, body: object) =>
    (await ask(world.door.address, 'PUT', `auth/tpm-quote/${path}`, { body })).status
  expect(await answer('login/another', { password: await prepared() })).toBeGreaterThanOrEqual(400)
  const { status, body } = await ask(world.door.address, 'PUT', 'auth/tpm-quote/login/builder', {
    body: { password: 'a-password' },
  })
  expect({ status, body }).toEqual({ status: 400, body: { errors: ['wanted what `assay agent evidence` prints'] } })
  expect(await answer('login/builder', {})).toBeGreaterThanOrEqual(400)
})

// hvac.Client().auth.userpass.login(username, password, mount_point='tpm-quote') sends this
test('hvac, by auth.userpass.login: the request that it makes', async () => {
  const { status, body } = await ask(world.door.address, 'POST', 'auth/tpm-quote/login/builder', {
    body: { password: await prepared() },
    headers: { 'X-Vault-Request': 'true' },
  })
  expect({ status, body }).toMatchObject({
    status: 200,
    body: { auth: { token_policies: ['builder', 'default'], renewable: true } },
  })
  const lookup = await ask(world.door.address, 'GET', 'auth/token/lookup-self', { token: body.auth.client_token })
  expect(lookup.body.data.meta).toMatchObject({ role: 'builder' })
})

test('the agent prints evidence, or writes it where only its owner reads it', async () => {
  await attester.close()
  const options = ['--address', world.door.address, '--tpm', tpm.spec, '--role', 'builder']
  const printed = await assay(['agent', 'evidence', ...options])
  expect(printed).toMatchObject({ code: 0, stderr: '' })
  expect(printed.stdout).toMatch(/^[\w-]+\n$/)
  const out = join(home, 'written')
  expect(await assay(['agent', 'evidence', ...options, '--out', out])).toMatchObject({ code: 0, stdout: '' })
  expect((await run('stat', ['-c', '%a', out])).stdout.trim()).toBe('600')
  const body = { password: await readFile(out, 'utf8') }
  expect((await ask(world.door.address, 'PUT', 'auth/tpm-quote/login/builder', { body })).status).toBe(200)
  attester = await machine(tpm)
})
