import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../../test/harness/process.ts'
import { scratch } from '../../test/harness/scratch.ts'
import { lines } from '../../test/live/sides.ts'
import type { Step } from './terraform_judgement.ts'

/** What is run: OpenTofu, and the folder in which the provider for Vault lies. */
export type Programs = { readonly tofu: string; readonly provider: string }
/** Against what, as whom, and with which values of its variables. */
export type Place = {
  readonly address: string
  readonly token: string
  readonly vars?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
}
/** A folder with a configuration and its state, in which commands are run one after the other. */
export type Workspace = {
  readonly folder: string
  /** `plan`, `apply` or `destroy`; what it says counts, and after it the state. */
  readonly step: (name: string, words: readonly string[]) => Promise<Step>
  readonly forget: (addresses: readonly string[]) => Promise<void>
  /** The outputs of the configuration. */
  readonly outputs: () => Promise<Readonly<Record<string, string>>>
}

const configurations = join(import.meta.dirname, 'terraform')

/** The configuration `name` of ours, in a folder of its own. */
export async function openWorkspace(programs: Programs, name: string, place: Place): Promise<Workspace> {
  const folder = await scratch('assay-terraform-')
  await copyFile(join(configurations, name, 'main.tf'), join(folder, 'main.tf'))
  const rc = join(folder, 'tofu.rc')
  // the provider is the one that was built: no registry is asked for another
  await writeFile(rc, `provider_installation {\n  dev_overrides {\n    "hashicorp/vault" = "${programs.provider}"\n  }\n}\n`)
  const env = {
    PATH: process.env['PATH'],
    HOME: folder,
    TF_CLI_CONFIG_FILE: rc,
    TF_INPUT: '0',
    VAULT_ADDR: place.address,
    VAULT_TOKEN: place.token,
    ...place.env,
  }
  const vars = Object.entries(place.vars ?? {}).flatMap(([variable, value]) => ['-var', `${variable}=${value}`])
  const tofu = (words: readonly string[]) => run(programs.tofu, words, { cwd: folder, env, withinMs: 10 * 60_000 })
  const json = async (words: readonly string[]) => JSON.parse((await tofu(words)).stdout) as unknown
  return {
    folder,
    step: async (step, [command = '', ...words]) => {
      const { code, stdout } = await tofu([command, '-json', ...vars, ...words])
      return { step, code, ...told(stdout), state: await stateOf(json) }
    },
    forget: async addresses => {
      const { code, stderr } = await tofu(['state', 'rm', ...addresses])
      if (code !== 0) throw new Error(`could not forget ${addresses.join(', ')}: ${stderr}`)
    },
    outputs: async () => {
      const outputs = (await json(['output', '-json'])) as Record<string, { value: string }>
      return Object.fromEntries(Object.entries(outputs).map(([output, { value }]) => [output, value]))
    },
  }
}

/** From the first plan to the last resource: made, read again, changed, read again, forgotten and imported, taken away. */
export async function live({ folder, step, forget }: Workspace, name: string): Promise<Step[]> {
  const [first, second] = [1, 2].map(revision => ['-var', `revision=${revision}`]) as [string[], string[]]
  const apply = (revision: string[]) => ['apply', '-auto-approve', ...revision]
  const steps = [
    await step('plan', ['plan', ...first]),
    await step('apply', apply(first)),
    await step('plan again', ['plan', ...first]),
    await step('change', apply(second)),
    await step('plan after the change', ['plan', ...second]),
  ]
  const imported = await importsOf(name)
  if (imported) {
    await forget(imported.addresses)
    await copyFile(imported.file, join(folder, 'imports.tf'))
    steps.push(await step('import', apply(second)), await step('plan after the import', ['plan', ...second]))
  }
  return [...steps, await step('destroy', ['destroy', '-auto-approve', ...second])]
}

async function importsOf(name: string): Promise<{ readonly file: string; readonly addresses: readonly string[] } | undefined> {
  const file = join(configurations, name, 'imports.tf')
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : { file, addresses: Array.from(text.matchAll(/\bto = (\S+)/g), ([, to = '']) => to) }
}

type Line = {
  readonly type: string
  readonly change?: { readonly resource: { readonly addr: string }; readonly action: string }
  readonly diagnostic?: { readonly summary: string; readonly detail: string; readonly address?: string }
}

/** Of what it says line by line: what is to be done to which resource, and every warning and error. */
function told(stdout: string): Pick<Step, 'changes' | 'said'> {
  const all = stdout
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Line)
  const changes = all.flatMap(({ type, change }) => (change ? [`${type} ${change.resource.addr}: ${change.action}`] : []))
  const said = all
    .flatMap(({ diagnostic }) => diagnostic ?? [])
    .filter(({ summary }) => summary !== 'Provider development overrides are in effect')
    .map(({ address = '', summary, detail }) => steady(`${address}: ${summary} ${detail}`))
  return { changes: changes.toSorted(), said: said.toSorted() }
}

type Shown = {
  readonly values?: { readonly root_module: { readonly resources?: readonly { address: string; values: object }[] } }
}

async function stateOf(json: (words: readonly string[]) => Promise<unknown>): Promise<Step['state']> {
  const { values } = (await json(['show', '-json'])) as Shown
  const resources = values?.root_module.resources ?? []
  return Object.fromEntries(resources.map(({ address, values: kept }) => [address, steady(JSON.stringify(kept))]))
}

const steady = (text: string) =>
  lines(text.replaceAll(/"lease_duration":\d+/g, '"lease_duration":"DURATION"'))
    .join(' ')
    .trim()
