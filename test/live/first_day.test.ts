import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../harness/patience.ts'
import { freePort, type Running, run, start } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

// The lines of "The first day", those of the proxy too, and of the rotation in docs/operations.md, as they stand: only places are others, and what wants root is left out.

const root = join(import.meta.dirname, '../..')
let home: string
let vault: Vault
let port: number
let ports: { agents: number; operators: number }
let server: Running | undefined
let proxy: Running | undefined
const at = (name: string) => join(home, name)
const here = (text: string) =>
  text
    .replaceAll(/\/(etc|var|usr)\//g, `${home}/$1/`)
    .replaceAll('https://vault.internal:8200', vault.address)
    .replaceAll(/0\.0\.0\.0/g, '127.0.0.1')
    .replaceAll(/assay\.internal:8210/g, `127.0.0.1:${port}`)
    .replace('port: 8210', `port: ${port}`)
    .replace('port: 8220', `port: ${ports.agents}`)
    .replaceAll(/(127\.0\.0\.1:|port: )9220/g, `$1${ports.operators}`)

/** Programs that want root: something that does nothing is in their place. */
const instead = ['useradd', 'chown', 'systemctl']

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-first-day-'))
  ;[vault, port] = [await startVault(), await freePort()]
  ports = { agents: await freePort(), operators: await freePort() }
  for (const folder of ['etc/systemd/system', 'usr/local/bin', 'var/log/assay', 'var/log/assay-proxy', 'programs'])
    await mkdir(at(folder), { recursive: true })
  for (const name of instead) await symlink('/bin/true', at(`programs/${name}`))
  await symlink(process.execPath, at('programs/node'))
  await writeFile(at('assay.mjs'), `#!/usr/bin/env node\nawait import(${JSON.stringify(join(root, 'scripts/assay.js'))})\n`)
  await cp(join(root, 'packaging'), at('packaging'), { recursive: true })
  for (const name of ['assay.yaml', 'assay.service', 'proxy.yaml', 'assay-proxy.service'])
    await writeFile(at(`packaging/${name}`), here(await readFile(at(`packaging/${name}`), 'utf8')))
  const authority = await newAuthority('tests')
  const { cert, key } = await authority.issue('assay.internal')
  for (const [name, text] of Object.entries({ cert, key, ca: authority.ca, 'vault-ca': authority.ca, clients: authority.ca }))
    await writeFile(at(`${name}.pem`), text)
})
afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
  await vault?.stop()
  await rm(home, { recursive: true, force: true })
})

/** The first block of a section: the places are here, and there is no group. */
async function block(section: string, language: string): Promise<string> {
  const page = await readFile(join(root, 'docs/operations.md'), 'utf8')
  const [, text = ''] = page.split(`## ${section}\n`)[1]?.split(`\`\`\`${language}\n`) ?? []
  return here(text.split('```')[0] ?? '').replaceAll(/ -g assay(-proxy)?/g, '')
}

async function typed(lines: string): Promise<string> {
  const env = {
    PATH: `${at('programs')}:${at('usr/local/bin')}:/usr/sbin:/usr/bin:/bin`,
    HOME: home,
    VAULT_TOKEN: vault.rootToken,
  }
  const { code, stdout, stderr } = await run('bash', ['-euo', 'pipefail', '-c', lines], { cwd: home, env })
  expect({ lines, code, stderr }).toEqual({ lines, code: 0, stderr })
  return stdout
}

/** Types all lines but the last, which asks what the unit of the name has started. */
async function firstDay(section: string, name: string): Promise<Running> {
  const lines = (await block(section, 'sh')).trim().split('\n')
  const asked = lines.pop() ?? ''
  expect(asked).toMatch(/^curl /)
  expect(lines.at(-1)).toBe(`systemctl enable --now ${name}`)
  await typed(lines.join('\n'))
  const unit = await readFile(at(`etc/systemd/system/${name}.service`), 'utf8')
  const [program = '', ...words] = unit.match(/^ExecStart=(.*)$/m)?.[1]?.split(' ') ?? []
  const running = await start(program, words, { env: { PATH: `${at('programs')}:/usr/bin:/bin`, HOME: home } })
  await running.line(/^assay (?:proxy )?serves /)
  expect(JSON.parse(await typed(asked))).toMatchObject({ ready: true })
  return running
}

test('what is typed on the first day ends with a service that is ready', async () => {
  server = await firstDay('The first day', 'assay')
})

test('and so does what is typed for the proxy', async () => {
  proxy = await firstDay('The proxy', 'assay-proxy')
})

test('logrotate does with the audit log what the page says: the chain goes on in the next file', async () => {
  const pid = server?.pid ?? 0
  const lines = (await block('Rotation', '')).replace('systemctl try-reload-or-restart assay', `kill -HUP ${pid}`)
  expect(lines).toContain(`kill -HUP ${pid}\n`)
  await writeFile(at('logrotate.conf'), lines, { mode: 0o600 })
  await typed(`logrotate --force --state ${at('logrotate.state')} ${at('logrotate.conf')}`)
  const folder = at('var/log/assay')
  const rotated = async () => (await readdir(folder)).filter(name => /^audit\.jsonl-\d{8}$/.test(name))
  const [moved] = await rotated()
  await eventually(async () => expect(await readdir(folder)).toContain('audit.jsonl'))
  const page = await readFile(join(root, 'docs/operations.md'), 'utf8')
  const verify = here(page.match(/^assay audit verify .*$/m)?.[0] ?? '').replace('audit.jsonl-20270101', moved ?? '')
  expect(await typed(verify)).toContain('the chain holds')
  // the lock stands on its own file, and does not go with the one that was moved
  const again = await run(process.execPath, [join(root, 'scripts/assay.js'), 'server', '--config', at('etc/assay/assay.yaml')])
  expect(again).toMatchObject({ code: 3, stderr: expect.stringContaining('written by another process') as string })
})
