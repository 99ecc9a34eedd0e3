import './lib/node.js'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { type BuildOptions, build, type Plugin } from 'esbuild'

// One file with everything in it: the sources, the packages, the WebAssembly of the policy evaluator, and what runs in threads of its own.

const root = join(import.meta.dirname, '..')

/** Loaded only by who uses them, from where they are installed: native code, and the SDKs of clouds. */
const LEFT_OUT = ['koffi', '@aws-sdk/*', '@azure/*', 'google-auth-library', '@google-cloud/*']

/** CommonJS packages ask for Node's own modules by `require`, which a module has not. It resolves nothing else. */
const REQUIRE = `import { createRequire as requireOf } from 'node:module';const require = requireOf(process.execPath);`

const common = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  external: LEFT_OUT,
  legalComments: 'eof',
  banner: { js: REQUIRE },
  absWorkingDir: root,
  logLevel: 'error',
  write: false,
} as const satisfies BuildOptions

/** Source files that start a thread name its file in one way. */
const THREAD = /new URL\('(\.\/\w+\.ts)', import\.meta\.url\)/g

const threads: Plugin = {
  name: 'threads',
  setup: bundler => {
    bundler.onLoad({ filter: /\/(?:attestation|engine|mounts|proxy|agent)\/.*\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      const named = [...source.matchAll(THREAD)].map(([, file = '']) => file)
      if (named.length === 0) return undefined
      const bundled = new Map(
        await Promise.all(named.map(async file => [file, await threadOf(join(dirname(path), file))] as const)),
      )
      return {
        contents: source.replaceAll(THREAD, (_, file: string) => `new URL(${JSON.stringify(bundled.get(file))})`),
        loader: 'ts',
      }
    })
  },
}

async function threadOf(entry: string): Promise<string> {
  const { outputFiles } = await build({ ...common, entryPoints: [entry], minifyWhitespace: true, plugins: [cedar] })
  return `data:text/javascript;base64,${Buffer.from(outputFiles[0]?.contents ?? '').toString('base64')}`
}

/** The policy evaluator is loaded through `createRequire`, anew for each instance: here it gets one that has the package in it. */
const cedar: Plugin = {
  name: 'cedar',
  setup: bundler => {
    bundler.onResolve({ filter: /^node:module$/ }, ({ importer }) =>
      importer.endsWith('/engine/policy/cedar.ts') ? { path: 'cedar', namespace: 'embedded' } : undefined,
    )
    bundler.onLoad({ filter: /^cedar$/, namespace: 'embedded' }, async () => {
      const entry = createRequire(import.meta.url).resolve('@cedar-policy/cedar-wasm/nodejs')
      const [glue, wasm] = await Promise.all([readFile(entry, 'utf8'), readFile(join(dirname(entry), 'cedar_wasm_bg.wasm'))])
      return { contents: embedded(glue, wasm), loader: 'js' }
    })
  },
}

/** Its one question to the outside is for the bytes of its WebAssembly. */
function embedded(glue: string, wasm: Buffer): string {
  return `
    const wasm = Buffer.from('${wasm.toString('base64')}', 'base64')
    function instance() {
      const module = { exports: {} }
      const load = (exports, require, __dirname) => { ${glue}\n }
      load(module.exports, () => ({ readFileSync: () => wasm }), '')
      return module.exports
    }
    export const createRequire = () => Object.assign(instance, { resolve: name => name, cache: {} })
  `
}

const file = resolve(process.argv[2] ?? join(root, 'dist/assay.mjs'))
const { outputFiles } = await build({ ...common, entryPoints: ['scripts/assay.js'], plugins: [threads, cedar] })
await mkdir(dirname(file), { recursive: true })
await writeFile(file, `#!/usr/bin/env -S node --disallow-code-generation-from-strings\n${outputFiles[0]?.text ?? ''}`)
await chmod(file, 0o755)
process.stdout.write(`${file} (${((await stat(file)).size / 2 ** 20).toFixed(1)} MiB)\n`)
