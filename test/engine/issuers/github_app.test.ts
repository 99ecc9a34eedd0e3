import { generateKeyPairSync } from 'node:crypto'
import { createEmulator, type Emulator } from 'emulate'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Credential } from '../../../engine/issuers/index.ts'
import type { Secret } from '../../../engine/secret.ts'
import { openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { startProvider } from '../../fakes/provider.ts'

// An emulator of GitHub that verifies the JWT of the app, and enforces repositories and permissions of its tokens.
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const installation = { installation_id: 34, account: 'acme', permissions: { contents: 'write', metadata: 'read' } }

let github: Emulator
beforeAll(async () => {
  const pem = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
  const app = { app_id: 12, slug: 'assay', name: 'Assay', private_key: pem, permissions: installation.permissions }
  const repos = ['app', 'payroll'].map(name => ({ owner: 'acme', name, private: true, auto_init: true }))
  const seed = { github: { users: [{ login: 'acme' }], repos, apps: [{ ...app, installations: [installation] }] } }
  github = await createEmulator({ service: 'github', port: 0, seed } as never)
})
afterAll(() => github.close())

const open: TestExchange[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
})
function opened({ rsa = privateKey, settings = {}, role = {} } = {}): TestExchange {
  const where = { api_url: github.url, app_id: '12', installation_id: '34', key: 'assay-rsa', ...settings }
  const one = openTestExchange({ type: 'github_app', settings: where, rsa, role: { ...READ, ...role } })
  open.push(one)
  return one
}
const READ = { repositories: 'app', permissions: { read: ['contents:read'] } }
const tokenOf = ({ fields }: Credential) => (fields['token'] as Secret).reveal()

/** Status of one request with the token. */
async function status(token: string, path: string, init: RequestInit = {}): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/vnd.github+json' }
  return (await fetch(`${github.url}${path}`, { ...init, headers })).status
}
const file = { message: 'x', content: Buffer.from('x').toString('base64') }
const write = (token: string, repository: string) =>
  status(token, `/repos/acme/${repository}/contents/x.txt`, { method: 'PUT', body: JSON.stringify(file) })

test('reads the repository that was asked for, and nothing more', async () => {
  const credential = await opened().credential()
  expect(credential.granted).toMatchObject({ repositories: ['app'] })
  const token = tokenOf(credential)
  expect(await status(token, '/repos/acme/app')).toBe(200)
  expect(await status(token, '/repos/acme/payroll')).toBeGreaterThanOrEqual(403)
  expect(await write(token, 'app')).toBe(403)
})

test('writes, where the action may', async () => {
  const token = tokenOf(await opened({ role: { permissions: { read: ['contents:write'] } } }).credential())
  expect(await write(token, 'app')).toBe(201)
  expect(await write(token, 'payroll')).toBeGreaterThanOrEqual(403)
})

// the emulator has no DELETE /installation/token
test('is revoked by its handle, which does not hold it; a token that has gone is no error', async () => {
  await using provider = await startProvider()
  const answer = { expires_at: new Date(Date.now() + 3_600_000).toISOString(), repository_selection: 'selected' }
  const body = { token: 'ghs_upstream', permissions: { contents: 'read' }, repositories: [{ name: 'app' }], ...answer }
  let gone = false
  provider.answer = ({ method }) => (method === 'POST' ? { status: 201, body } : { status: gone ? 401 : 204 })
  const exchange = opened({ settings: { api_url: provider.url } })
  const credential = await exchange.credential()
  expect(JSON.stringify(credential.handle)).not.toContain('ghs_upstream')
  await exchange.revoke(credential)
  expect(provider.asked.at(-1)).toMatchObject({
    method: 'DELETE',
    url: '/installation/token',
    headers: { authorization: 'Bearer ghs_upstream' },
  })
  gone = true
  await exchange.revoke(credential)
  provider.answer = () => ({ status: 503 })
  await expect(exchange.revoke(credential)).rejects.toThrow(/acme answered with status 503/)
})

test.each([
  ['in another spelling is the one that was asked for', 'App', 'OK'],
  ['that has another name by now is not', 'app-renamed', 'EXCHANGE_WIDER'],
])('a repository %s', async (_, name, outcome) => {
  await using provider = await startProvider()
  const answer = { expires_at: new Date(Date.now() + 3_600_000).toISOString(), repository_selection: 'selected' }
  const body = { token: 'ghs_upstream', permissions: { contents: 'read' }, repositories: [{ name }], ...answer }
  provider.answer = ({ method }) => (method === 'POST' ? { status: 201, body } : { status: 204 })
  expect(await opened({ settings: { api_url: provider.url } }).outcome()).toBe(outcome)
})

test('a token that is wider than asked is revoked, and not handed out', async () => {
  await using provider = await startProvider()
  const answer = { expires_at: new Date(Date.now() + 3_600_000).toISOString(), repository_selection: 'all' }
  const body = { token: 'ghs_upstream', permissions: { contents: 'read' }, repositories: [], ...answer }
  provider.answer = ({ method }) => (method === 'POST' ? { status: 201, body } : { status: 204 })
  expect(await opened({ settings: { api_url: provider.url } }).outcome()).toBe('EXCHANGE_WIDER')
  expect(provider.asked.at(-1)).toMatchObject({ method: 'DELETE', headers: { authorization: 'Bearer ghs_upstream' } })
})

test.each([
  ['more than the installation has', { role: { permissions: { read: ['issues:write'] } } }, 'EXCHANGE_REFUSED', 'status_422'],
  ['a repository that is not there', { role: { repositories: 'other' } }, 'EXCHANGE_REFUSED', 'status_422'],
  ['another installation', { settings: { installation_id: '99' } }, 'EXCHANGE_REFUSED', 'status_404'],
  ['another key', { rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey }, 'EXCHANGE_REFUSED', 'status_401'],
])('%s is refused', async (_, options, code, reason) => {
  expect(await opened(options).issue()).toMatchObject({ code, detail: `acme: ${reason}` })
})
