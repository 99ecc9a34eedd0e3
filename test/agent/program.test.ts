import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { exits } from '../../agent/exits.ts'
import type { FrontDoor } from '../fakes/front_door.ts'
import { run, start, until } from '../harness/process.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { type Machine, openMachine } from './cli_world.ts'
import { fakeTpm } from './fake_tpm.ts'
import { leftovers } from './tools.ts'

// `assay agent` as a process: its help, what it makes of its surroundings, and the command that it runs.

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

const program = join(import.meta.dirname, '../../scripts/assay.js')
const assay = (args: readonly string[], more: Record<string, string> = {}) =>
  run(process.execPath, [program, 'agent', ...args], { env: { PATH: process.env['PATH'], ...more } })

test.each([[], ['enroll'], ['login'], ['creds'], ['exec'], ['dpop']])('%s has help, with the exit codes', async (...words) => {
  const { code, stdout } = await assay([...words, '--help'])
  expect(code).toBe(0)
  for (const { code: exit, when } of Object.values(exits)) expect(stdout).toContain(`  ${String(exit).padEnd(4)}${when}\n`)
})

test.each([
  [['login']],
  [['login', '--role', 'x', '--ek', 'rsa-1024']],
  [['login', '--role', 'x', '--deadline', '0']],
  [['login', '--role', 'x', '--mount', 'a/../b']],
  [['creds']],
  [['creds', 'r', '--ttl', 'soon']],
  [['creds', 'r', '--json', '--field', 'token']],
  [['creds', 'r', '--json', '--chain']],
  [['exec', 'r']],
  [['exec', 'r', '--chain', '--proxy', 'https://x', '--', 'true']],
  [['exec', 'r', '--postgres', '5432', '--', 'true']],
  [['exec', 'r', '--base-url', 'API_BASE=api.test/v1', '--', 'true']],
  [['exec', 'r', '--proxy', 'http://x', '--', 'true']],
  [['exec', 'r', '--fd', '2', '--', 'true']],
  [['exec', 'r', '--env', 'a b', '--', 'true']],
  [['exec', 'r', '--env', 'A', '--fd', '4', '--', 'true']],
  [['pcrs', '--pcr', '24']],
  [['nonsense']],
])('%j is a usage error: 1, and nothing on stdout', async args => {
  expect(await assay(args)).toMatchObject({ code: exits.usage.code, stdout: '' })
})

test('ends with 4 in time when the TPM behind libtss2 hangs', async () => {
  await using data = await fakeTpm(() => 'silence', files.at('hung'))
  await using _ = await fakeTpm(() => Buffer.alloc(4), files.at('hung.ctrl'))
  const tpm = `tcti:swtpm:path=${files.at('hung')}`
  expect(data.spec).toContain('hung')
  const { code, stderr } = await assay(['login', '--role', 'x', '--address', door.url, '--tpm', tpm, '--deadline', '0.5'])
  expect([code, stderr]).toEqual([4, expect.stringContaining('did not answer within 500 ms')])
})

test('says what is missing when koffi or libtss2 is', async () => {
  const hook = (source: string) => `data:text/javascript,${encodeURIComponent(source)}`
  const block = (body: string) =>
    hook(
      `import { registerHooks } from 'node:module'; registerHooks({ resolve(name, context, next) { ${body} return next(name, context) } })`,
    )
  const absent = block(`if (name === 'koffi') throw new Error('not installed');`)
  const empty = hook(`export const load = () => { throw new Error('cannot open shared object file') }`)
  const broken = block(`if (name === 'koffi') return { url: ${JSON.stringify(empty)}, shortCircuit: true };`)
  const said = async (url: string) => {
    const args = ['login', '--role', 'x', '--address', door.url, '--tpm', 'tcti:device:/dev/tpm0']
    const { code, stderr } = await assay(args, { NODE_OPTIONS: `--import=${url}` })
    return [code, stderr]
  }
  expect(await said(absent)).toEqual([4, expect.stringContaining('needs the package koffi')])
  expect(await said(broken)).toEqual([4, expect.stringContaining('needs libtss2-tctildr.so.0')])
})

test('6: a result that cannot be written is no success, and the TPM is left as it was', async () => {
  const words = [program, 'agent']
  for (const command of [['pcrs'], ['login', '--role', 'web', '--json'], ['evidence', '--role', 'web']]) {
    const script = 'exec "$@" >/dev/full'
    const { code, stderr } = await run('sh', ['-c', script, 'sh', process.execPath, ...words, ...command], {
      env: { PATH: process.env['PATH'], ...env },
    })
    expect({ command, code, stderr }).toEqual({
      command,
      code: 6,
      stderr: 'assay agent: the result could not be written (ENOSPC)\n',
    })
  }
})

test('who does not take messages goes without them', async () => {
  const words = [program, 'agent', 'login', '--role', 'web', '--token-file', '/nowhere/token']
  const { code } = await run('sh', ['-c', 'exec "$@" 2>/dev/full', 'sh', process.execPath, ...words], {
    env: { PATH: process.env['PATH'], ...env },
  })
  expect(code).toBe(6)
})

test('runs a command with a credential and ends as it does', async () => {
  const more = { ...env, VAULT_TOKEN: '' }
  const script = 'cat <&3; test -n "$ASSAY_CREDENTIAL_FILE" && exit 42'
  expect(await assay(['exec', 'plain', '--role', 'web', '--', 'sh', '-c', script], more)).toMatchObject({
    code: 42,
    stdout: expect.stringMatching(/^credential-\d+-[\w-]+$/),
    stderr: '',
  })
})

test('runs a command with a certificate that carries the credential', async () => {
  await writeFile(files.at('own.pem'), (await newAuthority('agents')).ca)
  const words = ['exec', 'plain', '--role', 'web', '--chain', '--key-certificate', files.at('own.pem'), '--no-bind']
  const script = 'openssl crl2pkcs7 -nocrl -certfile "$ASSAY_CREDENTIAL_FILE" | openssl pkcs7 -print_certs -text -noout'
  const { stdout } = await assay([...words, '--', 'sh', '-c', script], { ...env, VAULT_TOKEN: '' })
  expect(stdout).toMatch(/URI:assay-token:credential-/)
})

test.each(['', '</dev/null'])('at a terminal the command gets what is typed once, whatever it reads from: %j', async from => {
  const out = files.at(`typed-${from.length}`)
  // what is handed on comes in the order in which it was sent: a second interrupt would be heard before the end
  await writeFile(
    `${out}.py`,
    `
import os, signal, time
def heard(word, then):
  open('${out}', 'a').write(word)
  then and os.kill(os.getppid(), then)
signal.signal(signal.SIGINT, lambda *_: heard('int ', signal.SIGUSR2))
signal.signal(signal.SIGUSR2, lambda *_: heard('', signal.SIGTERM))
signal.signal(signal.SIGTERM, lambda *_: (heard('term', None), os._exit(0)))
open('${out}.ready', 'w')
while True: time.sleep(0.05)`,
  )
  const words = [process.execPath, program, 'agent', 'exec', 'plain', '--role', 'web', '--']
  const typing = `(until [ -e ${out}.ready ]; do sleep 0.01; done; printf '\\003'; until grep -q term ${out}; do sleep 0.01; done)`
  const typed = `${typing} | script --quiet --return --command 'exec ${words.join(' ')} python3 ${out}.py ${from}' /dev/null`
  const { code } = await run('bash', ['-c', typed], { env: { PATH: process.env['PATH'], ...env } })
  expect(code).toBe(0)
  expect(await readFile(out, 'utf8')).toBe('int term')
})

test.each(['credential', 'sign of life'])('does not outlast the command for a %s that does not come', async what => {
  const beats = what === 'sign of life' ? { beat_within: 1, expires_in: 900 } : { expires_in: 1 }
  const from = door.requests.length
  door.faults.push({ status: 200, body: { data: { token: 'first', ...beats } } }, 'hang')
  const go = files.at(`go-${what.length}`)
  const words = ['exec', 'plain', '--deadline', '600', '--', 'sh', '-c', `until [ -e ${go} ]; do sleep 0.01; done; exit 9`]
  const ended = assay(words, { ...env, VAULT_TOKEN: 'held' })
  await until('it to ask again', async () => door.requests.length === from + 2)
  await writeFile(go, '')
  expect(await ended).toMatchObject({ code: 9, stderr: '' })
})

test('hands signals on to the command', async () => {
  const script = 'sleep 60 & trap "kill $!; echo got it; exit 7" TERM; echo ready; wait'
  const args = [program, 'agent', 'exec', 'plain', '--role', 'web', '--', 'sh', '-c', script]
  await using running = await start(process.execPath, args, { env: { PATH: process.env['PATH'], ...env } })
  await running.line(/^ready$/)
  expect(await running.stop('SIGTERM')).toMatchObject({ code: 7 })
  expect(running.output()).toBe('ready\ngot it\n')
})
