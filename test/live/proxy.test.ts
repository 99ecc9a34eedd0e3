import { createHash, createPublicKey, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline, Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import * as flow from '../../agent/flow.ts'
import { assay } from '../harness/assay.ts'
import { freePort, run } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { vaultBinary } from '../harness/vault.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { configureBroker, done, logIn } from './world.ts'

const NOTHING = new AsyncDisposableStack()
let parts = NOTHING
let world: EnrolledWorld
let proxy: AssayProxy
let ca: Authority
let agent: { readonly cert: string; readonly key: string; readonly held: flow.HeldKey }
let plain: { readonly port: number; readonly seen: IncomingMessage['headers'][] }
let secured: { readonly port: number; readonly seen: IncomingMessage['headers'][] }
let token: string
let interceptCa: string

beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  world = opening.use(await openEnrolledWorld({ broker: false }))
  ca = opening.use(await openAuthority())
  agent = await identity('agent')
  const listener = (seen: IncomingMessage['headers'][]) => (incoming: IncomingMessage, outgoing: ServerResponse) => {
    seen.push(incoming.headers)
    if (incoming.url === '/down') pipeline(Readable.from(gigabyte()), outgoing, () => {})
    else incoming.resume().once('end', () => outgoing.end('fine'))
  }
  const upstream = await ca.issue('upstream')
  const [one, two]: IncomingMessage['headers'][][] = [[], []]
  const first = createServer(listener(one ?? []))
  const second = createTlsServer({ cert: await readFile(upstream.cert), key: await readFile(upstream.key) }, listener(two ?? []))
  for (const server of [first, second]) {
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    opening.defer(() => {
      server.close().closeAllConnections()
    })
  }
  plain = { port: (first.address() as AddressInfo).port, seen: one ?? [] }
  secured = { port: (second.address() as AddressInfo).port, seen: two ?? [] }
  await configureBroker(world, {
    role: { delivery: 'sealed', destinations: `GET http://127.0.0.1:${plain.port}/apps/**,https://127.0.0.1:${secured.port}` },
  })
  token = await logIn(world.service, world.attester, { held: agent.held })
  const server = await ca.issue('localhost')
  const inject = [{ header: { name: 'Authorization', value: 'Bearer {token}' } }]
  const http = { kind: 'http', addresses: ['127.0.0.1'], inject }
  proxy = opening.use(
    await startProxy(world.vault, {
      listen: { cert_file: server.cert, key_file: server.key },
      intercept: true,
      revocations: { poll_ms: 50 },
      services: [
        { ...http, name: 'plain', scheme: 'http', hosts: [`127.0.0.1:${plain.port}`] },
        { ...http, name: 'secured', hosts: [`127.0.0.1:${secured.port}`], ca_file: ca.ca },
      ],
    }),
  )
  interceptCa = ca.at('intercept.pem')
  const { body } = await world.vault.api('GET', 'assay-proxy-ca/cert/ca')
  await writeFile(interceptCa, body.data.certificate)
  parts = opening.move()
}, 120_000)
afterAll(() => parts.disposeAsync())

function* gigabyte(): Generator<Buffer> {
  const megabyte = Buffer.alloc(2 ** 20, 'abc')
  for (let at = 0; at < 1024; at++) yield megabyte
}

async function identity(name: string) {
  const { cert, key } = await ca.issue(name)
  const certificate = new X509Certificate(await readFile(cert))
  const { crv, kty, x, y } = createPublicKey(await readFile(cert)).export({ format: 'jwk' })
  const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')
  return { cert, key, held: { thumbprint, certificate: certificate.raw } }
}

async function sealed(): Promise<{ token: string; data: Readonly<Record<string, unknown>> }> {
  const asked = { role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
  const { token: held, data } = await flow.creds(world.service, asked, token)
  return { token: held, data: { ...data } }
}

/** curl over mutual TLS; the status and the body. */
async function curl(url: string, words: readonly string[] = [], as: { cert: string; key: string } = agent): Promise<string> {
  const own = ['-sS', '-w', ' %{http_code}', '--cacert', ca.ca, '--cert', as.cert, '--key', as.key]
  const { stdout, stderr } = await run('curl', [...own, ...words, url], { withinMs: 120_000 })
  return `${stdout}${stderr}`
}

const base = () => `https://localhost:${proxy.port}/_/http:127.0.0.1:${plain.port}`
const bearer = (sealedToken: string) => ['-H', `Authorization: Bearer ${sealedToken}`]
const claims = (jwt: string) => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())

test('a credential of a sealed role reads like the real one, and works at the proxy alone', async () => {
  const { token: held, data } = await sealed()
  expect(data).toMatchObject({ token_type: 'Bearer', plugin: 'kubernetes', scope: 'apps:read' })
  expect(claims(held)).toMatchObject({ sub: 'kubernetes', aud: 'https://api.example.com', scope: 'apps:read', jti: data['jti'] })
  expect(await curl(`${base()}/apps/a`, bearer(held))).toBe('fine 200')
  const real = String(plain.seen.at(-1)?.authorization).replace('Bearer ', '')
  expect(real).not.toBe(held)
  expect(claims(real)).toMatchObject({ sub: 'kubernetes', iss: claims(held).iss, jti: data['jti'] })
  expect(claims(real).cnf).toBeUndefined()
  const jwks = await fetch(`${world.door.address}/v1/broker/.well-known/jwks.json`)
  expect(await jwks.text()).not.toContain('assay-seal')
})

test('a static key is put in by the proxy, and no agent holds it', async () => {
  const key = 'the-static-key-of-a-provider-0123456789'
  await done(world.api('POST', 'broker/integration/mail', { type: 'static', secrets: { api_key: key } }))
  const ceiling = { plugins: 'kubernetes', actions: 'deploy', scopes: 'apps:read', audiences: 'https://mail.example.com' }
  const destinations = `GET http://127.0.0.1:${plain.port}/mail/**`
  const role = { ...ceiling, issuer: 'static', integration: 'mail', delivery: 'sealed', destinations }
  await done(world.api('POST', 'broker/role/mail', role))
  const asked = { role: 'mail', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
  const { token: held, reply } = await flow.creds(world.service, asked, token)
  expect(JSON.stringify([reply, claims(held)])).not.toContain(key)
  expect(await curl(`${base()}/mail/a`, bearer(held))).toBe('fine 200')
  expect(plain.seen.at(-1)?.authorization).toBe(`Bearer ${key}`)
})

test('it is refused with another certificate, elsewhere, and by another method', async () => {
  const { token: held } = await sealed()
  const other = await identity('other')
  expect(await curl(`${base()}/apps/a`, bearer(held), other)).toContain('"code":"TOKEN"')
  expect(await curl(`${base()}/other`, bearer(held))).toContain('"code":"TOKEN_DESTINATION"')
  expect(await curl(`${base()}/apps/a`, [...bearer(held), '-X', 'DELETE'])).toContain('"code":"TOKEN_DESTINATION"')
})

test('a login without a certificate gets no sealed token', async () => {
  const { service, attester } = world
  const bare = await logIn(service, attester)
  const asked = { role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
  await expect(flow.creds(service, asked, bare)).rejects.toThrow('CERTIFICATE_NOT_BOUND')
})

test('curl goes through a tunnel that Vault’s own authority certified', async () => {
  const { token: held } = await sealed()
  const tunnel = [
    '-x',
    `https://localhost:${proxy.port}`,
    '--proxy-cacert',
    ca.ca,
    '--proxy-cert',
    agent.cert,
    '--proxy-key',
    agent.key,
  ]
  const words = ['-sS', '--cacert', interceptCa, ...tunnel, ...bearer(held), `https://127.0.0.1:${secured.port}/a`]
  expect(await run('curl', words)).toMatchObject({ stdout: 'fine', code: 0 })
  expect(secured.seen.at(-1)?.authorization).not.toContain(held)
})

describe('split powers', () => {
  const as = async (kind: 'assay' | 'assay-proxy') => {
    const role = `auth/approle/role/${kind}`
    const [id, secret] = [await world.vault.api('GET', `${role}/role-id`), await world.vault.api('POST', `${role}/secret-id`, {})]
    const login = await world.vault.api('POST', 'auth/approle/login', {
      role_id: id.body.data.role_id,
      secret_id: secret.body.data.secret_id,
    })
    const headers = { 'X-Vault-Token': login.body.auth.client_token }
    return async (method: string, path: string, body?: object) =>
      (await fetch(`${world.vault.address}/v1/${path}`, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) }))
        .status
  }

  test('the proxy can neither sign nor encrypt, nor read what the broker keeps', async () => {
    const may = await as('assay-proxy')
    const input = Buffer.from('x').toString('base64')
    expect(await may('POST', 'transit/sign/assay-seal-sign', { input })).toBe(403)
    expect(await may('POST', 'transit/encrypt/assay-seal', { plaintext: input, context: input })).toBe(403)
    expect(await may('POST', 'transit/datakey/plaintext/assay-seal', { context: input })).toBe(403)
    expect(await may('GET', 'transit/export/encryption-key/assay-seal')).toBe(403)
    expect(await may('GET', 'assay/data/mounts')).toBe(403)
    expect(await may('POST', 'assay/data/sealing/revocations', { data: {} })).toBe(403)
    expect(await may('POST', 'assay-proxy-ca/root/sign-intermediate', {})).toBe(403)
    expect(await may('POST', 'auth/token/create', {})).toBe(403)
    expect(await may('GET', 'transit/keys/assay-seal-sign')).toBe(200)
  })

  test('the authority of intercepted hosts is good for these and for nothing else, whoever asks it', async () => {
    const { stdout } = await run('openssl', ['x509', '-in', interceptCa, '-noout', '-ext', 'basicConstraints,nameConstraints'])
    expect(stdout).toMatch(/Name Constraints: critical\s+Permitted:\s+DNS:invalid\s+IP:127\.0\.0\.1\/255\.255\.255\.255\s*$/)
    expect(stdout).toContain('CA:TRUE, pathlen:0')
    const may = await as('assay-proxy')
    expect(await may('POST', 'assay-proxy-ca/issue/intercept', { ip_sans: '127.0.0.1' })).toBe(200)
    for (const other of [
      { alt_names: 'api.github.com' },
      { ip_sans: '127.0.0.2' },
      { ip_sans: '::1' },
      { alt_names: '*.invalid.example' },
    ])
      expect(await may('POST', 'assay-proxy-ca/issue/intercept', other)).toBeGreaterThanOrEqual(400)
  })

  test('the broker cannot open what it sealed, nor export a key', async () => {
    const may = await as('assay')
    const { token: held } = await sealed()
    const ciphertext = claims(held).assay.seal.key
    expect(ciphertext).toMatch(/^vault:v1:/)
    const context = Buffer.from(JSON.stringify(['assay tenant', claims(held).assay.tenant])).toString('base64')
    expect(await may('POST', 'transit/decrypt/assay-seal', { ciphertext, context })).toBe(403)
    expect(await may('GET', 'transit/export/encryption-key/assay-seal')).toBe(403)
    const proxied = await as('assay-proxy')
    expect(await proxied('POST', 'transit/decrypt/assay-seal', { ciphertext, context })).toBe(200)
    expect(
      await proxied('POST', 'transit/decrypt/assay-seal', { ciphertext, context: Buffer.from('other').toString('base64') }),
    ).toBe(400)
  })
})

describe('sealed tokens end', () => {
  const ends = async (held: string) =>
    vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"TOKEN_REVOKED"'), {
      timeout: 20_000,
      interval: 100,
    })

  test('by their id', async () => {
    const [one, two] = [await sealed(), await sealed()]
    await world.operator(['write', 'broker/sealing/revoke', `jti=${String(one.data['jti'])}`])
    await ends(one.token)
    expect(await curl(`${base()}/apps/a`, bearer(two.token))).toBe('fine 200')
  })

  test('with a change of the policies', async () => {
    const { token: held } = await sealed()
    const { body } = await world.api('GET', 'broker/policy/builders')
    await done(world.api('POST', 'broker/policy/builders', { policy: `${body.data.policy}\n` }))
    await ends(held)
    await vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer((await sealed()).token))).toBe('fine 200'), {
      timeout: 20_000,
      interval: 500,
    })
  })

  test('all of them at once, by an operator who has to say which', async () => {
    const { token: held } = await sealed()
    await expect(world.operator(['write', '-f', 'broker/sealing/revoke'])).rejects.toThrow('wanted one of jti, tpm_id and all')
    await world.operator(['write', 'broker/sealing/revoke', 'all=true'])
    await ends(held)
  })
})

test('a gigabyte goes up and down without being held', async () => {
  await vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer((await sealed()).token))).toBe('fine 200'), {
    timeout: 20_000,
    interval: 500,
  })
  const { token: held } = await sealed()
  const resident = async () =>
    Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${proxy.server.pid}/status`, 'utf8'))?.[1]) / 1024
  const before = await resident()
  let most = before
  const watch = setInterval(() => void resident().then(now => (most = Math.max(most, now))), 50)
  const place = `https://localhost:${proxy.port}/_/127.0.0.1:${secured.port}`
  const own = `curl -sS --cacert ${ca.ca} --cert ${agent.cert} --key ${agent.key} -H "Authorization: Bearer ${held}"`
  const [up, down] = [`head -c ${2 ** 30} /dev/zero | ${own} -T - ${place}/up`, `${own} ${place}/down | wc -c`]
  const uploaded = await run('sh', ['-c', up], { withinMs: 120_000 })
  const downloaded = await run('sh', ['-c', down], { withinMs: 120_000 })
  clearInterval(watch)
  expect(uploaded.stdout).toBe('fine')
  expect(downloaded.stdout.trim()).toBe(String(2 ** 30))
  expect(most - before).toBeLessThan(200)
}, 240_000)

test('services are taken over when the file changes, and a broken file changes nothing', async () => {
  const held = (await sealed()).token
  const before = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  await proxy.write({ ...before, services: [{ ...before.services[0], allow: ['/none'] }] })
  await vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"ROUTE"'), {
    timeout: 20_000,
    interval: 200,
  })
  await proxy.write({ ...before, services: [{ ...before.services[0], allow: 'nonsense' }] })
  await proxy.server.line(/was not taken over/, 20_000)
  expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"ROUTE"')
  await proxy.write(before)
  await vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toBe('fine 200'), {
    timeout: 20_000,
    interval: 200,
  })
})

test('a host that the authority does not permit is named at once, and has to be set up', async () => {
  const before = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const [, declared] = before.services
  const added = { ...declared, name: 'added', hosts: ['added.test'] }
  await proxy.write({ ...before, services: [...before.services, added] })
  await proxy.server.line(/"host":"added.test".*its authority has to permit it/, 20_000)
  await proxy.write(before)
  const file = ca.at('added.yaml')
  await writeFile(file, JSON.stringify({ ...before, services: [...before.services, added] }))
  const { stdout } = await assay(['proxy', 'check', file])
  expect(stdout).toContain('its authority has to permit: 127.0.0.1 added.test\n')
  const env = { VAULT_TOKEN: world.vault.rootToken, VAULT_ADDR: world.vault.address }
  const setup = ['setup', '--proxy', '--permit', '127.0.0.1', '--permit', 'added.test']
  const { stdout: printed } = await assay([...setup, '--print'])
  expect(printed).toContain("permitted_dns_domains='added.test' permitted_ip_ranges='127.0.0.1/32'")
  expect((await assay(['setup', '--proxy', '--print'])).stdout).not.toContain('root/generate')
  expect(await assay([...setup, '--apply', '--secret-id-file', ca.at('secret-id')], env)).toMatchObject({ code: 0 })
  const { body } = await world.vault.api('GET', 'assay-proxy-ca/cert/ca')
  await writeFile(ca.at('renewed.pem'), body.data.certificate)
  const { stdout: named } = await run('openssl', ['x509', '-in', ca.at('renewed.pem'), '-noout', '-ext', 'nameConstraints'])
  expect(named).toMatch(/DNS:added\.test\s+IP:127\.0\.0\.1/)
})

test('the audit log of the proxy holds its chain, and no token', async () => {
  const { token: held } = await sealed()
  await curl(`${base()}/apps/a`, bearer(held))
  await vi.waitFor(async () => expect(await readFile(proxy.auditFile, 'utf8')).toContain(claims(held).jti))
  const text = await readFile(proxy.auditFile, 'utf8')
  expect(text).not.toContain(held.slice(0, 60))
  expect(await assay(['audit', 'verify', proxy.auditFile])).toMatchObject({ code: 0 })
})

test('several workers serve the same, and one that is killed comes back', async () => {
  const { token: held } = await sealed()
  const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
  const port = await freePort()
  await using many = await startProxy(world.vault, { listen, services, workers: 2, metrics: { port } })
  const place = `https://localhost:${many.port}/_/http:127.0.0.1:${plain.port}/apps/a`
  const served = async () => expect(await curl(place, bearer(held))).toBe('fine 200')
  for (const _ of [1, 2, 3, 4]) await served()
  const children = (await readFile(`/proc/${many.server.pid}/task/${many.server.pid}/children`, 'utf8')).trim().split(' ')
  expect(children).toHaveLength(2)
  process.kill(Number(children[0]), 'SIGKILL')
  await many.server.line(/a worker ended: it is started again/)
  for (const _ of [1, 2, 3, 4]) await vi.waitFor(served, { timeout: 20_000, interval: 100 })
  for (const own of [port, port + 1])
    await vi.waitFor(async () => expect((await fetch(`http://127.0.0.1:${own}/readyz`)).status).toBe(200), {
      timeout: 20_000,
      interval: 100,
    })
  for (const number of [1, 2])
    expect(await assay(['audit', 'verify', many.auditFile.replace('.jsonl', `.${number}.jsonl`)])).toMatchObject({ code: 0 })
})

describe('a proxy that is killed', () => {
  const killed = async (audit: object, after: (one: AssayProxy) => Promise<void>) => {
    const { listen, services } = JSON.parse(await readFile(proxy.configFile, 'utf8'))
    const { token: held } = await sealed()
    const file = ca.at(`killed-${Math.random()}.jsonl`)
    await using one = await startProxy(world.vault, { listen, services, audit: { file, ...audit } })
    const place = `https://localhost:${one.port}/_/http:127.0.0.1:${plain.port}/apps/a`
    for (const _ of [1, 2, 3]) expect(await curl(place, bearer(held))).toBe('fine 200')
    await after({ ...one, auditFile: file })
    expect(await curl(place, bearer(held))).toBe('fine 200')
    await one.server.stop('SIGKILL')
    expect(await assay(['audit', 'verify', file])).toMatchObject({ code: 0 })
    return swapsIn(file)
  }
  const swapsIn = async (file: string) => ((await readFile(file, 'utf8')).match(/"operation":"swap"/g) ?? []).length

  test('has on record all that went out, where each record is durable first', async () => {
    expect(await killed({ durable: true }, async () => {})).toBe(4)
  })

  test('else lacks what went out in its last tenth of a second, at most', async () => {
    const settled = (one: AssayProxy) => vi.waitFor(async () => expect(await swapsIn(one.auditFile)).toBe(3))
    expect(await killed({}, settled)).toBeGreaterThanOrEqual(3)
  })
})

test('a configuration is checked by its command, with line and column', async () => {
  expect(await assay(['proxy', 'check', proxy.configFile])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('2 services'),
  })
  const file = ca.at('wrong.yaml')
  await writeFile(file, (await readFile(proxy.configFile, 'utf8')).replace('"hosts"', '"host"'))
  const { code, stderr } = await assay(['proxy', 'check', file])
  expect(code).toBe(1)
  expect(stderr).toMatch(/wrong\.yaml:\d+:\d+ services\.0\.host: there is no such setting/)
  const started = await assay(['proxy', '--dev', '--config', file], { VAULT_TOKEN: world.vault.rootToken })
  expect(started).toMatchObject({ code: 1, stderr })
})

test.each([
  ['without verification of certificates', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, 'not starting without verification'],
  ['without a login', {}, 'vault.approle: wanted'],
])('it does not start %s', async (_, env, sentence) => {
  const { code, stderr } = await assay(['proxy', '--config', proxy.configFile], env)
  expect(code).not.toBe(0)
  expect(stderr).toContain(sentence)
})

test('what the pages have an operator write is taken as it stands', async () => {
  const pages = await Promise.all(
    ['proxy', 'consent'].map(name => readFile(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')),
  )
  const blocks = pages.flatMap(page => page.split(/^```.*\n/m).filter((_, at) => at % 2 === 1))
  const written = blocks.filter(block => block.startsWith('vault write '))
  expect(written.length).toBeGreaterThan(2)
  // what the pages say is there already
  const before = [
    'vault secrets enable ssh',
    'vault write -f ssh/config/ca',
    'vault write -f transit/keys/assay-github-acme type=rsa-2048',
    'vault write broker/integration/gh-acme type=github_app settings=app_id=12,installation_id=34,key=assay-github-acme,ceiling=contents:read',
  ]
  const { data } = await done(world.api('GET', 'broker/config'))
  const named = written.flatMap(block => [...block.matchAll(/ actions=(\S+)/g)].map(([, actions = '']) => actions))
  await done(world.api('POST', 'broker/config', { actions: [...data.actions, ...named].join(',') }))
  const env = { PATH: process.env['PATH'], VAULT_ADDR: world.door.address, VAULT_TOKEN: world.vault.rootToken }
  const folder = await mkdtemp(join(tmpdir(), 'assay-pages-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await symlink(await vaultBinary(), join(folder, 'vault'))
  const script = ['set -e', 'cd "$0"', 'PATH="$0:$PATH"', ...before, ...written].join('\n')
  const { code, stderr } = await run('sh', ['-c', script, folder], { env: { ...env, HOME: folder } })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})

test('a machine that is disabled has nothing left', async () => {
  const { token: held } = await sealed()
  const tpmId = claims(held).assay.agent
  await done(world.api('POST', `auth/tpm-quote/tpm/${tpmId}`, { disabled: true }))
  await vi.waitFor(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"TOKEN_REVOKED"'), {
    timeout: 20_000,
    interval: 200,
  })
})
