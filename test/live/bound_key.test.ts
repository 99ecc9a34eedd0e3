import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { creds } from '../../agent/flow.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { assay } from '../harness/assay.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { openResourceServer, type ResourceServer } from './resource_server.ts'
import { missing, openTpmOpenssl } from './tpm_openssl.ts'
import {
  AUDIENCE,
  ask,
  codeOf,
  configureAuth,
  configureBroker,
  done,
  enrol,
  logIn,
  MEASURED,
  machine,
  measure,
  openWorld,
  ROLE,
  refusal,
  serviceOf,
  type World,
  withheldLogin,
} from './world.ts'

// What is issued works with the key in the TPM alone: by a DPoP proof (RFC 9449), and at mutual TLS (RFC 8705).

let world: World
let tpm: Swtpm
let folder: string
let authority: Authority
let resource: ResourceServer
let token: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-bound-'))
  world = await openWorld({ tpms: [{}] })
  tpm = world.tpms[0] as Swtpm
  await measure(tpm, MEASURED, 'good firmware')
  {
    await using attester = await machine(tpm)
    await configureAuth(world, tpm, attester, { role: { bind_key: 'certified' } })
    await configureBroker(world, { role: { bind_key: 'certified' } })
    await enrol(serviceOf(world.door.address), tpm, attester)
  }
  authority = await openAuthority()
  resource = await openResourceServer(authority, `${world.door.address}/v1/broker`, AUDIENCE)
  await agent('key', at('key.pem'), '--certificate', at('cert.pem'), '--name', 'build-17')
  const session = ['--key', at('key.pem'), '--key-certificate', at('cert.pem')]
  await online('login', '--role', 'builder', ...session, '--token-file', at('vault-token'))
  const asked = ['--plugin', 'kubernetes', '--scope', 'apps:read', '--token-file', at('vault-token'), '--field', 'token']
  token = (await online('creds', 'deploy', ...asked)).trim()
  await writeFile(at('token'), token, { mode: 0o600 })
})
afterAll(async () => {
  await resource?.[Symbol.asyncDispose]()
  await authority?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const at = (name: string) => join(folder, name)
async function agent(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await assay(['agent', ...args, '--tpm', tpm.spec])
  if (code !== 0) throw new Error(`ended with ${code}: ${stderr}`)
  return stdout
}
const online = (...args: string[]) => agent(...args, '--address', world.door.address)

type Answer = { readonly status: number | undefined; readonly text: string }

/** One request with a key of node:crypto, or none. */
async function present(path: string, headers: Record<string, string>, pair?: { cert: string; key: string }): Promise<Answer> {
  const ca = await readFile(authority.ca)
  const shown = pair ? { cert: await readFile(pair.cert), key: await readFile(pair.key) } : {}
  return new Promise((resolve, reject) => {
    const sent = request(`${resource.url}${path}`, { method: 'POST', ca, headers, agent: false, ...shown }, incoming => {
      let text = ''
      incoming.on('data', chunk => (text += String(chunk)))
      incoming.on('end', () => resolve({ status: incoming.statusCode, text }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('a token is bound to the key and to its certificate', async () => {
  const { raw } = new X509Certificate(await readFile(at('cert.pem')))
  const jkt = expect.stringMatching(/^[\w-]{43}$/) as string
  expect(decodeJwt(token)['cnf']).toEqual({ jkt, 'x5t#S256': createHash('sha256').update(raw).digest('base64url') })
})

/** As a program would that knows nothing of TPMs: an ordinary key file, and an OpenSSL that is configured for it. */
const CLIENT = `import { readFileSync as read } from 'node:fs'
import { request } from 'node:https'
const [url, key, cert, ca, token] = process.argv.slice(2)
const options = { method: 'POST', key: read(key), cert: read(cert), ca: read(ca), headers: { authorization: 'Bearer ' + token } }
request(url, options, incoming => {
  process.stdout.write(incoming.statusCode + ' ' + incoming.socket.getProtocol() + ' ')
  incoming.pipe(process.stdout)
}).end()
`

const without = await missing()
describe.skipIf(without !== undefined)(`at mutual TLS${without ? ` (skipped: ${without})` : ''}`, () => {
  test('Node and curl show the key of the TPM, and are let in', async () => {
    await writeFile(at('client.mjs'), CLIENT)
    await using openssl = await openTpmOpenssl(tpm, folder)
    const url = `${resource.url}/mtls`
    const args = [url, at('key.pem'), at('cert.pem'), authority.ca, token]
    const node = await openssl.run(process.execPath, ['--openssl-shared-config', at('client.mjs'), ...args])
    expect(node).toMatchObject({ code: 0, stdout: '200 TLSv1.3 welcome' })
    const pair = ['--key', at('key.pem'), '--cert', at('cert.pem'), '--cacert', authority.ca]
    const curl = await openssl.run('curl', ['-s', '-X', 'POST', ...pair, '-H', `Authorization: Bearer ${token}`, url])
    expect(curl).toMatchObject({ code: 0, stdout: 'welcome' })
  })

  test('a key that OpenSSL made in the TPM can be bound as well', async () => {
    {
      await using openssl = await openTpmOpenssl(tpm, folder)
      const made = ['genpkey', '-provider', 'tpm2', '-provider', 'default', '-propquery', '?provider=tpm2', '-algorithm', 'EC']
      const { code, stderr } = await openssl.run('openssl', [...made, '-pkeyopt', 'group:P-256', '-out', at('theirs.pem')])
      expect({ code, stderr }).toMatchObject({ code: 0 })
    }
    const login = await online('login', '--role', 'builder', '--key', at('theirs.pem'), '--field', 'token')
    const lookup = await world.vault.api('POST', 'auth/token/lookup', { token: login.trim() })
    expect(lookup.body.data.meta).toMatchObject({ key_certified: 'true', x5t_s256: '' })
  })
})

test('at mutual TLS the token is refused with another key, with none, and with another certificate of the same name', async () => {
  const bearer = { authorization: `Bearer ${token}` }
  const stolen = await authority.issue('build-17')
  expect(await present('/mtls', bearer, stolen)).toEqual({
    status: 401,
    text: expect.stringContaining('bound to another') as string,
  })
  expect(await present('/mtls', bearer)).toEqual({ status: 401, text: expect.stringContaining('no certificate') as string })
})

test('with DPoP the token works with a proof by its key alone', async () => {
  const url = `${resource.url}/dpop`
  const proof = async (...key: string[]) => (await agent('dpop', 'POST', url, '--credential-file', at('token'), ...key)).trim()
  const headers = (dpop: string) => ({ authorization: `DPoP ${token}`, dpop })
  expect(await present('/dpop', headers(await proof('--key', at('key.pem'))))).toEqual({ status: 200, text: 'welcome' })
  const other = await present('/dpop', headers(await proof()))
  expect(other).toEqual({ status: 401, text: expect.stringContaining('bound to another key') as string })
  expect((await present('/dpop', { authorization: `Bearer ${token}` })).status).toBe(401)
})

describe('a role that wants a certified key', () => {
  const service = () => serviceOf(world.door.address)
  const login = (body: object) => ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body })
  const code = async (body: object) => codeOf(world.door.auditFile, (await login(body)).body)

  test('refuses a key that is named by its thumbprint alone', async () => {
    await using attester = await machine(tpm)
    const { body } = await withheldLogin(service(), attester)
    const { key_public: _, key_attest: __, key_signature: ___, ...bare } = body
    expect(await code(bare)).toBe('KEY_NOT_CERTIFIED')
    const { body: again } = await withheldLogin(service(), attester)
    const { key_attest: ____, ...part } = again
    expect(await login(part)).toMatchObject({ status: 400 })
  })

  test('refuses a certification of before, of another key, and a certificate of another key', async () => {
    await using attester = await machine(tpm)
    const [before, now] = [await withheldLogin(service(), attester), await withheldLogin(service(), attester)]
    expect(await code({ ...now.body, key_attest: before.body['key_attest'], key_signature: before.body['key_signature'] })).toBe(
      'NONCE_MISMATCH',
    )
    const { body } = await withheldLogin(service(), attester)
    expect(await code({ ...body, key_public: (await attester.attestationKey()).public.toString('base64') })).toBe(
      'KEY_ATTRIBUTES',
    )
    const certificate = new X509Certificate(await readFile((await authority.issue('other')).cert)).raw
    const { body: last } = await withheldLogin(service(), attester)
    expect(await code({ ...last, key_certificate: certificate.toString('base64') })).toBe('KEY_MISMATCH')
  })

  test('takes no key of a program in place of it later, with the quote of a request', async () => {
    await done(world.api('POST', 'broker/role/any-key', { ...ROLE, bind_key: 'required' }))
    await using attester = await machine(tpm)
    const { thumbprint = '', certificate } = await ownIdentity({ now: Date.now, random: randomBytes })
    const other = { attester, role: 'builder', bind: true, held: { thumbprint, certificate } }
    const session = await logIn(service(), attester)
    const asked = { role: 'any-key', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
    await expect(creds(service(), asked, session, other)).rejects.toThrow('KEY_NOT_CERTIFIED')
    const { held: _, ...own } = other
    expect(decodeJwt((await creds(service(), asked, session, own)).token)['cnf']).toMatchObject({ jkt: expect.any(String) })
  })

  test('of the broker, too, until the request itself certifies the key', async () => {
    await done(world.api('POST', 'auth/tpm-quote/role/lax', { references: 'good', token_policies: 'builder' }))
    await done(
      world.api('POST', 'broker/policy/lax', { policy: 'permit (principal, action, resource) when { context.key_bound };' }),
    )
    await using attester = await machine(tpm)
    const { body } = await withheldLogin(service(), attester, { role: 'lax' })
    const { key_public: _, key_attest: __, key_signature: ___, ...bare } = body
    const { client_token } = (await done(login(bare))).auth as { client_token: string }
    await attester.close()
    const asked = [
      'creds',
      'deploy',
      '--plugin',
      'kubernetes',
      '--scope',
      'apps:read',
      '--address',
      world.door.address,
      '--tpm',
      tpm.spec,
    ]
    const refused = await assay(['agent', ...asked], { VAULT_TOKEN: client_token })
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--role') as string })
    const quoted = await assay(['agent', ...asked, '--role', 'lax'], { VAULT_TOKEN: client_token })
    expect(quoted).toMatchObject({ code: 0 })
  })
})

test('a key that is not bound is refused where the role wants one', async () => {
  await using attester = await machine(tpm)
  const service = serviceOf(world.door.address)
  const { login } = await import('../../agent/flow.ts')
  expect(await refusal(world, login(service, attester, { role: 'builder', bind: false }))).toBe('KEY_NOT_BOUND')
})
