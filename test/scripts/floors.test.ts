import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { checkFloors } from '../../scripts/floors.ts'

const made: string[] = []
afterAll(() => Promise.all(made.map(folder => rm(folder, { recursive: true }))))

/** What the check says of a tree with these files: `file:line problem` each. */
async function problems(files: Record<string, string>): Promise<string[]> {
  const root = await mkdtemp(join(tmpdir(), 'assay-floors-'))
  made.push(root)
  for (const [file, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, file)), { recursive: true })
    await writeFile(join(root, file), text)
  }
  return checkFloors(root).map(({ file, line, problem }) => `${file}:${line} ${problem}`)
}

test('a house in order has no findings', async () => {
  const files = {
    'attestation/index.ts': `export { verify } from './verify.ts'\n`,
    'attestation/verify.ts': `import { createHash } from 'node:crypto'\nexport const verify = () => createHash('sha256')\n`,
    'engine/index.ts': `import { verify } from '#attestation'\nimport { LRUCache } from 'lru-cache'\nexport const engine = [verify, LRUCache]\n`,
    'mounts/index.ts': `import { engine } from '#engine'\nimport type { verify } from '#attestation'\nexport const log = () => import('#engine/audit')\nexport const mounts: [typeof engine, typeof verify?] = [engine]\n`,
    'mounts/serve.ts': `import { randomBytes } from 'node:crypto'\nexport const world = [Date.now, randomBytes, process.env]\n`,
    'agent/index.ts': `export const agent = () => import('#attestation')\n`,
    'test/x.test.ts': `import '../engine/index.ts'\n`,
  }
  expect(await problems(files)).toEqual([])
})

describe('stairs and doors', () => {
  const floor = (name: string) => ({ [`${name}/index.ts`]: 'export const door = 1\n' })
  const rows: [string, string, string, string][] = [
    ['upward', 'engine/a.ts', `import '#mounts'`, 'imports #mounts: no stairs lead from engine to mounts'],
    ['from the ground up', 'attestation/a.ts', `import '#engine'`, 'imports #engine: no stairs lead from attestation to engine'],
    ['from the agent to the engine', 'agent/a.ts', `import '#engine'`, 'imports #engine: no stairs lead from agent to engine'],
    [
      'through the wall',
      'engine/a.ts',
      `import '../attestation/index.ts'`,
      'imports attestation/index.ts through the wall: a floor is entered by its door, #attestation',
    ],
    [
      'own door by name',
      'engine/a.ts',
      `import '#engine'`,
      'imports the door of its own floor: inside a floor, files import files',
    ],
    [
      'own door by file',
      'engine/b/a.ts',
      `import '../index.ts'`,
      'imports the door of its own floor: inside a floor, files import files',
    ],
    ['no floor', 'engine/a.ts', `import '../scripts/b.ts'`, 'imports scripts/b.ts, which is on no floor'],
    ['by a side door upward', 'engine/a.ts', `import '#mounts/sys'`, 'imports #mounts: no stairs lead from engine to mounts'],
    ['no such door', 'engine/a.ts', `import '#cellar'`, 'imports #cellar, which is no floor'],
  ]
  test.each(rows)('%s', async (_, file, text, problem) => {
    const house = { ...floor('attestation'), ...floor('engine'), ...floor('mounts'), ...floor('agent') }
    expect(await problems({ ...house, [file]: `\n${text}\n` })).toEqual([`${file}:2 ${problem}`])
  })
})

describe('every way to import counts', () => {
  const ways: [string, string][] = [
    ['static', `import '#mounts'`],
    ['type', `import type { A } from '#mounts'`],
    ['type of a name', `import { type A } from '#mounts'`],
    ['re-export', `export { a } from '#mounts'`],
    ['re-export of all', `export * from '#mounts'`],
    ['re-export of types', `export type * from '#mounts'`],
    ['dynamic', `export const a = () => import('#mounts')`],
    ['type in place', `export type A = import('#mounts').A`],
  ]
  test.each(ways)('%s', async (_, text) => {
    expect(await problems({ 'engine/a.ts': text })).toEqual([
      'engine/a.ts:1 imports #mounts: no stairs lead from engine to mounts',
    ])
  })
  test('require', async () => {
    const text = `import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)\nrequire('left-pad')\nrequire(name)\n`
    expect(await problems({ 'engine/a.ts': text })).toEqual([
      'engine/a.ts:3 imports left-pad, which the floor may not use',
      'engine/a.ts:4 imports a computed name, which cannot be checked',
    ])
  })
  test('a computed import is refused', async () => {
    expect(await problems({ 'agent/a.ts': 'export const a = (name: string) => import(name)' })).toEqual([
      'agent/a.ts:1 imports a computed name, which cannot be checked',
    ])
  })
  test('what only looks like an import does not', async () => {
    const text = `// import '#mounts'\nexport const a = "import '#mounts'" + \`import('#mounts')\` + /import '#mounts'/.source\n`
    expect(await problems({ 'engine/a.ts': text })).toEqual([])
  })
})

describe('packages and the world', () => {
  const rows: [string, string, string[]][] = [
    ['attestation/a.ts', `import 'undici'`, ['imports undici, which the floor may not use']],
    ['attestation/a.ts', `import 'node:fs'`, ['imports node:fs, which the floor may not use']],
    ['attestation/a.ts', `import 'node:http'`, ['imports node:http, which the floor may not use']],
    ['engine/a.ts', `import 'crypto'`, ['imports crypto, which the floor may not use']],
    ['engine/a.ts', `import '@hono/node-server/conninfo'`, ['imports @hono/node-server, which the floor may not use']],
    ['attestation/a.ts', 'fetch(x)', ['uses fetch, which the floor may not use']],
    ['attestation/a.ts', 'setTimeout(x)', ['uses setTimeout, which the floor may not use']],
    ['engine/a.ts', 'Date.now()', ['uses Date.now: clock, chance and environment are passed in']],
    ['engine/a.ts', 'new Date()', ['uses new Date(): clock, chance and environment are passed in']],
    ['mounts/a.ts', 'Math.random()', ['uses Math.random: clock, chance and environment are passed in']],
    ['agent/a.ts', `process['env']`, ['uses process.env: clock, chance and environment are passed in']],
    ['engine/a.ts', `import { randomBytes as r } from 'node:crypto'`, ['takes randomBytes: chance is passed in']],
    ['attestation/a.ts', `import { randomUUID } from 'node:crypto'`, ['takes randomUUID: chance is passed in']],
    ['mounts/a.ts', `import '../package.json'`, ['imports package.json, which is on no floor']],
    ['mounts/serve.ts', `import '../package.json'`, []],
    ['engine/a.ts', 'crypto.randomBytes(8)', ['uses crypto.randomBytes: clock, chance and environment are passed in']],
    ['engine/a.ts', 'const fetch = 1; use(fetch, new Date(0), a.fetch, { console: 1 })', []],
    ['agent/cli.ts', 'use(Date.now, process.env)', []],
  ]
  test.each(rows)('%s: %s', async (file, text, expected) => {
    expect(await problems({ [file]: text })).toEqual(expected.map(problem => `${file}:1 ${problem}`))
  })
})

describe('cycles', () => {
  test('two files, one of them for a type only', async () => {
    const files = { 'engine/a.ts': `import type { B } from './b.ts'`, 'engine/b.ts': `import './a.ts'` }
    expect(await problems(files)).toEqual(['engine/a.ts:1 is in an import cycle: engine/a.ts -> engine/b.ts -> engine/a.ts'])
  })
  test('a file that imports itself', async () => {
    expect(await problems({ 'engine/a.ts': `import './a.ts'` })).toEqual([
      'engine/a.ts:1 is in an import cycle: engine/a.ts -> engine/a.ts',
    ])
  })
  test('two cycles are two findings, a diamond is none', async () => {
    const pair = (x: string, y: string) => ({
      [`engine/${x}.ts`]: `import './${y}.ts'`,
      [`engine/${y}.ts`]: `import './${x}.ts'`,
    })
    expect(await problems({ ...pair('a', 'b'), ...pair('c', 'd') })).toHaveLength(2)
    const diamond = {
      'engine/a.ts': `import './b.ts'\nimport './c.ts'`,
      'engine/b.ts': `import './d.ts'`,
      'engine/c.ts': `import './d.ts'`,
      'engine/d.ts': '',
    }
    expect(await problems(diamond)).toEqual([])
  })
})

test('a file that does not parse is told with its name', async () => {
  await expect(problems({ 'engine/a.ts': 'export const = 1' })).rejects.toThrow('engine/a.ts: ')
})
