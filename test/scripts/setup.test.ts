import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Ran, run } from '../harness/process.ts'

const project = join(import.meta.dirname, '../..')

// A machine of its own for each test: a copy of setup.sh beside a lock file, and a PATH with nothing but what the test puts
// there beside the system's basic tools.
let place: string
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), 'assay-setup-'))
  const pins = ['moto', 'awscli', 'hadolint'].map(name => `scripts/lib/${name}.txt`)
  for (const file of ['scripts/lib/setup.sh', 'scripts/vault/go.mod', 'scripts/vault/go.sum', ...pins]) await copy(file)
  await put('root/package-lock.json', '{}')
  for (const tool of tools) await program(tool, `exec /usr/bin/${tool} "$@"`)
})
afterEach(() => rm(place, { recursive: true, force: true }))
const tools = [
  'bash',
  'cat',
  'chmod',
  'cut',
  'date',
  'dirname',
  'flock',
  'grep',
  'mkdir',
  'mktemp',
  'mv',
  'rm',
  'sha256sum',
  'sleep',
  'tail',
  'touch',
  'tr',
  'wc',
]

describe('Debian packages', () => {
  test('root: what is missing is installed, once', async () => {
    await program('dpkg-query', 'grep -qs . "$place/installed" && echo installed; exit 1')
    await program('id', 'echo 0')
    await program(
      'apt-get',
      'echo "$@" >> "$place/apt"; [ "$1" = update ] || touch "$place/installed"; echo yes > "$place/installed"',
    )
    expect((await setup('need_debian_packages')).code).toBe(0)
    expect((await setup('need_debian_packages')).stderr).toBe('')
    const calls = (await readFile(join(place, 'apt'), 'utf8')).trim().split('\n')
    expect(calls).toHaveLength(2)
    expect(calls[1]).toContain('swtpm swtpm-tools tpm2-tools libtss2-tctildr0 openssl')
  })
  test('are installed once when two runs need them', async () => {
    await program('dpkg-query', '[ ! -e "$place/installed" ] || echo installed; exit 1')
    await program('id', 'echo 0')
    await program('apt-get', 'echo "$@" >> "$place/apt"; [ "$1" = update ] || { sleep 0.2; touch "$place/installed"; }')
    const both = await Promise.all([setup('need_debian_packages'), setup('need_debian_packages')])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    expect(await readFile(join(place, 'apt'), 'utf8')).toMatch(/^update [^\n]*\ninstall [^\n]*\n$/)
  })
  test('are waited for while another program installs some: each lock that apt-get itself does not wait for', async () => {
    await program('dpkg-query', 'exit 1')
    await program('id', 'echo 0')
    await program('sleep', 'exit 0')
    const held = 'echo "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 1 (apt-get)"; exit 100'
    await program('apt-get', `echo "$1" >> "$place/apt"; [ "$(wc -l < "$place/apt")" -gt 4 ] || { ${held}; }`)
    expect((await setup('patience=0; need_debian_packages')).code).toBe(100)
    expect((await setup('need_debian_packages')).code).toBe(0)
    const calls = ['update', 'install', 'update', 'update', 'update', 'install']
    expect((await readFile(join(place, 'apt'), 'utf8')).trim().split('\n')).toEqual(calls)
  })
  test('not root: the exact command, and exit 1', async () => {
    await program('dpkg-query', '[ "$4" != openssl ] || echo installed; exit 1')
    await program('id', 'echo 1000')
    await program('apt-get', 'exit 99')
    const { code, stderr } = await setup('need_debian_packages')
    expect(code).toBe(1)
    const command =
      'apt-get update && apt-get install --yes --no-install-recommends swtpm swtpm-tools tpm2-tools libtss2-tctildr0 curl git python3-venv postgresql nginx-light libnginx-mod-stream openssh-server chromium zsh fish logrotate tpm2-openssl tpm2-abrmd libtss2-tcti-tabrmd0 dbus'
    expect(stderr.trimEnd().split('\n').at(-1)).toBe(command)
  })
  test('services are banned while packages are installed and not longer, however it ends', async () => {
    const source = await readFile(join(project, 'scripts/lib/setup.sh'), 'utf8')
    await put('root/scripts/lib/setup.sh', source.replace('/usr/sbin/policy-rc.d', '"$place/policy-rc.d"'))
    await program('dpkg-query', 'exit 1')
    await program('id', 'echo 0')
    await program('cp', 'exec /usr/bin/cp "$@"')
    for (const end of ['exit 0', 'exit 100', 'kill -TERM "$PPID"; sleep 5']) {
      await rm(join(place, 'seen'), { force: true })
      await program('apt-get', `[ "$1" = update ] || { cp "$place/policy-rc.d" "$place/seen"; ${end}; }`)
      await setup('need_debian_packages')
      expect(await readFile(join(place, 'seen'), 'utf8')).toContain('exit 101')
      expect(await readdir(place)).not.toContain('policy-rc.d')
    }
    // what a set-up that was killed left behind is taken over, what others put there stays
    await put('policy-rc.d', await readFile(join(place, 'seen'), 'utf8'))
    await program('apt-get', 'exit 0')
    await setup('need_debian_packages')
    expect(await readdir(place)).not.toContain('policy-rc.d')
    await put('policy-rc.d', '#!/bin/sh\nexit 101\n')
    await setup('need_debian_packages')
    expect(await readdir(place)).toContain('policy-rc.d')
  })
  test('what apt-get says is shown when it fails', async () => {
    await program('dpkg-query', 'exit 1')
    await program('id', 'echo 0')
    await program('apt-get', '[ "$1" = update ] || { echo "E: Unable to locate package swtpm"; exit 100; }')
    const { code, stderr } = await setup('need_debian_packages')
    expect(code).toBe(100)
    expect(stderr).toContain('E: Unable to locate package swtpm')
  })
})

describe('npm packages', () => {
  const npm = 'echo "$@" >> "$place/npm"; mkdir -p node_modules/.bin; cp "$place/node24" node_modules/.bin/node'
  beforeEach(async () => {
    await program('npm', npm)
    await program('cp', 'exec /usr/bin/cp "$@"')
    await put('node24', '#!/usr/bin/env bash\necho v24.21.0\n', 0o755)
  })
  test('are installed once, and again when the lock changes', async () => {
    for (const lock of ['{}', '{}', '{"changed": true}']) {
      await put('root/package-lock.json', lock)
      const { code, stdout } = await setup('need_packages; echo "$node"')
      expect({ code, stdout }).toEqual({ code: 0, stdout: `${place}/root/node_modules/.bin/node\n` })
    }
    expect(await readFile(join(place, 'npm'), 'utf8')).toMatch(/^(ci --ignore-scripts .*\n){2}$/)
  })
  test('are installed once when two runs need them', async () => {
    await program('npm', `sleep 0.2; ${npm}`)
    const both = await Promise.all([setup('need_packages'), setup('need_packages')])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    expect(await readFile(join(place, 'npm'), 'utf8')).toMatch(/^ci .*\n$/)
  })
  test('that fail to install are told with the end of the output, and tried again', async () => {
    await program('npm', 'echo "npm error 404 left-pad"; exit 1')
    for (const _ of [1, 2]) {
      const { code, stderr } = await setup('need_packages')
      expect(code).toBe(1)
      expect(stderr).toContain('npm error 404 left-pad')
    }
  })
  test('without a Node 24 for this machine: a sentence', async () => {
    await program('npm', 'mkdir -p node_modules')
    await program('node', 'echo v20.20.2')
    const { code, stderr } = await setup('need_packages')
    expect(code).toBe(1)
    expect(stderr).toContain('Node 24 or newer is needed')
  })
})

describe('a Vault', () => {
  const vault = 'echo "Vault v1.21.2, built yesterday"'
  test('VAULT_BIN goes first, and must be one', async () => {
    await program('vault', vault)
    await program('other', 'echo "OpenBao v2.5.0"')
    expect(await found({ VAULT_BIN: join(place, 'bin/other') })).toBe(join(place, 'bin/other'))
    await program('other', 'echo "GNU other 1.0"')
    const { code, stderr } = await setup('need_vault', { VAULT_BIN: join(place, 'bin/other') })
    expect(code).toBe(1)
    expect(stderr).toContain('VAULT_BIN')
  })
  test('then vault, then bao on PATH, whichever is one', async () => {
    await program('bao', 'echo "OpenBao v2.5.0"')
    expect(await found()).toBe(join(place, 'bin/bao'))
    await program('vault', 'echo "vault 0.1, a password tool"')
    expect(await found()).toBe(join(place, 'bin/bao'))
    await program('vault', vault)
    expect(await found()).toBe(join(place, 'bin/vault'))
  })
  test('else it is built once, at a name of version and pinned modules', async () => {
    await program('go', go('sleep 0.2'))
    const [one, other] = await Promise.all([found(), found()])
    expect(one).toMatch(/\/cache\/assay\/vault-1\.21\.2-[0-9a-f]{12}$/)
    expect(other).toBe(one)
    expect(await found()).toBe(one)
    expect(await readFile(join(place, 'go'), 'utf8')).toMatch(
      /^build -mod=readonly [^\n]*-tags minimal -trimpath -ldflags -s -w [^\n]*\n$/,
    )
  })
  test('says its licence when it is built', async () => {
    await program('go', go(':'))
    const { code, stderr } = await setup('need_vault')
    expect(code).toBe(0)
    expect(stderr).toContain('Business Source License')
  })
  test('a build that fails leaves nothing behind', async () => {
    await program('go', 'echo "verifying module: checksum mismatch"; exit 1')
    const { code, stderr } = await setup('need_vault')
    expect(code).toBe(1)
    expect(stderr).toContain('checksum mismatch')
    expect(await readdir(join(place, 'cache/assay'))).toEqual(['build.lock'])
  })
  test('a build that is ended half-way is not taken for one', async () => {
    await program('go', `${go(':')}; kill -TERM "$PPID"; sleep 5`)
    expect((await setup('need_vault')).code).toBe(130)
    await program('go', go(':'))
    expect((await setup('need_vault')).stderr).toContain('set-up: built')
  })
  test('without HOME it is built with that of the user, and kept there', async () => {
    await program('id', 'echo 1000')
    await program('getent', 'echo "builder:x:1000:1000::$place/home:/bin/sh"')
    await program('go', `echo "$HOME" >"$place/home-of-go"; ${go(':')}`)
    expect(await found({ HOME: undefined, XDG_CACHE_HOME: undefined })).toMatch(
      new RegExp(`^${place}/home/\\.cache/assay/vault-`),
    )
    expect(await readFile(join(place, 'home-of-go'), 'utf8')).toBe(`${join(place, 'home')}\n`)
  })
  test('without HOME, for a user who has none: a sentence', async () => {
    await program('id', 'echo 4711')
    await program('getent', 'exit 2')
    const { code, stderr } = await setup('need_vault', { HOME: undefined })
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('set HOME to a folder') as string })
  })
  test('without Go: a sentence', async () => {
    const { code, stderr } = await setup('need_vault')
    expect(code).toBe(1)
    expect(stderr).toContain('install Go')
  })

  function go(first: string): string {
    return `${first}; echo "$@" >> "$place/go"; while [ "$1" != -o ]; do shift; done; printf '#!/usr/bin/env bash\\n${vault}\\n' > "$2"; chmod +x "$2"`
  }

  async function found(env: NodeJS.ProcessEnv = {}): Promise<string> {
    return (await setup('need_vault; echo "$vault"', env)).stdout.trim()
  }
})

describe('peers of the tests', () => {
  const pip = (body: string) => `mkdir -p "$3/bin"; printf '#!/usr/bin/bash\\n${body}\\n' > "$3/bin/pip"; chmod +x "$3/bin/pip"`

  test('the PostgreSQL plugin is built once, alone in its folder', async () => {
    await program('go', 'echo "$@" >> "$place/go"; while [ "$1" != -o ]; do shift; done; touch "$2"; chmod +x "$2"')
    const dir = async () => (await setup('need_postgres_plugin; echo "$plugin_dir"')).stdout.trim()
    const [one, other] = await Promise.all([dir(), dir()])
    expect(other).toBe(one)
    expect(await readdir(one)).toEqual(['postgresql-database-plugin'])
    expect(await readFile(join(place, 'go'), 'utf8')).toMatch(/^build -mod=readonly [^\n]*\/postgresql-database-plugin\n$/)
  })

  test.each([
    ['moto', 'moto_server'],
    ['awscli', 'aws'],
    ['hadolint', 'hadolint'],
  ])('%s is installed once, at a name of its pinned packages', async (name, tool) => {
    await program('python3', pip('echo "$@" >> "$place/pip"'))
    const found = async () => (await setup(`need_${name}; echo "$${name}"`)).stdout.trim()
    const [one, other] = await Promise.all([found(), found()])
    expect(one).toMatch(new RegExp(`/cache/assay/${name}-[0-9a-f]{12}/bin/${tool}$`))
    expect(other).toBe(one)
    const asked = new RegExp(`^install --quiet --no-deps --requirement [^\\n]*/${name}\\.txt\\n$`)
    expect(await readFile(join(place, 'pip'), 'utf8')).toMatch(asked)
  })

  test('an installation that fails is not taken for one', async () => {
    await program('python3', pip('echo "no matching distribution"; exit 1'))
    for (const _ of [1, 2]) expect((await setup('need_moto')).stderr).toContain('no matching distribution')
  })
})

function setup(commands: string, env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const script = `set -euo pipefail; . "$place/root/scripts/lib/setup.sh"; ${commands}`
  const own = { PATH: join(place, 'bin'), HOME: place, XDG_CACHE_HOME: join(place, 'cache'), place, ...env }
  return run('/usr/bin/bash', ['-c', script], { cwd: place, env: own })
}

async function program(name: string, body: string): Promise<void> {
  await put(`bin/${name}`, `#!/usr/bin/bash\n${body}\n`, 0o755)
}

async function copy(file: string): Promise<void> {
  await put(`root/${file}`, await readFile(join(project, file), 'utf8'))
}

async function put(file: string, text: string, mode = 0o644): Promise<void> {
  await mkdir(dirname(join(place, file)), { recursive: true })
  await writeFile(join(place, file), text)
  await chmod(join(place, file), mode)
}
