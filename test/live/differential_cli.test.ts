import { randomBytes } from 'node:crypto'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run, start, until } from '../harness/process.ts'
import { discard, scratch } from '../harness/scratch.ts'
import { startVaultRaft, vaultBinary } from '../harness/vault.ts'
import { typedAlike } from './cli_sides.ts'
import { NOT_ASKED, REFUSED, raftScriptOf, type Step, scriptOf } from './differential_cli_script.ts'
import { commandsOf, lines, openSides, type Sides, steady } from './sides.ts'
import { done } from './world.ts'

// The stock CLI, straight and through the front door: every subcommand that has an API call behind it.

let sides: Sides
const folder = await scratch('assay-cli-')
beforeAll(async () => {
  sides = await openSides()
  for (const side of ['straight', 'through']) await mkdir(join(folder, `of-${side}`))
  await writeFile(join(folder, 'policy.hcl'), 'path "secret/*" { capabilities = ["read"] }\n')
  // that check goes through a map of names, in an order of its own
  await writeFile(join(folder, 'health.json'), '{"audit_visibility":{"enabled":false}}')
  await writeFile(join(folder, 'patch.json'), '{"data":{"g":"i"}}')
})
afterAll(async () => {
  await sides?.[Symbol.asyncDispose]()
  await discard(folder)
})

/** Of 384 KiB, which the log of raft takes as one entry. */
const PIECES = 100
const succeeded: Step[] = []
typedAlike(scriptOf(folder), () => sides, succeeded)

describe('with integrated storage', () => {
  let raft: Sides
  beforeAll(async () => {
    raft = await openSides(startVaultRaft)
  })
  afterAll(() => raft?.[Symbol.asyncDispose]())

  test('a snapshot larger than any other request arrives whole, and takes the server back to what it was', async () => {
    const { straight, through } = await raft.both(async side => {
      const { api } = side.vault
      const [place, file] = [join(folder, `of-${side.name}`), join(folder, `of-${side.name}`, 'large')]
      await done(api('POST', 'sys/mounts/large', { type: 'kv' }))
      for (let at = 0; at < PIECES; at++)
        await done(api('POST', `large/${at}`, { a: randomBytes(3 * 2 ** 17).toString('base64') }))
      const saved = await side.cli(['operator', 'raft', 'snapshot', 'save', file])
      const inspected = await side.cli(['operator', 'raft', 'snapshot', 'inspect', file])
      const checked = await run('sh', ['-c', 'tar -xzf large && sha256sum --check --quiet SHA256SUMS'], { cwd: place })
      await done(api('DELETE', 'sys/mounts/large'))
      const restored = await side.cli(['operator', 'raft', 'snapshot', 'restore', file])
      await until('what was saved to be there', async () => (await api('GET', `large/${PIECES - 1}`)).status === 200)
      return {
        codes: [saved, inspected, checked, restored].map(({ code }) => code),
        large: (await stat(file)).size > 33 * 2 ** 20,
      }
    })
    expect(straight).toEqual({ codes: [0, 0, 0, 0], large: true })
    expect(through).toEqual(straight)
  })

  // it ends with a snapshot that is restored, and for a while with a server that answers nothing
  typedAlike(raftScriptOf(folder), () => raft, succeeded)
})

test('vault monitor shows lines of the log until it is told to end', async () => {
  const { straight, through } = await sides.both(async ({ address, vault }) => {
    const env = { ...vault.env, VAULT_ADDR: address }
    const monitor = await start(await vaultBinary(), ['monitor', '-log-level=trace'], { env })
    await until('a line of the log', async () => {
      await vault.api('POST', 'sys/mounts/logged', { type: 'kv' })
      await vault.api('DELETE', 'sys/mounts/logged')
      return monitor.output().includes('[TRACE]')
    })
    return monitor.stop('SIGINT')
  })
  expect(through).toEqual(straight)
})

test('vault debug collects the same files', async () => {
  const { straight, through } = await sides.both(async ({ name, cli }) => {
    const places = ['-compress=false', `-output=${join(folder, name)}`]
    const { code } = await cli(['debug', '-duration=5s', '-interval=5s', '-metrics-interval=5s', ...places])
    const files = await readdir(join(folder, name), { recursive: true })
    return { code, files: [...new Set(files.map(steady))].toSorted() }
  })
  expect(through).toEqual(straight)
  expect(through.files).toEqual(expect.arrayContaining(['vault.log', 'metrics.json', 'server_status.json', 'TIME/heap.prof']))
})

test.each([
  ['of another minute', 'Install Time        22 Nov 26 13:34 UTC', 'Install Time        22 Nov 26 13:35 UTC'],
  ['of a whole minute', 'ttl                 9m59s', 'ttl                 10m'],
  ['of another length', 'Encryption Count    9', 'Encryption Count    31'],
])('what is said of a moment %s is no difference', (_, one, other) => expect(lines(one)).toEqual(lines(other)))

/** Which of all commands are in none of these steps. */
async function missingFrom(steps: readonly Step[]): Promise<string[]> {
  const typed = steps.map(step => `${(typeof step === 'function' ? step({}) : step).join(' ')} `)
  const commands = await commandsOf(await vaultBinary(), [], Object.keys(NOT_ASKED))
  expect(commands.length).toBeGreaterThan(90)
  return commands.filter(command => !typed.some(line => line.startsWith(`${command} `))).toSorted()
}

test('no subcommand of the CLI is left out', async () => {
  const steps = [scriptOf(folder), raftScriptOf(folder)].flatMap(script => Object.values(script).flat())
  expect(await missingFrom(steps)).toEqual(Object.keys(NOT_ASKED).toSorted())
})

test('each has been answered once at least, but for those that are refused by both', async () => {
  expect(await missingFrom(succeeded)).toEqual(Object.keys({ ...NOT_ASKED, ...REFUSED }).toSorted())
})
