import * as jose from 'jose'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type Here, moveClocks, serveHere } from './in_process.ts'
import { ask, done, logIn, serviceOf } from './world.ts'

/** How old what is known of a key may be. */
const STATED_MS = 5000

let world: EnrolledWorld
let here: Here
let passes: (ms: number) => void
let attester: Attester
let token: string
let issueKey: string
let loginKey: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ attester } = world)
  here = await serveHere(world.vault)
  passes = moveClocks()
  token = await logIn(service(), attester)
  issueKey = (await api('GET', 'broker/keys')).body.data.name as string
  loginKey = `assay-login-${(await api('GET', 'sys/auth/tpm-quote')).body.data.uuid as string}`
})
afterAll(async () => {
  vi.restoreAllMocks()
  await here?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

const service = () => serviceOf(here.address)
const api = (method: string, path: string, body: object = {}) =>
  ask(here.address, method, path, { token: world.vault.rootToken, ...(method === 'GET' ? {} : { body }) })
const creds = async () =>
  (await flow.creds(service(), { role: 'deploy', plugin: 'kubernetes', scope: ['apps:read'] }, token)).token
const kidOf = (jwt: string) => jose.decodeProtectedHeader(jwt).kid
const jwks = async () =>
  (await ask(here.address, 'GET', 'broker/.well-known/jwks.json')).body as { keys: (jose.JWK & { kid: string })[] }
const verifies = async (jwt: string) =>
  (await jose.jwtVerify(jwt, jose.createLocalJWKSet(await jwks()))).payload.sub === 'kubernetes'
const direct = (method: string, path: string, body?: object) => done(world.vault.api(method, `transit/keys/${path}`, body))

test('the operator sees the versions of the key, and never its private half', async () => {
  const { data } = (await api('GET', 'broker/keys')).body as {
    data: { name: string; latest_version: number; keys: object }
  }
  expect(data).toMatchObject({ name: issueKey, latest_version: 1, keys: { 1: { kid: kidOf(await creds()) } } })
  expect(JSON.stringify(data)).toMatch(/BEGIN PUBLIC KEY/)
  expect(JSON.stringify(data)).not.toMatch(/PRIVATE/)
  expect(await world.operator(['read', 'broker/keys'])).toContain(issueKey)
})

describe('rotated', () => {
  test('by the stock CLI: a new kid at once, and what was issued before still verifies', async () => {
    const before = await creds()
    expect((await world.door.vault(['write', '-f', 'broker/keys/rotate'], { env: { VAULT_ADDR: here.address } })).stdout).toMatch(
      /latest_version +2/,
    )
    const after = await creds()
    const { keys } = await jwks()
    expect(keys.map(({ kid }) => kid)).toEqual([kidOf(before), kidOf(after)])
    expect(await Promise.all(keys.map(key => jose.calculateJwkThumbprint(key)))).toEqual(keys.map(({ kid }) => kid))
    expect(await Promise.all([before, after].map(verifies))).toEqual([true, true])
  })

  test('in transit itself: seen within the stated time', async () => {
    const before = await creds()
    await direct('POST', `${issueKey}/rotate`)
    passes(STATED_MS + 1)
    const after = await creds()
    expect(kidOf(after)).toBe((await jwks()).keys.at(-1)?.kid)
    expect(await Promise.all([before, after].map(verifies))).toEqual([true, true])
  })

  test('while it is in use: nothing fails, and all verifies', async () => {
    const rotating = api('POST', 'broker/keys/rotate')
    const issued = await Promise.all(Array.from({ length: 40 }, creds))
    await done(rotating)
    issued.push(await creds())
    expect(new Set(issued.map(kidOf))).toContain((await jwks()).keys.at(-1)?.kid)
    expect((await Promise.all(issued.map(verifies))).every(Boolean)).toBe(true)
  })

  test('the key of logins, in transit itself: logins go on, and follow when the mount is configured', async () => {
    await direct('POST', `${loginKey}/rotate`)
    expect(await logIn(service(), attester)).toMatch(/^hvs\./)
    const trusted = async () =>
      (await world.vault.api('GET', 'auth/tpm-quote/config')).body.data.jwt_validation_pubkeys as string[]
    expect(await trusted()).toHaveLength(1)
    passes(STATED_MS + 1)
    await done(api('POST', 'auth/tpm-quote/config', { enrollment: 'any' }))
    expect(await trusted()).toHaveLength(2)
    await direct('POST', `${loginKey}/config`, { min_encryption_version: 2 })
    expect(await logIn(service(), attester)).toMatch(/^hvs\./)
  })
})

describe('a key that is not as it should be is not used', () => {
  test('one that somebody made exportable', async () => {
    await direct('POST', `${issueKey}/config`, { exportable: true })
    passes(STATED_MS + 1)
    await expect(creds()).rejects.toThrow(/503.*can be exported: it will not be used/)
    expect((await ask(here.address, 'GET', 'broker/.well-known/jwks.json')).status).toBe(503)
  })

  test('one that somebody deleted', async () => {
    await direct('POST', `${issueKey}/config`, { deletion_allowed: true })
    await direct('DELETE', issueKey)
    passes(STATED_MS + 1)
    await expect(creds()).rejects.toThrow(/503.*does not exist/)
  })
})
