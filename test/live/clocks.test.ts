import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startAssay } from '../harness/assay.ts'
import { freePort } from '../harness/process.ts'
import { startProxy } from '../harness/proxy.ts'
import type { Vault } from '../harness/vault.ts'
import { openSealedWorld, type SealedWorld } from './proxy_world.ts'
import { ask, logIn, serviceOf } from './world.ts'

// Clocks that are an hour wrong, beside a real Vault: what the rest does while they are is in test/engine/time.test.ts.

const HOUR_MS = 3_600_000
let sealed: SealedWorld
beforeAll(async () => {
  sealed = await openSealedWorld()
})
afterAll(() => sealed[Symbol.asyncDispose]())

/** What is started with this environment sees the wall clock so far ahead. */
const shifted = (vault: Vault, ms: number): Vault => ({
  ...vault,
  env: { ...vault.env, NODE_OPTIONS: `--import=data:text/javascript,Date.now=(now=>()=>now()+(${ms}))(Date.now)` },
})

const ready = async (address: string) => {
  const reply = await fetch(`${address}/readyz`)
  return { status: reply.status, ...((await reply.json()) as object) }
}

test.each([HOUR_MS, -HOUR_MS])('a front door that is ahead by %i ms is not ready, says so, and lets nobody in', async ms => {
  const { world, token } = sealed
  await using wrong = await startAssay(shifted(world.vault, ms))
  const line = await wrong.server.line(/"the clock here and that of vault are apart: .*"/)
  expect(line.input).toMatch(ms > 0 ? /"ahead_seconds":360\d,/ : /"ahead_seconds":-3(?:599|600),/)
  const checks = { vault: true, places: true, session: true, clock: false, audit: true, serving: true }
  expect(await ready(wrong.address)).toMatchObject({ status: 503, ready: false, checks })
  expect(await ready(world.door.address)).toMatchObject({ status: 200, checks: { clock: true } })
  const asked = await ask(wrong.address, 'POST', 'broker/creds/deploy', { body: { plugin: 'kubernetes' }, token })
  expect(asked).toMatchObject({ status: 503, body: { errors: [expect.stringMatching(/tell different times/)] } })
  await expect(logIn(serviceOf(wrong.address), world.attester)).rejects.toThrow(/tell different times/)
  expect((await fetch(`${wrong.address}/v1/sys/health`)).status).toBe(200)
})

test('a proxy that is behind says so, and takes what was issued now', async () => {
  const { world, proxy, base, curl } = sealed
  const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const port = await freePort()
  await using behind = await startProxy(shifted(world.vault, -HOUR_MS), { listen, services, metrics: { port } })
  expect(await ready(`http://127.0.0.1:${port}`)).toMatchObject({ status: 503, checks: { session: true, clock: false } })
  const { token } = await sealed.sealed()
  expect(await curl(`${base(behind.port)}/apps/a`, ['-H', `Authorization: Bearer ${token}`])).toBe('fine 200')
})
