import { once } from 'node:events'
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { assay, startAssay } from '../harness/assay.ts'
import { run, until } from '../harness/process.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type AuditRecord, ask, auditOf, done, logIn, withheldLogin } from './world.ts'

let world: EnrolledWorld
let attester: Attester
let token: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ attester } = world)
  token = await logIn(world.service, attester)
})
afterAll(() => world?.[Symbol.asyncDispose]())

const ASKED = { plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
const creds = (at = world.door.address) => ask(at, 'POST', 'broker/creds/deploy', { body: ASKED, token })
const ready = async () =>
  (await (await fetch(`${world.door.address}/readyz`)).json()) as { ready: boolean; checks: { audit: boolean } }

describe('an audit log that cannot be written', () => {
  const limit = async (bytes: number | 'unlimited') => {
    const { code, stderr } = await run('prlimit', [`--pid=${world.door.server.pid}`, `--fsize=${bytes}:unlimited`])
    if (code !== 0) throw new Error(stderr)
  }

  /** How often Vault was asked for something that makes a secret, as its own audit log says. */
  const madeBy = async (during: () => Promise<void>) => {
    const log = join(String(world.vault.env['HOME']), 'vault-audit.log')
    await done(world.vault.api('PUT', 'sys/audit/count', { type: 'file', options: { file_path: log } }))
    await during()
    await done(world.vault.api('DELETE', 'sys/audit/count'))
    const lines = (await readFile(log, 'utf8')).trim().split('\n')
    const asked = lines.map(line => JSON.parse(line) as { type: string; request: { path: string } })
    await rm(log)
    return asked.filter(one => one.type === 'request' && /^transit\/sign|login$/.test(one.request.path)).length
  }

  test('Vault is asked for two signatures and a login when all is well', async () => {
    expect(
      await madeBy(async () => {
        expect((await creds()).status).toBe(200)
        await logIn(world.service, attester)
      }),
    ).toBe(3)
  })

  test('nothing is issued, Vault signs nothing, and it goes on by itself when there is room again', async () => {
    const { body } = await withheldLogin(world.service, attester)
    const refused = { status: 503, body: { errors: ['the audit log cannot be written, so nothing is issued; try again later'] } }
    const made = await madeBy(async () => {
      await limit(64) // less than a record
      expect(await creds()).toEqual(refused)
      expect(await ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body })).toEqual(refused)
      expect(await world.api('POST', 'broker/config', { actions: 'deploy,delete,more' })).toEqual(refused)
      expect(await world.api('POST', 'sys/mounts/another', { type: 'broker' })).toEqual(refused)
      expect(await world.api('POST', 'sys/auth/another', { type: 'tpm-quote' })).toEqual(refused)
      expect(await world.api('DELETE', 'broker/policy/builders')).toEqual(refused)
      expect(await ready()).toMatchObject({ ready: false, checks: { audit: false } })
    })
    expect(made).toBe(0)
    expect((await world.api('GET', 'broker/config')).body.data.actions).toEqual(['deploy', 'delete'])
    expect((await world.vault.api('GET', 'sys/auth')).body.data).not.toHaveProperty('another/')
    await limit('unlimited')
    await until('a credential', async () => (await creds()).status === 200)
    expect(await ready()).toMatchObject({ ready: true })
    expect((await world.api('GET', 'broker/policy/builders')).status).toBe(200)
  })

  test('its chain goes on, from file to file', async () => {
    const folder = dirname(world.door.auditFile)
    const { stdout } = await run('sh', ['-c', `ls -tr ${folder}/audit.jsonl*`])
    const ran = await assay(['audit', 'verify', ...stdout.trim().split('\n')])
    expect(ran.stdout + ran.stderr).toMatch(/^the chain holds: \d+ records/)
  })
})

test('SIGHUP opens it anew after it was renamed, and the chain goes on', async () => {
  const { auditFile, server } = world.door
  const aside = `${auditFile}.yesterday`
  await rename(auditFile, aside)
  process.kill(server.pid, 'SIGHUP')
  await until('a new file', async () =>
    stat(auditFile).then(
      ({ size }) => size > 0,
      () => false,
    ),
  )
  expect((await creds()).status).toBe(200)
  await until('the outcome', async () => (await auditOf(auditFile)).at(-1)?.['result'] === 'issued')
  const ran = await assay(['audit', 'verify', '--json', aside, auditFile])
  expect(JSON.parse(ran.stdout)).toMatchObject({
    ok: true,
    records: (await auditOf(aside)).length + (await auditOf(auditFile)).length,
  })
  expect((await auditOf(auditFile))[0]).toMatchObject({ type: 'system', prev: (await auditOf(aside)).at(-1)?.['hash'] })
})

test('SIGHUP where no file can be made: said aloud, and the old file is still written', async () => {
  const { auditFile, server } = world.door
  const folder = dirname(auditFile)
  await rename(folder, `${folder}-moved`)
  await writeFile(folder, 'a file where the folder was')
  process.kill(server.pid, 'SIGHUP')
  await server.line(/not everything could be opened anew/)
  const { status, body } = await creds()
  expect(status).toBe(200)
  await rm(folder)
  await rename(`${folder}-moved`, folder)
  const outcome = (one: AuditRecord) => one['txn'] === body.request_id && one['result'] === 'issued'
  await until('the outcome', async () => (await auditOf(auditFile)).some(outcome))
})

test('who is told to stop finishes what is in flight, however often it is told, takes no more, and revokes the own token', async () => {
  const before = await ownTokens()
  const door = await startAssay(world.vault)
  const [mine] = (await ownTokens()).filter(accessor => !before.includes(accessor))
  const { hostname: host, port } = new URL(door.address)
  const body = JSON.stringify(ASKED)
  const headers = { 'X-Vault-Token': token, Expect: '100-continue', 'Content-Length': Buffer.byteLength(body) }
  const sent = request({ host, port, method: 'POST', path: '/v1/broker/creds/deploy', headers })
  sent.flushHeaders()
  await once(sent, 'continue')
  process.kill(door.server.pid, 'SIGTERM')
  await until('no more to be taken', async () =>
    fetch(door.address).then(
      () => false,
      () => true,
    ),
  )
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.kill(door.server.pid, signal)
  sent.end(body)
  const [reply] = (await once(sent, 'response')) as [import('node:http').IncomingMessage]
  const chunks: Buffer[] = (await reply.toArray()) as Buffer[]
  expect(reply.statusCode).toBe(200)
  expect(JSON.parse(Buffer.concat(chunks).toString())).toMatchObject({ data: { token_type: 'DPoP' } })
  expect(await door.server.exited).toEqual({ code: 0, signal: null })
  expect(await ownTokens()).not.toContain(mine)
  await door.stop()
})

async function ownTokens(): Promise<string[]> {
  const { body } = await world.vault.api('LIST', 'auth/token/accessors')
  const found = await Promise.all(
    (body.data.keys as string[]).map(async accessor => {
      const { data } = (await world.vault.api('POST', 'auth/token/lookup-accessor', { accessor })).body as {
        data?: { path: string }
      }
      return data?.path === 'auth/approle/login' ? accessor : ''
    }),
  )
  return found.filter(accessor => accessor !== '')
}
