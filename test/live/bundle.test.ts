import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import manifest from '../../package.json' with { type: 'json' }
import { digestOf } from '../attestation/eventlog_maker.ts'
import { assay } from '../harness/assay.ts'
import { run } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { eventLog, logsOf, replayInto } from './measured.ts'
import { configureAuth, configureBroker, done, enrol, machine, openWorld, serviceOf, type World } from './world.ts'

// `assay` as one file, in a folder where nothing else is: what is in it besides JavaScript works too.

const root = join(import.meta.dirname, '../..')
let folder: string
let world: World
let attester: Attester
let tpm: Swtpm

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-bundle-'))
  const { code, stderr } = await run(join(root, 'scripts/bundle'), [join(folder, 'assay.mjs')])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(await readdir(folder)).toEqual(['assay.mjs'])
  vi.stubEnv('ASSAY_ENTRY', join(folder, 'assay.mjs'))
  world = await openWorld({ tpms: [{}] })
  tpm = world.tpms[0] as Swtpm
  await replayInto(tpm, eventLog)
  attester = await machine(tpm)
  await configureAuth(world, tpm, attester, { config: { latch: false, allow_software_tpms: true } })
  await configureBroker(world)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

test('it is a program by itself', async () => {
  const env = { PATH: `${join(root, 'node_modules/.bin')}:/usr/bin:/bin`, HOME: folder }
  expect(await run(join(folder, 'assay.mjs'), ['--version'], { cwd: folder, env })).toMatchObject({
    code: 0,
    stdout: `${manifest.version}\n`,
  })
  expect((await assay(['setup', '--policy'])).stdout).toContain('capabilities')
})

test('logs are judged in a thread of their own, policies by WebAssembly', async () => {
  const replay = [0, 1, 2, 3, 4, 5, 6, 7]
  const images = ['shim', 'grub'].map(name => digestOf(Buffer.from(name)).toString('hex'))
  await done(world.api('POST', 'auth/tpm-quote/reference/boot', { replay, secure_boot: 'required', boot_images: images }))
  await done(world.api('POST', 'auth/tpm-quote/role/builder', { references: 'boot', token_policies: 'builder' }))
  const service = serviceOf(world.door.address)
  await enrol(service, tpm, attester)
  const { token } = await flow.login(service, attester, { role: 'builder', bind: true, logs: logsOf({ tcg: eventLog }) })
  const asked = { plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
  const { status, body } = await fetch(`${world.door.address}/v1/broker/creds/deploy`, {
    method: 'POST',
    headers: { 'X-Vault-Token': token, 'Content-Type': 'application/json' },
    body: JSON.stringify(asked),
  }).then(async reply => ({ status: reply.status, body: (await reply.json()) as { data: { token: string } } }))
  expect({ status, token: body.data.token.split('.').length }).toEqual({ status: 200, token: 3 })
})

test('a package that is left out is asked for by its name', async () => {
  const { code, stderr } = await assay(['agent', 'pcrs', '--tpm', 'tcti:swtpm', '--pcr', '0'])
  expect({ code, stderr }).toEqual({ code: expect.any(Number) as number, stderr: expect.stringContaining('koffi') as string })
})
