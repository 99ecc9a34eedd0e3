import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { issuers, rotators, stores } from '#engine'
import manifest from '../../package.json' with { type: 'json' }
import { type Ran, run } from '../harness/process.ts'

const wrapper = join(import.meta.dirname, '../../scripts/assay')
const commands = ['agent', 'proxy', 'server', 'setup', 'audit', 'issuers', 'rotators', 'stores', 'completion']

const folder = await mkdtemp(join(tmpdir(), 'assay-cli-'))
afterAll(() => rm(folder, { recursive: true }))

/** Runs the wrapper as a user would who has it on PATH: through two links, from another folder, with the system's own Node. */
async function assay(...args: string[]): Promise<Ran> {
  const env = { PATH: `${folder}:/usr/local/bin:/usr/bin:/bin`, HOME: folder }
  return run('assay', args, { cwd: folder, env })
}

describe('assay', () => {
  beforeAll(async () => {
    await symlink(wrapper, join(folder, 'linked'))
    await symlink('linked', join(folder, 'assay'))
  })
  test('--version', async () => {
    expect(await assay('--version')).toMatchObject({ code: 0, stdout: `${manifest.version}\n`, stderr: '' })
  })
  test('--help lists every command', async () => {
    const { code, stdout } = await assay('--help')
    expect(code).toBe(0)
    expect(commandsIn(stdout)).toEqual(commands)
  })
  test('without a command: the help, as an error', async () => {
    const { code, stderr } = await assay()
    expect(code).toBe(1)
    expect(commandsIn(stderr)).toEqual(commands)
  })
  test('an unknown command is an error', async () => {
    const { code, stderr } = await assay('constructor')
    expect(code).not.toBe(0)
    expect(stderr).toContain('unknown command')
  })
  test.each(commands)('%s: it and each of its commands have help', async command => {
    const asked = await helpOf([command])
    expect(asked.length).toBeGreaterThan(0)
    for (const { path, code, stdout } of asked)
      expect({ path, code, usage: stdout.split('\n')[0] }).toMatchObject({ code: 0, usage: expect.stringContaining(path) })
  })
})

describe('what was compiled is kept, and run again as it is,', () => {
  const kept = async (name: string, mode: number) => {
    const home = join(folder, name)
    await mkdir(join(home, '.cache'), { recursive: true })
    await chmod(join(home, '.cache'), mode)
    const env = { PATH: `${folder}:/usr/local/bin:/usr/bin:/bin`, HOME: home }
    expect(await run('assay', ['--version'], { cwd: folder, env })).toMatchObject({ code: 0, stderr: '' })
    return readdir(join(home, '.cache/assay/node')).catch(() => [])
  }

  test('in a folder of who runs it', async () => expect(await kept('own', 0o700)).toHaveLength(1))
  test('in no folder that others could put another in the place of', async () => expect(await kept('shared', 0o777)).toEqual([]))
})

const registries: Readonly<Record<string, Readonly<Record<string, { readonly summary: string }>>>> = { issuers, rotators, stores }
describe.each(Object.entries(registries))('%s', (name, registry) => {
  test('--json lists what is registered, from the registry itself', async () => {
    const { code, stdout, stderr } = await assay(name, '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const rows = JSON.parse(stdout) as readonly { name: string; summary: string; role?: readonly { name: string }[] }[]
    expect(rows.map(row => [row.name, row.summary])).toEqual(Object.entries(registry).map(([row, { summary }]) => [row, summary]))
  })
  test('lists them for people, one on a line', async () => {
    const lines = (await assay(name)).stdout.trimEnd().split('\n')
    expect(lines.map(line => line.split(/ +/)[0])).toEqual(Object.keys(registry))
  })
})

test('issuers --json has the fields of roles, the settings and the secrets of each issuer', async () => {
  type Listed = { readonly name: string } & Readonly<
    Record<'role' | 'settings' | 'secrets', readonly { name: string }[] | undefined>
  >
  const rows = JSON.parse((await assay('issuers', '--json')).stdout) as readonly Listed[]
  const named = (list: readonly { name: string }[] | undefined) => list?.map(one => one.name)
  for (const { name, role, settings, secrets } of rows) {
    const { role: own, integration } = issuers[name] as (typeof issuers)[string]
    expect(named(role)).toEqual(Object.keys(own))
    expect(named(settings)).toEqual(integration && Object.keys(integration.settings))
    expect(named(secrets)).toEqual(integration && Object.keys(integration.secrets))
  }
})

test.each([['issuers'], ['setup', '--print'], ['completion', 'bash']])(
  '%s whose answer cannot be written has not succeeded',
  async (...words) => {
    const { code, stderr } = await run('sh', ['-c', 'exec "$@" >/dev/full', 'sh', wrapper, ...words])
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'assay: what was asked for could not be written (ENOSPC)\n' })
  },
)

test('so it is for all that is started by hand: no trace of the stack', async () => {
  const program = `await import('${join(import.meta.dirname, '../../scripts/lib/node.js')}'); console.log('a story')`
  const words = [process.execPath, '--input-type=module', '--eval', program]
  const { code, stderr } = await run('sh', ['-c', 'exec "$@" >/dev/full', 'sh', ...words])
  expect({ code, stderr }).toEqual({ code: 1, stderr: 'assay: what was asked for could not be written (ENOSPC)\n' })
})

test('a user without a home is served, too', async () => {
  const program = `
    import os from 'node:os'
    import { syncBuiltinESMExports } from 'node:module'
    os.homedir = () => { throw new Error('uv_os_homedir returned ENOENT') }
    syncBuiltinESMExports()
    process.argv.splice(1, 0, 'assay', 'server', '--help')
    await import('${join(import.meta.dirname, '../../scripts/assay.js')}')`
  const env = { PATH: process.env['PATH'] }
  const { code, stderr } = await run(process.execPath, ['--input-type=module', '--eval', program], { env })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})

test.each(['bundle', 'demo', 'test', 'test-clients', 'fuzz', 'conformance', 'mutate', 'vault-bin'])(
  'scripts/%s --help says how it is used, and does nothing',
  async name => {
    const { code, stdout } = await run(join(wrapper, '..', name), ['--help'], { cwd: folder })
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^usage: /i) as string })
    expect(existsSync(join(folder, '--help'))).toBe(false)
  },
)

test.each(['22.18.0', '24.11.1'])('an old Node (%s) ends with a sentence', async version => {
  const load = `Object.defineProperty(process.versions, 'node', { value: '${version}' }); await import('${join(import.meta.dirname, '../../scripts/lib/node.js')}')`
  const { code, stderr } = await run(process.execPath, ['--input-type=module', '--eval', load])
  expect(code).toBe(1)
  expect(stderr).toMatch(/^this needs Node 24\.12 or newer.*\n$/)
})

type Help = { readonly path: string; readonly code: number | null; readonly stdout: string }

async function helpOf(words: readonly string[]): Promise<Help[]> {
  const { code, stdout } = await assay(...words, '--help')
  const below = await Promise.all(commandsIn(stdout).map(name => helpOf([...words, name])))
  return [{ path: words.join(' '), code, stdout }, ...below.flat()]
}

function commandsIn(help: string): string[] {
  const [, list = ''] = help.split(/^Commands:\n/m)
  const lines = list.split('\n\n')[0]?.matchAll(/^ {2}([a-z][\w-]*)/gm) ?? []
  return [...lines].map(([, name]) => name ?? '').filter(name => name !== 'help')
}

test('a signal opens no debugger, which every user of the machine would reach', async () => {
  const start = join(import.meta.dirname, '../../scripts/lib/node.js')
  const script = `
    import inspector from 'node:inspector'
    await import(${JSON.stringify(start)})
    process.once('SIGUSR2', () => setImmediate(() => { console.log(inspector.url() ?? 'none'); process.exit() }))
    process.kill(process.pid, 'SIGUSR1')
    process.kill(process.pid, 'SIGUSR2')
    setInterval(() => {}, 1000)`
  const ran = await run(process.execPath, ['--input-type=module', '-e', script])
  expect(ran).toMatchObject({ code: 0, stdout: 'none\n', stderr: '' })
})
