import { existsSync, globSync } from 'node:fs'
import { join, posix } from 'node:path'
import { cyclesOf } from './lib/cycles.ts'
import { type Import, type Reach, readSource, type Source } from './lib/sources.ts'

// Who may ask what of whom. A floor is entered by its door, `#name`, or a side door, `#name/part`, from the floors that list it under `below`.
type Floor = {
  readonly below: readonly string[]
  /** npm packages */
  readonly packages: readonly string[]
  /** modules of Node, without `node:` */
  readonly builtins: readonly string[]
  /** what else of the world it keeps out, beyond `world` */
  readonly without: readonly string[]
  /** files that wire the world: only these read clock, chance and environment */
  readonly entries: readonly string[]
}
const floors: Readonly<Record<string, Floor>> = {
  attestation: {
    below: [],
    packages: ['@peculiar/asn1-schema', '@peculiar/asn1-x509', 'asn1js', 'cborg', 'pkijs'],
    builtins: ['crypto', 'util'],
    without: ['console', 'fetch', 'performance', 'process', 'randomUUID', 'setImmediate', 'setInterval', 'setTimeout'],
    entries: [],
  },
  engine: {
    below: ['attestation'],
    packages: [
      '@aws-sdk/client-secrets-manager',
      'aws4fetch',
      '@aws-sdk/client-sts',
      '@azure/msal-node',
      '@cedar-policy/cedar-wasm',
      'cockatiel',
      'jose',
      'lru-cache',
      'node-vault',
      'oauth4webapi',
      'pino',
      'prom-client',
      'undici',
      'zod',
    ],
    builtins: [
      'crypto',
      'dns',
      'fs',
      'fs/promises',
      'module',
      'net',
      'path',
      'perf_hooks',
      'sqlite',
      'timers/promises',
      'util',
      'v8',
      'worker_threads',
    ],
    without: ['console', 'fetch'],
    entries: [],
  },
  mounts: {
    below: ['engine', 'attestation'],
    packages: ['@hono/node-server', 'commander', 'hono', 'undici', 'yaml'],
    builtins: ['crypto', 'fs/promises', 'http', 'https', 'net', 'os', 'path', 'stream', 'timers/promises', 'tls'],
    without: ['console', 'fetch'],
    entries: ['mounts/cli/operator.ts', 'mounts/cli/server.ts', 'mounts/serve.ts'],
  },
  proxy: {
    below: ['engine'],
    packages: ['aws4fetch', 'commander', 'lru-cache', 'pg', 'undici', 'yaml', 'zod'],
    builtins: [
      'cluster',
      'crypto',
      'diagnostics_channel',
      'dns/promises',
      'fs',
      'fs/promises',
      'http',
      'http2',
      'https',
      'net',
      'os',
      'path',
      'stream',
      'tls',
    ],
    without: ['console', 'fetch'],
    entries: ['proxy/cli.ts', 'proxy/serve.ts'],
  },
  agent: {
    below: ['attestation'],
    packages: ['asn1js', 'commander', 'koffi', 'undici'],
    builtins: [
      'child_process',
      'crypto',
      'events',
      'fs',
      'fs/promises',
      'http',
      'https',
      'net',
      'os',
      'path',
      'stream',
      'timers/promises',
      'tls',
      'util',
    ],
    without: [],
    entries: ['agent/cli.ts'],
  },
}

/** Clock, chance and environment, which are passed in everywhere but in entry points. (A UUID names a thing, it is no secret.) */
const chance = ['getRandomValues', 'randomBytes', 'randomFill', 'randomFillSync', 'randomInt']
const world = ['Date.now', 'new Date()', 'Math.random', 'process.env', ...chance.map(name => `crypto.${name}`)]

export type Finding = { readonly file: string; readonly line: number; readonly problem: string }

/** Checks all sources of the floors below `root`, an absolute path. */
export function checkFloors(root: string): Finding[] {
  const sources = new Map(filesOf(root).map(file => [file, readSource(join(root, file))]))
  const rules = [...sources].flatMap(([file, { imports, reaches }]) => [
    ...imports.flatMap(asked => found(file, asked.line, importProblem(file, asked))),
    ...reaches.flatMap(reach => found(file, reach.line, reachProblem(file, reach))),
  ])
  return [...rules, ...cycleFindings(sources)]
}

function filesOf(root: string): string[] {
  const present = Object.keys(floors).filter(floor => existsSync(join(root, floor)))
  return present.flatMap(floor => globSync(`${floor}/**/*.{ts,mts,cts,tsx,js,mjs,cjs}`, { cwd: root })).toSorted()
}

function importProblem(file: string, { specifier, names }: Import): string | undefined {
  if (specifier === undefined) return 'imports a computed name, which cannot be checked'
  if (specifier.startsWith('.')) return relativeProblem(file, specifier)
  if (specifier.startsWith('#')) return doorProblem(file, specifier.slice(1))
  if (specifier.startsWith('node:')) return builtinProblem(file, specifier.slice('node:'.length), names)
  return packageProblem(file, specifier)
}

function relativeProblem(file: string, specifier: string): string | undefined {
  const target = posix.join(posix.dirname(file), specifier)
  const there = floorOf(target)
  if (target === 'package.json' && isEntry(file)) return undefined
  if (!Object.hasOwn(floors, there)) return `imports ${target}, which is on no floor`
  if (there !== floorOf(file)) return `imports ${target} through the wall: a floor is entered by its door, #${there}`
  return target === `${there}/index.ts` ? 'imports the door of its own floor: inside a floor, files import files' : undefined
}

function doorProblem(file: string, door: string): string | undefined {
  const [here, there] = [floorOf(file), floorOf(door)]
  if (there === here) return 'imports the door of its own floor: inside a floor, files import files'
  if (!Object.hasOwn(floors, there)) return `imports #${there}, which is no floor`
  return rulesOf(file).below.includes(there) ? undefined : `imports #${there}: no stairs lead from ${here} to ${there}`
}

function builtinProblem(file: string, name: string, names: readonly string[]): string | undefined {
  const { builtins, without } = rulesOf(file)
  if (!builtins.includes(name)) return `imports node:${name}, which the floor may not use`
  const drawn = names.find(taken => without.includes(taken) || (chance.includes(taken) && !isEntry(file)))
  return drawn && `takes ${drawn}: chance is passed in`
}

function packageProblem(file: string, specifier: string): string | undefined {
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
  return rulesOf(file).packages.includes(name) ? undefined : `imports ${name}, which the floor may not use`
}

function reachProblem(file: string, { name }: Reach): string | undefined {
  if (rulesOf(file).without.includes(name)) return `uses ${name}, which the floor may not use`
  return world.includes(name) && !isEntry(file) ? `uses ${name}: clock, chance and environment are passed in` : undefined
}

function cycleFindings(sources: ReadonlyMap<string, Source>): Finding[] {
  const graph = new Map([...sources].map(([file, { imports }]) => [file, imports.flatMap(asked => targetOf(file, asked))]))
  return cyclesOf(graph).map(cycle => ({
    file: cycle[0] ?? '',
    line: 1,
    problem: `is in an import cycle: ${cycle.join(' -> ')}`,
  }))
}

function targetOf(file: string, { specifier = '' }: Import): string[] {
  if (specifier.startsWith('.')) return [posix.join(posix.dirname(file), specifier)]
  return specifier.startsWith('#') ? [`${specifier.slice(1)}/index.ts`] : []
}

function found(file: string, line: number, problem: string | undefined): Finding[] {
  return problem ? [{ file, line, problem }] : []
}

function floorOf(file: string): string {
  return file.split('/', 1)[0] ?? ''
}

function rulesOf(file: string): Floor {
  const rules = floors[floorOf(file)]
  if (!rules) throw new Error(`${file} is on no floor`)
  return rules
}

function isEntry(file: string): boolean {
  return rulesOf(file).entries.includes(file)
}

if (import.meta.main) {
  const findings = checkFloors(join(import.meta.dirname, '..'))
  for (const { file, line, problem } of findings) console.error(`${file}:${line} ${problem}`)
  console.error(
    findings.length === 0 ? 'floors: stairs, doors and packages are as they should be' : `floors: ${findings.length} problems`,
  )
  process.exitCode = findings.length === 0 ? 0 : 1
}
