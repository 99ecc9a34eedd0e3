import type { IncomingMessage, ServerResponse } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openApp } from '../../../mounts/hosts/app.ts'
import type { HttpReply } from '../../../mounts/hosts/envelope.ts'
import { remember } from '../../../mounts/hosts/request_facts.ts'
import { canonicalise } from '../../../mounts/path.ts'
import { openTestBroker, type TestBroker } from '../../fakes/broker.ts'

let at: TestBroker
beforeAll(async () => {
  at = await openTestBroker()
})
afterAll(() => at[Symbol.asyncDispose]())

afterEach(() => {
  at.vault.fault = () => undefined
})

/** A request to the app, to which Vault answers so. */
async function asked(method: string, target: string, vaults: HttpReply, body = ''): Promise<Response> {
  const { broker, dispatch, world } = at
  const app = openApp({ broker, drain, dispatch, world, newId: () => 'an-id', forward: async () => vaults })
  const read = canonicalise(target)
  if (!read.ok) throw new Error(String(read.status))
  const incoming = { method } as IncomingMessage
  remember(incoming, read.path, '127.0.0.1', Buffer.from(body))
  const request = new Request(`http://here${target}`, { method, headers: { 'X-Vault-Token': at.vault.rootToken } })
  return app.fetch(request, { incoming, outgoing: {} as ServerResponse })
}

const drain = { begun: () => false }

test('who was told to stop is not ready, and names that alone', async () => {
  const ready = async () => {
    const answer = await asked('GET', '/readyz', { status: 200 })
    return { status: answer.status, ...((await answer.json()) as object) }
  }
  const checks = { vault: true, places: true, session: true, clock: true, audit: true, serving: true }
  expect(await ready()).toEqual({ status: 200, ready: true, checks })
  drain.begun = () => true
  expect(await ready()).toEqual({ status: 503, ready: false, checks: { ...checks, serving: false } })
  drain.begun = () => false
})

test('nobody is ready beside a Vault that tells another time', async () => {
  const { now } = at.vault
  at.vault.now = () => now() - 60_000
  const answer = await asked('GET', '/readyz', { status: 200 })
  expect([answer.status, await answer.json()]).toMatchObject([503, { checks: { vault: true, clock: false } }])
  at.vault.now = now
  expect((await asked('GET', '/readyz', { status: 200 })).status).toBe(200)
})

const CHANGES = [
  ['POST', 'sys/auth/approle'],
  ['POST', 'sys/mounts/transit'],
  ['POST', 'sys/mounts/transit/tune'],
  ['POST', 'sys/remount'],
] as const
const ENDS = [
  ['DELETE', 'sys/auth/approle'],
  ['DELETE', 'sys/mounts/transit'],
  ['PUT', 'sys/leases/revoke'],
  ['PUT', 'sys/leases/revoke-prefix/database'],
  ['PUT', 'sys/leases/revoke-force/database'],
] as const
const VAULTS = { status: 204 }

describe('what clients ask all the time, of Vault’s own', () => {
  const looks = () => at.vault.asked.filter(({ method, path }) => method === 'GET' && path === 'sys/auth').length

  test.each([
    ['GET', 'sys/internal/ui/mounts/secret/data/a', 403],
    ['PUT', 'sys/leases/lookup', 400],
    ['PUT', 'sys/leases/renew', 400],
  ])('%s %s makes nobody look at the mounts, unless Vault knows of none', async (method, path, unknown) => {
    const before = looks()
    expect((await asked(method, `/v1/${path}`, { status: 200 })).status).toBe(200)
    expect(looks() - before).toBe(0)
    expect((await asked(method, `/v1/${path}`, { status: unknown })).status).toBe(unknown)
    expect(looks() - before).toBe(1)
  })

  test('is Vault’s to answer where nobody can look', async () => {
    at.vault.fault = () => ({ status: 500 })
    expect((await asked('GET', '/v1/sys/internal/ui/mounts/secret/data/a', { status: 403 })).status).toBe(403)
  })
})

const TELLS = [
  ['GET', 'sys/mounts'],
  ['GET', 'sys/mounts/transit'],
  ['GET', 'sys/auth'],
  ['GET', 'sys/remount/status/an-id'],
  ['GET', 'sys/internal/ui/mounts'],
  ['GET', 'sys/internal/specs/openapi'],
  ['LIST', 'sys/leases/lookup'],
] as const

test.each([
  ['POST', 'sys/remount'],
  ['POST', 'sys/auth/machines/tune'],
  ['PUT', 'sys/leases/revoke'],
])('%s %s is refused where Vault might read another thing in the body', async (method, path) => {
  await at.sys('POST', 'sys/auth/machines', { type: 'tpm-quote' })
  onTestFinished(async () => void (await at.sys('DELETE', 'sys/auth/machines')))
  const read = (body: string) => asked(method, `/v1/${path}`, VAULTS, body)
  expect((await read('{"from":"a","to":"b"}')).status).toBe(204)
  const reply = await read('{"from":"a","to":"b"} {}')
  const errors = ['the body is neither a JSON object nor a form, or it is not certain to mean the same to Vault']
  expect({ status: reply.status, body: await reply.json() }).toEqual({ status: 400, body: { errors } })
})

describe('while Vault does not answer the broker', () => {
  test.each(TELLS)('%s %s is Vault’s to answer: why it does not, it says itself', async (method, path) => {
    at.vault.fault = () => ({ status: 500 })
    const sealed = { status: 503, body: { errors: ['Vault is sealed'] } }
    const reply = await asked(method, `/v1/${path}`, sealed)
    expect({ status: reply.status, body: await reply.json() }).toEqual(sealed)
  })

  test.each([...CHANGES, ...ENDS])('%s %s is not asked of it once more', async (method, path) => {
    expect((await asked(method, `/v1/${path}`, VAULTS)).status).toBe(204)
    at.vault.fault = () => ({ status: 500 })
    expect((await asked(method, `/v1/${path}`, VAULTS)).status).toBe(503)
  })
})

describe('while Vault does not let the broker in', () => {
  beforeAll(() => {
    at.vault.state.approle = false
    at.vault.revoke(at.broker.session.token().reveal())
  })

  test.each([...CHANGES, ['PUT', 'auth/token/revoke-self'] as const])('%s %s is Vault’s to answer', async (method, path) => {
    expect((await asked(method, `/v1/${path}`, VAULTS)).status).toBe(204)
  })

  test.each(ENDS)('%s %s is not said to be done', async (method, path) => {
    expect((await asked(method, `/v1/${path}`, VAULTS)).status).toBe(503)
  })
})
