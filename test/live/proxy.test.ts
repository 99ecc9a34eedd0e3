import { readFile } from 'node:fs/promises'
import { pipeline, Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as flow from '../../agent/flow.ts'
import { assay } from '../harness/assay.ts'
import { eventually } from '../harness/patience.ts'
import { run } from '../harness/process.ts'
import { bearer, claims, openSealedWorld, type SealedWorld } from './proxy_world.ts'
import { done, logIn } from './world.ts'

// A sealed token, from the quote to the server that knows the real credential alone, and its end.

let opened: SealedWorld
let { world, proxy, ca, agent, plain, secured, token, interceptCa, identity, sealed, curl, base, tunnelled } = {} as SealedWorld

beforeAll(async () => {
  opened = await openSealedWorld(({ url }, outgoing) => {
    if (url === '/down') pipeline(Readable.from(gigabyte()), outgoing, () => {})
    else outgoing.end('fine')
  })
  ;({ world, proxy, ca, agent, plain, secured, token, interceptCa, identity, sealed, curl, base, tunnelled } = opened)
})
afterAll(() => opened?.[Symbol.asyncDispose]())

function* gigabyte(): Generator<Buffer> {
  const megabyte = Buffer.alloc(2 ** 20, 'abc')
  for (let at = 0; at < 1024; at++) yield megabyte
}

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
  expect(await tunnelled(held, interceptCa)).toBe('fine 200')
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
    eventually(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"TOKEN_REVOKED"'))

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
    await eventually(async () => expect(await curl(`${base()}/apps/a`, bearer((await sealed()).token))).toBe('fine 200'))
  })

  test('all of a machine, or all at once, by an operator who has to say which', async () => {
    const { token: held } = await sealed()
    await expect(world.operator(['write', '-f', 'broker/sealing/revoke'])).rejects.toThrow('wanted one of jti, tpm_id and all')
    const misspelt = {
      [`jti=${claims(held).jti.slice(1)}`]: '22 characters',
      [`tpm_id=${world.tpmId.slice(0, -1)}`]: '64 hex digits',
    }
    for (const [word, wanted] of Object.entries(misspelt))
      await expect(world.operator(['write', 'broker/sealing/revoke', word])).rejects.toThrow(wanted)
    await world.operator(['write', 'broker/sealing/revoke', `tpm_id=${world.tpmId}`])
    await ends(held)
    const { token: another } = await sealed()
    expect(await curl(`${base()}/apps/a`, bearer(another))).toBe('fine 200')
    await world.operator(['write', 'broker/sealing/revoke', 'all=true'])
    await ends(another)
  })
})

test('a gigabyte goes up and down without being held', async () => {
  await eventually(async () => expect(await curl(`${base()}/apps/a`, bearer((await sealed()).token))).toBe('fine 200'))
  const { token: held } = await sealed()
  const resident = async () =>
    Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${proxy.server.pid}/status`, 'utf8'))?.[1]) / 1024
  const before = await resident()
  let most = before
  const watch = setInterval(() => void resident().then(now => (most = Math.max(most, now))), 50)
  const place = `https://localhost:${proxy.port}/_/127.0.0.1:${secured.port}`
  const own = `curl -sS --cacert ${ca.ca} --cert ${agent.cert} --key ${agent.key} -H "Authorization: Bearer ${held}"`
  const [up, down] = [`head -c ${2 ** 30} /dev/zero | ${own} -T - ${place}/up`, `${own} ${place}/down | wc -c`]
  const uploaded = await run('sh', ['-c', up], { withinMs: 250_000 })
  const downloaded = await run('sh', ['-c', down], { withinMs: 250_000 })
  clearInterval(watch)
  expect(uploaded.stdout).toBe('fine')
  expect(downloaded.stdout.trim()).toBe(String(2 ** 30))
  expect(most - before).toBeLessThan(200)
})

test('the audit log of the proxy holds its chain, and no token', async () => {
  const { token: held } = await sealed()
  await curl(`${base()}/apps/a`, bearer(held))
  await eventually(async () => expect(await readFile(proxy.auditFile, 'utf8')).toContain(claims(held).jti))
  const text = await readFile(proxy.auditFile, 'utf8')
  expect(text).not.toContain(held.slice(0, 60))
  expect(await assay(['audit', 'verify', proxy.auditFile])).toMatchObject({ code: 0 })
})

test('a machine that is disabled has nothing left', async () => {
  const { token: held } = await sealed()
  const tpmId = claims(held).assay.agent
  await done(world.api('POST', `auth/tpm-quote/tpm/${tpmId}`, { disabled: true }))
  await eventually(async () => expect(await curl(`${base()}/apps/a`, bearer(held))).toContain('"code":"TOKEN_REVOKED"'))
})
