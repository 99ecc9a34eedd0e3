import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as jose from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { link } from '../../engine/audit/chain.ts'
import { systemMembers } from '../../engine/audit/record.ts'
import { assay } from '../harness/assay.ts'
import { freePort, type Ran } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { configureAuth, configureBroker, done, MEASURED, machine, measure, openWorld, type World } from './world.ts'

// What a script relies on: exit codes, standard output, and that messages are sentences.

let world: World
let tpm: Swtpm
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-cli-'))
  world = await openWorld({ tpms: [{}] })
  tpm = world.tpms[0] as Swtpm
  await measure(tpm, MEASURED, 'good firmware')
  const attester = await machine(tpm)
  await configureAuth(world, tpm, attester)
  await attester.close()
  await configureBroker(world)
  await writeFile(at('issuer.pem'), tpm.issuerPem)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const at = (name: string) => join(folder, name)
const agent = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  assay(['agent', ...args.slice(0, 1), '--deadline', '100', ...args.slice(1)], {
    VAULT_ADDR: world.door.address,
    ASSAY_TPM: tpm.spec,
    ...env,
  })
const ask = ['deploy', '--role', 'builder', '--plugin', 'kubernetes', '--action', 'deploy', '--scope', 'apps:read']

function failed({ code, stdout, stderr }: Ran, exit: number, words: RegExp): void {
  expect({ code, stdout, stderr }).toEqual({ code: exit, stdout: '', stderr: expect.stringMatching(words) as string })
  expect(stderr).not.toMatch(/\n\s+at /)
}

test('every command has --help, which exits 0 and says what the command does', async () => {
  const found: string[] = []
  const helped = async (words: readonly string[]): Promise<void> => {
    found.push(words.join(' '))
    const { code, stdout, stderr } = await assay([...words, '--help'])
    const usage = expect.stringMatching(new RegExp(`^Usage: ${['assay', ...words].join(' ')} `)) as string
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: usage, stderr: '' })
    const [, listed = ''] = stdout.split('\nCommands:\n')
    const below = [...(listed.split('\n\n')[0]?.matchAll(/^ {2}([a-z]+)/gm) ?? [])].map(([, name = '']) => name)
    for (const name of below) if (name !== 'help') await helped([...words, name])
  }
  await helped([])
  expect(found).toEqual(expect.arrayContaining(['server', 'audit verify', 'agent enroll', 'agent exec', 'proxy', 'issuers']))
  expect(await assay(['--version'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) as string })
  expect((await assay(['nothing'])).code).not.toBe(0)
})

describe('assay agent', () => {
  test('login before the enrolment: refused, with where the reason is', async () => {
    failed(
      await agent(['login', '--role', 'builder']),
      2,
      /^assay agent: the service refused \(403\): the evidence was refused; correlation id [0-9a-f-]{36}, under which the audit log of the service has the reason\n$/,
    )
  })

  test('enroll: a table for people, JSON for scripts, one value for shells', async () => {
    const enroll = ['enroll', '--intermediate', at('issuer.pem')]
    failed(await agent(['enroll']), 2, /the evidence was refused/)
    expect(await agent(enroll)).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringMatching(/^Key +Value\n.*\ntpm_id +sha256-[0-9a-f]{64}\nak_name +[0-9a-f]{68}\n$/) as string,
    })
    const { tpm_id } = JSON.parse((await agent([...enroll, '--json'])).stdout) as { tpm_id: string }
    expect((await agent([...enroll, '--field', 'tpm_id'])).stdout).toBe(`${tpm_id}\n`)
  })

  test('login: prints the token, or puts it into a private file', async () => {
    const printed = await agent(['login', '--role', 'builder'])
    expect(printed).toMatchObject({ code: 0, stdout: expect.stringMatching(/^token +hvs\.\S+$/m) as string })
    const filed = await agent(['login', '--role', 'builder', '--token-file', at('token')])
    expect(filed).toMatchObject({ code: 0, stdout: expect.not.stringContaining('hvs.') as string })
    expect((await stat(at('token'))).mode & 0o777).toBe(0o600)
    expect((await readFile(at('token'), 'utf8')).trim()).toMatch(/^hvs\./)
    expect((await agent(['login', '--role', 'builder', '--field', 'token_policies'])).stdout).toContain('builder')
  })

  test('creds: with a token at hand, in a file, or by logging in', async () => {
    const tokens = await Promise.all(
      [
        agent(['creds', ...ask, '--token-file', at('token'), '--field', 'token']),
        agent(['creds', ...ask, '--field', 'token'], { VAULT_TOKEN: (await readFile(at('token'), 'utf8')).trim() }),
      ].map(async ran => (await ran).stdout.trim()),
    )
    const json = JSON.parse((await agent(['creds', ...ask, '--ttl', '1m', '--json'])).stdout) as {
      data: { token: string; expires_in: number }
    }
    for (const token of [...tokens, json.data.token]) expect(jose.decodeJwt(token).sub).toBe('kubernetes')
    expect(json.data.expires_in).toBe(60)
  })

  test('creds: a role that wants a quote gets one, unasked', async () => {
    await done(
      world.api('POST', 'broker/role/fresh', {
        plugins: 'kubernetes',
        actions: 'deploy',
        audiences: 'a',
        attestation: 'request',
      }),
    )
    const ran = await agent(['creds', 'fresh', '--role', 'builder', '--token-file', at('token'), '--field', 'token_type'])
    expect(ran).toMatchObject({ code: 0, stdout: 'DPoP\n' })
  })

  test('exec: the credential by descriptor, file or environment, and the exit code of the command', async () => {
    const script = (code: string) => ['exec', ...ask, '--token-file', at('token')].concat(['--', 'sh', '-c', code])
    const [fd, file, exit] = await Promise.all([
      agent(script('cat <&3; test -z "$VAULT_TOKEN"')),
      agent(script('cat "$ASSAY_CREDENTIAL_FILE"; stat -c " %a" "$ASSAY_CREDENTIAL_FILE"')),
      agent(script('exit 7')),
    ])
    expect(jose.decodeJwt(fd.stdout.trim()).sub).toBe('kubernetes')
    expect(file.stdout).toMatch(/^eyJ\S+ 600\n$/)
    expect([fd.code, file.code, exit.code]).toEqual([0, 0, 7])
    const env = await agent(['exec', ...ask, '--token-file', at('token'), '--env', 'DEPLOY', '--', 'printenv', 'DEPLOY'])
    expect(jose.decodeJwt(env.stdout.trim())['scope']).toBe('apps:read')
  })

  test('what is not possible ends with its own exit code and a sentence', async () => {
    const nobody = await freePort()
    await writeFile(at('open'), 'hvs.x', { mode: 0o644 })
    const [scope, usage, away, noTpm, child, loose] = await Promise.all([
      agent(['creds', 'deploy', '--plugin', 'kubernetes', '--scope', 'apps:admin', '--token-file', at('token')]),
      agent(['creds', 'deploy']),
      agent(['creds', ...ask, '--token-file', at('token')], { VAULT_ADDR: `http://127.0.0.1:${nobody}` }),
      agent(['login', '--role', 'builder'], { ASSAY_TPM: 'unix:/nowhere' }),
      agent(['exec', ...ask, '--token-file', at('token'), '--', '/nowhere/command']),
      agent(['creds', ...ask, '--token-file', at('open')]),
    ])
    failed(scope, 2, /SCOPE: the scope is above the ceiling of the role/)
    failed(usage, 1, /wanted --role/)
    failed(away, 3, /could not be reached \(ECONNREFUSED\)/)
    failed(noTpm, 4, /nowhere/)
    failed(child, 5, /could not start \/nowhere\/command/)
    failed(loose, 6, /others may read .*open; make it private/)
  })

  test('a token that the service does not know is not shown in the refusal', async () => {
    const ran = await agent(['creds', ...ask], { VAULT_TOKEN: 'hvs.CAESIOOOOPS' })
    failed(ran, 2, /permission denied/)
    expect(ran.stderr).not.toContain('CAESIOOOOPS')
  })
})

describe('assay audit verify', () => {
  const verify = (...args: string[]) => assay(['audit', 'verify', ...args])

  test('a log that is whole', async () => {
    expect(await verify(world.door.auditFile)).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringMatching(/^the chain holds: \d+ records/) as string,
    })
    expect(JSON.parse((await verify('--json', world.door.auditFile)).stdout)).toMatchObject({ ok: true })
  })

  test('one in which a word was changed, a record taken out, the end cut off', async () => {
    const lines = (await readFile(world.door.auditFile, 'utf8')).split('\n').slice(0, -1)
    const variant = async (name: string, changed: readonly string[]) => {
      await writeFile(at(name), changed.map(line => `${line}\n`).join(''))
      return verify(at(name))
    }
    const [edited, missing] = await Promise.all([
      variant(
        'edited',
        lines.map((line, index) => (index === 4 ? line.replace('"txn":"', '"txn":"x') : line)),
      ),
      variant('missing', lines.toSpliced(4, 1)),
    ])
    expect(edited).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/broken in .*edited at line 5, where record 4 was expected: .*\(EDITED\)/) as string,
    })
    expect(missing).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/line 5, where record 4 was expected: .*\(MISSING\)/) as string,
    })
    await copyFile(world.door.auditFile, at('torn'))
    await writeFile(at('torn'), (await readFile(at('torn'))).subarray(0, -5))
    expect(await verify(at('torn'))).toMatchObject({ code: 1, stdout: expect.stringContaining('(TORN)') as string })
  })

  test('one in several files, in whatever order they are named', async () => {
    const [first = ''] = (await readFile(world.door.auditFile, 'utf8')).split('\n')
    const { index, hash } = JSON.parse(first) as { index: number; hash: string }
    const { line } = link({ index, hash }, systemMembers('file-opened', 0, { why: 'rotated' }))
    await Promise.all([writeFile(at('log'), line), writeFile(at('log-1'), `${first}\n`)])
    expect(await verify(at('log'), at('log-1'))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('2 records') as string,
    })
    await writeFile(at('log'), line.replace('rotated', 'rotten!'))
    const { stdout } = await verify('--json', at('log'), at('log-1'))
    expect(JSON.parse(stdout)).toEqual({ ok: false, reason: 'EDITED', at: { file: 0, line: 1, index: 1 } })
  })

  test('one that is not there: a sentence', async () => {
    failed(await verify(at('nowhere')), 3, /^assay: the log cannot be read: ENOENT\n$/)
  })
})
