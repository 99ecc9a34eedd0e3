import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Running, start, until } from './process.ts'

// What a test leaves behind when it is killed in the middle: nothing.

/** A process that begins something, says what is to be gone with it, and waits to be killed. */
function doomed(module: string, begin: string): Promise<Running> {
  const source = `const parts = await import(${JSON.stringify(join(import.meta.dirname, module))}); console.log(${begin}); setInterval(() => {}, 1000)`
  return start(process.execPath, ['--input-type=module', '-e', source])
}

test('a folder goes with the process, full as it may be', async () => {
  const fill = `await parts.scratch('assay-doomed-').then(folder => process.getBuiltinModule('fs').writeFileSync(folder + '/file', '') ?? folder)`
  await using child = await doomed('scratch.ts', fill)
  const [folder] = await child.line(/^\/\S+$/)
  expect(await readdir(folder)).toEqual(['file'])
  await child.stop('SIGKILL')
  await until('it to be gone', async () => !existsSync(folder))
})

test.each([
  ['a Vault', 'vault.ts', `await parts.startVault().then(one => one.pid + ' ' + one.env.HOME)`],
  ['PostgreSQL', 'peers/postgres.ts', `await parts.startPostgres().then(one => one.pid + ' ' + one.folder)`],
])('%s goes with the process, and its folder', async (_, module, begin) => {
  await using child = await doomed(module, begin)
  const [, pid = '', folder = ''] = await child.line(/^(\d+) (\/\S+)$/)
  await child.stop('SIGKILL')
  await until('it to end', async () => (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) === '')
  await until('its folder to be gone', async () => !existsSync(folder))
})
