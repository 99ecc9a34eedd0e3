import { createHash, X509Certificate } from 'node:crypto'
import { chmod, lstat, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { decodeProtectedHeader, EmbeddedJWK, jwtVerify } from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { exits } from '../../agent/exits.ts'
import type { FrontDoor } from '../fakes/front_door.ts'
import { freePort } from '../harness/process.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { agent, type Machine, openMachine } from './cli_world.ts'
import { fakeTpm } from './fake_tpm.ts'
import { leftovers } from './tools.ts'

// The commands of the agent, in this process.

let machine: Machine
let door: FrontDoor
let env: Record<string, string>
let files: Machine['files']

beforeAll(async () => {
  machine = await openMachine()
  ;({ door, env, files } = machine)
})
afterAll(() => machine?.[Symbol.asyncDispose]())
afterEach(async () => expect(await leftovers(machine.swtpm)).toEqual([]))

const paths = (from: number) => door.requests.slice(from).map(({ path }) => path)

describe('enroll', () => {
  test('prints the id of the TPM and the Name of the key, as a table, as JSON or one of them', async () => {
    const table = await agent(env, 'enroll', '--intermediate', files.at('issuer.pem'))
    expect(table.out).toMatch(/^Key {8}Value\n--- {8}-----\ntpm_id {5}sha256-[0-9a-f]{64}\nak_name {4}000b[0-9a-f]{64}\n$/)
    const json = await agent(env, 'enroll', '--intermediate', files.at('issuer.pem'), '--json')
    const { tpm_id, ak_name } = JSON.parse(json.out) as Record<string, string>
    expect(table.out).toContain(tpm_id)
    expect(await agent(env, 'enroll', '--intermediate', files.at('issuer.pem'), '--field', 'ak_name')).toEqual({
      code: 0,
      out: `${ak_name}\n`,
      err: '',
    })
  })

  test('without the intermediate is refused', async () => {
    expect(await agent(env, 'enroll')).toMatchObject({
      code: exits.refused.code,
      out: '',
      err: expect.stringContaining('BAD_CHAIN'),
    })
  })

  test('of another kind of endorsement key and attestation key works too', async () => {
    const args = ['enroll', '--ek', 'p-384', '--ak', 'rsapss-2048', '--intermediate', files.at('issuer.pem')]
    expect(await agent(env, ...args)).toMatchObject({ code: 0, err: '' })
    expect(await agent(env, 'login', '--role', 'r', '--ek', 'p-384', '--ak', 'rsapss-2048')).toMatchObject({ code: 0, err: '' })
  })
})

test.each([['login', '--role', 'web'], ['creds', 'role', '--role', 'web'], ['enroll']])(
  '%s does not go on where nothing is verified',
  async (...words) => {
    const before = door.requests.length
    const ran = await agent({ ...env, NODE_TLS_REJECT_UNAUTHORIZED: '0' }, ...words)
    expect(ran).toMatchObject({
      code: exits.usage.code,
      out: '',
      err: expect.stringContaining('not going on without verification'),
    })
    expect(paths(before)).toEqual([])
  },
)

describe('login', () => {
  test('prints what Vault replied, as its own command line does', async () => {
    const { code, out, err } = await agent(env, 'login', '--role', 'web')
    expect([code, err]).toEqual([0, ''])
    expect(out).toMatch(
      /^Key {18}Value\n--- {18}-----\ntoken {16}hvs\.\S+\ntoken_accessor {7}accessor-1\ntoken_duration {7}1h30m\n/,
    )
    expect(out).toContain('\ntoken_policies       ["default" "agent"]\n')
    expect(out).toContain('\ntoken_meta_role      web\n')
  })

  test('gives the reply unchanged with --json, and the token alone with --field', async () => {
    const { out } = await agent(env, 'login', '--role', 'web', '--json')
    const { auth } = JSON.parse(out) as { auth: { client_token: string } }
    expect(door.tokens.has(auth.client_token)).toBe(true)
    expect((await agent(env, 'login', '--role', 'web', '--field', 'token')).out).toMatch(/^hvs\.\S+\n$/)
  })

  test('writes the token to a private file, and then to nothing else', async () => {
    const { code, out, err } = await agent(env, 'login', '--role', 'web', '--token-file', files.at('token'))
    expect([code, err]).toEqual([0, ''])
    const token = (await readFile(files.at('token'), 'utf8')).trim()
    expect(door.tokens.has(token)).toBe(true)
    expect((await stat(files.at('token'))).mode & 0o777).toBe(0o600)
    expect(out).not.toContain(token)
    expect((await agent(env, 'login', '--role', 'web', '--token-file', files.at('token'), '--json')).out).not.toContain('hvs.')
  })

  test('binds the key of the TPM unless told not to', async () => {
    await agent(env, 'login', '--role', 'web', '--audience', 'them')
    expect(door.requests.at(-1)?.body).toMatchObject({ audience: 'them', key_thumbprint: expect.stringMatching(/^[\w-]{43}$/) })
    expect((await agent(env, 'login', '--role', 'web', '--no-bind')).code).toBe(0)
    expect(door.requests.at(-1)?.body).not.toHaveProperty('key_thumbprint')
  })

  test('goes to the mount that is named', async () => {
    const from = door.requests.length
    await agent(env, 'login', '--role', 'web', '--mount', '/teams/tpm/')
    expect(paths(from)).toEqual(['auth/teams/tpm/challenge'])
  })
})

describe('pcrs', () => {
  test('prints reference values of the PCRs that are named, else of 0 to 7', async () => {
    const two = await agent(env, 'pcrs', '--pcr', '0', '--pcr', '16')
    const zero = '0'.repeat(64)
    expect(JSON.parse(two.out)).toEqual({ pcrs: { sha256: { 0: zero, 16: zero } } })
    const { pcrs } = JSON.parse((await agent(env, 'pcrs')).out) as { pcrs: { sha256: object } }
    expect(Object.keys(pcrs.sha256)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  })
})

describe('creds', () => {
  const ask = ['--role', 'web', '--plugin', 'ci', '--action', 'deploy', '--scope', 'a', '--scope', 'b']

  test('logs in when there is no token', async () => {
    const from = door.requests.length
    const { code, out, err } = await agent(env, 'creds', 'plain', ...ask, '--ttl', '5m', '--audience', 'api')
    expect([code, err]).toEqual([0, ''])
    expect(out).toMatch(/^token +credential-\S+$/m)
    expect(paths(from)).toEqual(['auth/tpm-quote/challenge', 'auth/tpm-quote/login', 'broker/creds/plain'])
    expect(door.requests.at(-1)?.body).toEqual({ plugin: 'ci', action: 'deploy', scope: ['a', 'b'], audience: 'api', ttl: '5m' })
  })

  test('takes a token from the environment or a private file, and then needs no TPM', async () => {
    const { out } = await agent(env, 'login', '--role', 'web', '--field', 'token')
    const without = { ASSAY_ADDR: door.url, ASSAY_TPM: 'unix:/nowhere' }
    const { code } = await agent({ ...without, VAULT_TOKEN: out.trim() }, 'creds', 'plain')
    expect(code).toBe(0)
    await writeFile(files.at('private'), out, { mode: 0o600 })
    expect(
      (await agent({ ...without, VAULT_TOKEN: 'another' }, 'creds', 'plain', '--token-file', files.at('private'))).code,
    ).toBe(0)
    await chmod(files.at('private'), 0o640)
    expect(await agent(without, 'creds', 'plain', '--token-file', files.at('private'))).toMatchObject({
      code: exits.file.code,
      err: expect.stringContaining('chmod 600'),
    })
  })

  test('comes in a certificate behind that of its key, where it is asked for so', async () => {
    const { out } = await agent(env, 'login', '--role', 'web', '--field', 'token')
    const token = { ASSAY_ADDR: door.url, ASSAY_TPM: 'unix:/nowhere', VAULT_TOKEN: out.trim() }
    await writeFile(files.at('own.pem'), (await newAuthority('agents')).ca)
    const certificates = (pem: string) => pem.split(/(?<=-----END CERTIFICATE-----\n)/).map(one => new X509Certificate(one))
    const [own, carrier, ...others] = certificates(
      (await agent(token, 'creds', 'plain', '--chain', '--key-certificate', files.at('own.pem'))).out,
    )
    expect(own?.raw).toEqual(new X509Certificate(await readFile(files.at('own.pem'))).raw)
    expect(carrier?.subjectAltName).toMatch(/^URI:assay-token:credential-\d+-[\w-]+$/)
    expect([carrier?.subject, others]).toEqual([own?.issuer, []])
    expect(carrier && own?.checkIssued(carrier)).toBe(true)
    expect(await agent(token, 'creds', 'plain', '--chain')).toMatchObject({
      code: exits.usage.code,
      out: '',
      err: expect.stringContaining('wanted --key-certificate with --chain'),
    })
  })

  test('answers with a quote when the role wants one, and with --attest at once', async () => {
    const from = door.requests.length
    const strict = await agent(env, 'creds', 'strict', ...ask)
    expect(strict).toMatchObject({ code: 0, err: '' })
    expect(paths(from).slice(2)).toEqual(['broker/creds/strict', 'auth/tpm-quote/challenge', 'broker/creds/strict'])
    expect(strict.out).toMatch(/^quoted +true$/m)
    const again = door.requests.length
    expect((await agent(env, 'creds', 'strict', ...ask, '--attest', '--audience', 'api')).code).toBe(0)
    expect(paths(again).slice(2)).toEqual(['auth/tpm-quote/challenge', 'broker/creds/strict'])
    expect(door.requests.at(-2)?.body).toMatchObject({
      operation: 'creds',
      mount: 'broker/',
      creds_role: 'strict',
      role: 'web',
      audience: 'api',
    })
  })

  test('is printed alone as it is, lines and all, but for what a terminal obeys', async () => {
    const at = { ...env, VAULT_TOKEN: 'hvs.x' }
    const data = { private_key: '-----BEGIN-----\nAA\u00ad\n-----END-----\n', odd: 'a\u001b[31m\u009bb', expires_in: 60 }
    const field = async (name: string) => {
      door.faults.push({ status: 200, body: { data } })
      return (await agent(at, 'creds', 'plain', '--field', name)).out
    }
    expect(await field('private_key')).toBe(`${data.private_key}\n`)
    expect(await field('odd')).toBe('a [31m b\n')
  })

  test('is had by the consent of a person, with a quote as without one', async () => {
    const challenge = { challenge: 'x', nonce: 'eA==', pcrs: { sha256: [0] } }
    const invitation = { url: 'https://door.test/consent', user_code: 'ABCD', handle: 'h', expires_in: 30, interval: 0.001 }
    const refusal = { status: 403, body: { errors: ['CONSENT_REQUIRED: no person consented to this'] } }
    const given = (data: object) => ({ status: 200, body: { data } })
    const consent = [refusal, given(invitation), given({ status: 'pending' }), given({ token: 'sealed', expires_in: 60 })]
    const at = { ...env, VAULT_TOKEN: 'hvs.x' }
    const said = 'assay agent: somebody has to consent: open https://door.test/consent and see that it shows the code ABCD\n'
    for (const [quote, attest] of [[[], []] as const, [[given(challenge)], ['--attest']] as const]) {
      door.faults.push(...quote, ...consent)
      const { code, out, err } = await agent(at, 'creds', 'plain', ...ask, ...attest, '--field', 'token')
      expect({ attest, code, out, err }).toEqual({ attest, code: 0, out: 'sealed\n', err: said })
    }
  })

  test('that wants a quote needs the role to be attested with', async () => {
    const { out } = await agent(env, 'login', '--role', 'web', '--field', 'token')
    const token = { ...env, VAULT_TOKEN: out.trim() }
    expect(await agent(token, 'creds', 'strict')).toMatchObject({
      code: exits.usage.code,
      err: expect.stringContaining('--role'),
    })
    expect((await agent(token, 'creds', 'strict', '--role', 'web')).code).toBe(0)
  })
})

describe('dpop', () => {
  test.each(['nowhere', 'file:///etc/passwd', 'https:'])('says nothing of %s, which no request goes to', async url => {
    expect(await agent(env, 'dpop', 'GET', url)).toEqual({
      code: 1,
      out: '',
      err: `assay agent: wanted the address of a request, got '${url}'\n`,
    })
  })

  test('proves possession of the bound key, for a credential', async () => {
    await writeFile(files.at('credential'), 'the-credential', { mode: 0o600 })
    const { out, code } = await agent(
      { ...env, ASSAY_CREDENTIAL_FILE: files.at('credential') },
      'dpop',
      'GET',
      'https://api.example/x?y',
    )
    expect(code).toBe(0)
    const { payload } = await jwtVerify(out.trim(), EmbeddedJWK, { typ: 'dpop+jwt' })
    const ath = createHash('sha256').update('the-credential').digest('base64url')
    expect(payload).toMatchObject({ htm: 'GET', htu: 'https://api.example/x', ath })
    expect(decodeProtectedHeader(out.trim())).toMatchObject({ jwk: { crv: 'P-256' } })
  })
})

describe('exit codes', () => {
  test('2: the service refused', async () => {
    door.faults.push({ status: 403, body: { errors: ['the evidence was refused'] } })
    expect(await agent(env, 'login', '--role', 'web')).toEqual({
      code: 2,
      out: '',
      err: 'assay agent: the service refused (403): the evidence was refused\n',
    })
  })

  test('3: the service is not there, not ready, or something else', async () => {
    expect(await agent({ ...env, ASSAY_ADDR: `http://127.0.0.1:${await freePort()}` }, 'login', '--role', 'web')).toMatchObject({
      code: 3,
      out: '',
    })
    door.faults.push({ status: 503, body: { errors: ['Vault is sealed'] } })
    expect(await agent(env, 'login', '--role', 'web')).toMatchObject({ code: 3, err: expect.stringContaining('Vault is sealed') })
    for (const data of [
      {},
      { challenge: 'x', nonce: 'eA==', pcrs: { sha256: [24] } },
      { challenge: 'x', nonce: 'eA==', pcrs: { md5: [1] } },
    ]) {
      door.faults.push({ status: 200, body: { data } })
      expect(await agent(env, 'login', '--role', 'web')).toMatchObject({ code: 3, err: expect.stringContaining("lacks '") })
    }
  })

  test('4: the TPM is not there, does not answer, or refuses', async () => {
    expect(await agent({ ...env, ASSAY_TPM: 'unix:/nowhere' }, 'login', '--role', 'web')).toMatchObject({ code: 4, out: '' })
    await using hung = await fakeTpm(() => 'silence')
    const late = await agent({ ...env, ASSAY_TPM: hung.spec }, 'login', '--role', 'web', '--deadline', '0.2')
    expect(late).toMatchObject({ code: 4, err: expect.stringContaining('within 200 ms') })
    expect(await agent(env, 'enroll', '--ek', 'p-256')).toMatchObject({ code: 4, err: expect.stringContaining('certificate') })
  })

  test('0: a variable that is empty is not there, and a deadline may be any fraction', async () => {
    const [{ ASSAY_ADDR: address = '' }, empty] = [env, { ...env, ASSAY_ADDR: '', VAULT_CACERT: '' }]
    expect(await agent({ ...empty, VAULT_ADDR: address }, 'login', '--role', 'web')).toMatchObject({ code: 0, err: '' })
    expect(await agent({ ...empty, ASSAY_TPM: '', VAULT_ADDR: '' }, 'pcrs')).toMatchObject({
      code: 4,
      err: expect.stringContaining('/dev/tpmrm0'),
    })
    for (const seconds of ['16.1', '2.0123456']) {
      const { code, err } = await agent(env, 'login', '--role', 'web', '--deadline', seconds)
      expect({ seconds, code, err }).toEqual({ seconds, code: 0, err: '' })
    }
  })

  test('1: the command line is not understood', async () => {
    expect(await agent({ ...env, ASSAY_TPM: 'nonsense' }, 'login', '--role', 'web')).toMatchObject({ code: 1 })
    expect(await agent({ ...env, ASSAY_ADDR: 'nonsense' }, 'login', '--role', 'web')).toMatchObject({ code: 1 })
    expect(await agent(env, 'login', '--role', 'web', '--field', 'nothing')).toMatchObject({ code: 1, out: '' })
  })

  test('6: a file is not there or cannot be written', async () => {
    expect(await agent(env, 'login', '--role', 'web', '--ca-file', '/nowhere')).toMatchObject({ code: 6 })
    expect(await agent(env, 'login', '--role', 'web', '--token-file', '/nowhere/token')).toMatchObject({ code: 6, out: '' })
    await symlink('/dev/null', files.at('link'))
    for (const special of [files.at('link'), files.at('.')]) {
      const { code, err } = await agent(env, 'evidence', '--role', 'web', '--out', special)
      expect([code, err]).toEqual([6, expect.stringContaining('is no regular file')])
    }
    expect((await lstat(files.at('link'))).isSymbolicLink()).toBe(true)
    expect(await agent(env, 'enroll', '--intermediate', import.meta.filename)).toMatchObject({
      code: 6,
      err: expect.stringContaining('no certificate'),
    })
  })
})
